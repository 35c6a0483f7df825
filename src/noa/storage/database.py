"""One SQLite file, its lock, and the one thread that may touch it.

There is exactly one connection to a file: SQLite 3.7.0–3.51.2 can lose or damage committed data when two connections
write and checkpoint in WAL mode at once (https://www.sqlite.org/wal.html), and many systems still ship those versions.
``DatabaseLock`` keeps other managers away with words, ``locking_mode=EXCLUSIVE`` every other program.

The thread belongs to an executor, so the interpreter waits for queued work at exit and never hangs on a database that
nobody closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from noa.errors import StorageError, ValidationError
from noa.storage.failures import Cause, DamagedDatabaseError, cause_of, opening_failed, writing_failed
from noa.storage.folder import ensure_folder, sync_folder
from noa.storage.lock import DatabaseLock
from noa.storage.schema import Schema, migrate

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long to wait for another program's lock (someone's ``sqlite3`` shell) before giving up, in seconds.
BUSY_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _OpenFile:
    """What was opened on the thread and must be closed there."""

    connection: sqlite3.Connection
    lock: DatabaseLock | None = None
    set_aside: Path | None = None

    def close(self) -> None:
        try:
            self.connection.close()
        finally:
            if self.lock is not None:
                self.lock.release()


class Database:
    """An open database. Every piece of work runs on its thread, one after the other."""

    def __init__(self, file: _OpenFile, executor: ThreadPoolExecutor, what: str) -> None:
        self._file = file
        self._executor = executor
        self._what = what
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: Path | None, schema: Schema, clock: Callable[[], datetime]) -> Self:
        """Open or create the database at ``path``, in memory if that is ``None``, and bring it up to date.

        A damaged file is set aside, with what belongs to it, and a fresh one is begun. Raises ``StateInUseError``,
        ``ConfigurationError`` (the path cannot be used, or the file is not ours) or ``StorageError``.
        """
        what = "the state in memory" if path is None else str(path)
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"noa-{schema.name}")
        opening = executor.submit(_open, path, schema, clock, what)
        try:
            file = await asyncio.wrap_future(opening)
        except (OSError, sqlite3.Error) as error:
            executor.shutdown(wait=False)
            raise opening_failed(error, what) from error
        except BaseException:
            executor.submit(_close_unclaimed, opening)
            executor.shutdown(wait=False)
            raise
        return cls(file, executor, what)

    @property
    def set_aside(self) -> Path | None:
        """Where the damaged predecessor of this file lies now, if there was one."""
        return self._file.set_aside

    def announce(self, url: str) -> None:
        """Tell whoever is refused this database where its holder listens."""
        if self._file.lock is not None:
            self._file.lock.announce(url)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on the thread. Raises ``StorageError`` if the file cannot be read."""
        try:
            return await asyncio.wrap_future(self._submit(work))
        except sqlite3.DatabaseError as error:
            raise opening_failed(error, self._what) from error

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one transaction and return when it is committed.

        Raises ``StorageError`` if the disk failed, ``ValidationError`` for a value no database can hold; nothing is
        changed then. Cancelled before its turn it does nothing; cancelled later it still happens, whole.
        """
        try:
            return await asyncio.wrap_future(self._submit(lambda connection: _transact(connection, work)))
        except sqlite3.DatabaseError as error:
            raise writing_failed(error, self._what) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise ValidationError(f"A value cannot be stored ({error}); nothing was changed.") from error

    async def aclose(self) -> None:
        """Finish what is queued, close the file and let go of the lock. More than once is fine."""
        if self._closing is None:
            closing = self._executor.submit(self._file.close)
            self._executor.shutdown(wait=False)
            self._closing = asyncio.wrap_future(closing)
        await asyncio.shield(self._closing)

    def _submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        if self._closing is not None:
            raise StorageError(f"Noa has already closed {self._what}; start the manager again to use it.")
        return self._executor.submit(work, self._file.connection)


def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back after some failures, such as a full disk.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return result


def _close_unclaimed(opening: Future[_OpenFile]) -> None:
    """Close what was opened for a caller who was cancelled meanwhile. Runs on the database's thread, after it."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _open(path: Path | None, schema: Schema, clock: Callable[[], datetime], what: str) -> _OpenFile:
    if path is None:
        return _OpenFile(connection=_connect(":memory:", schema, what))
    ensure_folder(path.parent)
    lock = DatabaseLock.acquire(path)
    try:
        return _open_locked(path, schema, clock, what, lock)
    except BaseException:
        lock.release()
        raise


def _open_locked(path: Path, schema: Schema, clock: Callable[[], datetime], what: str, lock: DatabaseLock) -> _OpenFile:
    try:
        return _OpenFile(connection=_connect_file(path, schema, what), lock=lock)
    except sqlite3.DatabaseError as error:
        if cause_of(error) is not Cause.DAMAGED:
            raise
        damage = error
    set_aside = _set_aside(path, clock())
    logger.error("%s was damaged (%s); it was set aside as %s and a fresh one was begun", path, damage, set_aside)
    return _OpenFile(connection=_connect_file(path, schema, what), lock=lock, set_aside=set_aside)


def _connect_file(path: Path, schema: Schema, what: str) -> sqlite3.Connection:
    # SQLite gives its companion files the permissions of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    log = path.with_name(path.name + "-wal")
    if path.stat().st_size == 0 and log.exists() and log.stat().st_size > 0:
        # SQLite would take this for a new database, and delete the log with all that was committed to it.
        raise DamagedDatabaseError("it is empty, but its write-ahead log is not")
    return _connect(str(path), schema, what)


def _connect(target: str, schema: Schema, what: str) -> sqlite3.Connection:
    connection = sqlite3.connect(target, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {schema.synchronous}")
        _check(connection)
        migrate(connection, schema, what)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedDatabaseError(" ".join(verdict.split()))


def _set_aside(path: Path, now: datetime) -> Path:
    """Rename the database and its companions together, so that it can still be recovered from. Raises ``OSError``."""
    target = path.with_name(f"{path.name}.corrupt-{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}")
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.replace(target.with_name(target.name + suffix))
    sync_folder(path.parent)
    return target
