"""The lock that keeps two managers off one database.

It is an operating-system lock on a file beside the database, so it is free the moment its holder dies, however it dies.
The file's text says who holds it; it is read only by those who were refused.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Self

import msgspec

from noa.errors import StateInUseError

if sys.platform == "win32":
    import msvcrt

    # Windows locks bytes against reading too, so the locked one lies far behind the text.
    _LOCKED_BYTE = 1 << 30

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


logger = logging.getLogger(__name__)

_TEXT_LIMIT = 4096


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lock, as its file says."""

    pid: int
    url: str | None = None


class DatabaseLock:
    """Held from ``acquire`` to ``release``, by one manager at a time, also within one process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, database: Path) -> Self:
        """Lock ``<database>.lock``. Raises ``StateInUseError`` if another holds it, ``OSError`` if it can't be made."""
        path = database.with_name(database.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError) as error:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise _in_use(database, holder) from error
        except OSError:
            os.close(descriptor)
            raise
        lock = cls(path, descriptor)
        lock.announce(None)
        return lock

    def announce(self, url: str | None) -> None:
        """Write down who we are, and where we listen if we do. A failure is logged: the lock holds without it."""
        if self._descriptor is None:
            return
        self._write(msgspec.json.encode(Holder(pid=os.getpid(), url=url)))

    def release(self) -> None:
        """Let go. The file stays: deleting it could take the name away from under the next holder."""
        if self._descriptor is None:
            return
        self._write(b"")
        os.close(self._descriptor)
        self._descriptor = None

    def _write(self, text: bytes) -> None:
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text)
        except OSError as error:
            logger.warning("could not write who holds %s: %s", self._path, error)


def _read_holder(descriptor: int) -> Holder | None:
    """The holder's text, or ``None`` in the moment before it is written."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return msgspec.json.decode(os.read(descriptor, _TEXT_LIMIT), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def _in_use(database: Path, holder: Holder | None) -> StateInUseError:
    if holder is None:
        who = "another Noa process"
    elif holder.url is None:
        who = f"another Noa process ({holder.pid})"
    else:
        who = f"the Noa server at {holder.url} (process {holder.pid})"
    details: dict[str, object] = {"path": str(database)}
    if holder is not None:
        details |= {"pid": holder.pid, "url": holder.url}
    advice = "stop it, or choose another path (NOA_HOME)"
    if holder is not None and holder.url is not None:
        advice = "use that server, stop it, or choose another path (NOA_HOME)"
    return StateInUseError(f"{database} is in use by {who}; {advice}.", details=details)
