"""The history of requests and profiles in SQLite: written in batches, kept for a while, never in anyone's way."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Self

import msgspec

from noa.errors import StorageError, ValidationError
from noa.state import ProfileRecord, RequestRecord, UsageGrouping, UsageTotal
from noa.storage.database import Database
from noa.storage.moments import from_us, to_us, utc_now
from noa.storage.schema import USAGE
from noa.storage.usage_hours import add_requests, totals

logger = logging.getLogger(__name__)

#: How many records may wait for the disk before new ones are dropped.
QUEUE_LIMIT = 10_000
#: How many records one transaction takes at most.
BATCH_SIZE = 500
#: How many expired rows one batch removes at most: more than it adds, so that the table shrinks to its limits.
EXPIRY_SLICE = 2 * BATCH_SIZE

_REQUEST_FIELDS = tuple(field for field in RequestRecord.__struct_fields__ if field != "at")
_values = attrgetter(*_REQUEST_FIELDS)
_REQUEST_COLUMNS = ", ".join(("at_us", *_REQUEST_FIELDS))
_INSERT_REQUEST = (
    f"INSERT INTO requests ({_REQUEST_COLUMNS}) VALUES ({', '.join('?' for _ in (*_REQUEST_FIELDS, 'at_us'))})"  # noqa: S608 — constant columns
)


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How much history is kept. Expired requests go while new ones are written, a slice with each batch."""

    requests_for: timedelta = timedelta(days=30)
    requests: int = 1_000_000
    profiles_per_model: int = 1_000


class SqliteUsageStore:
    """``UsageStore`` in one SQLite file, or in memory. A crash loses at most what was recorded since the last flush."""

    def __init__(
        self, database: Database, *, retention: Retention, flush_interval_s: float, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._retention = retention
        self._flush_interval_s = flush_interval_s
        self._clock = clock
        self._queue: deque[RequestRecord] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._dropped = 0
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path | None = None,
        *,
        retention: Retention | None = None,
        flush_interval_s: float = 0.5,
        clock: Callable[[], datetime] = utc_now,
    ) -> Self:
        """Open the history at ``path`` (``None``: in memory). Raises what ``SqliteStateStore.open`` does."""
        database = await Database.open(path, USAGE, clock)
        return cls(database, retention=retention or Retention(), flush_interval_s=flush_interval_s, clock=clock)

    @property
    def set_aside(self) -> Path | None:
        """Where a damaged history lies now, if one was found at ``path``; this store then began empty."""
        return self._database.set_aside

    @property
    def dropped(self) -> int:
        """How many records were lost because the disk was slower than the traffic, or refused them."""
        return self._dropped

    def record(self, record: RequestRecord) -> None:
        """Queue a record. Never waits; when the queue is full the record is dropped and counted in ``dropped``."""
        if self._closed or len(self._queue) >= QUEUE_LIMIT:
            self._dropped += 1
            return
        self._queue.append(record)
        if len(self._queue) >= BATCH_SIZE:
            self._start_writing()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_interval_s, self._start_writing)

    async def flush(self) -> None:
        """Return when everything queued so far is written, or was dropped and counted."""
        self._start_writing()
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def requests(self, key: str | None = None, limit: int = 100) -> Sequence[RequestRecord]:
        """Past requests, newest first, with those just recorded."""
        await self.flush()
        condition, arguments = ("", ()) if key is None else ("WHERE key = ?", (key,))
        query = f"SELECT {_REQUEST_COLUMNS} FROM requests {condition} ORDER BY at_us DESC, id DESC LIMIT ?"  # noqa: S608 — constant text

        def select(connection: sqlite3.Connection) -> list[RequestRecord]:
            return [_request(row) for row in connection.execute(query, (*arguments, max(0, limit)))]

        return await self._database.read(select)

    async def totals(
        self,
        by: UsageGrouping,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        key: str | None = None,
    ) -> Sequence[UsageTotal]:
        """What was used and what it cost, with what was just recorded: see ``UsageStore``."""
        await self.flush()
        return await self._database.read(lambda connection: totals(connection, by, since, until, key))

    async def add_profile(self, profile: ProfileRecord) -> None:
        """Keep a profile; the model's oldest ones beyond the retention go. Raises ``StorageError`` if it was not."""
        row = (profile.key, to_us(profile.at), profile.formula_version, profile.metrics_json, profile.samples_json)
        kept = self._retention.profiles_per_model

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO profiles (key, at_us, formula_version, metrics, samples) VALUES (?, ?, ?, ?, ?)", row
            )
            connection.execute(
                "DELETE FROM profiles WHERE id IN ("
                "SELECT id FROM profiles WHERE key = ? ORDER BY at_us DESC, id DESC LIMIT -1 OFFSET ?)",
                (profile.key, kept),
            )

        await self._database.write(insert)

    async def profiles(self, key: str, limit: int = 100) -> Sequence[ProfileRecord]:
        """Past profiles of a model, newest first."""
        query = (
            "SELECT at_us, formula_version, metrics, samples FROM profiles WHERE key = ? "
            "ORDER BY at_us DESC, id DESC LIMIT ?"
        )

        def select(connection: sqlite3.Connection) -> list[ProfileRecord]:
            return [
                ProfileRecord(
                    key=key, at=from_us(at_us), formula_version=version, metrics_json=metrics, samples_json=samples
                )
                for at_us, version, metrics, samples in connection.execute(query, (key, max(0, limit)))
            ]

        return await self._database.read(select)

    async def aclose(self) -> None:
        """Write what is queued and close the file. Records that come later are dropped and counted."""
        self._closed = True
        try:
            await self.flush()
        finally:
            await self._database.aclose()

    def _start_writing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write_queue())

    async def _write_queue(self) -> None:
        while self._queue:
            await self._keep([self._queue.popleft() for _ in range(min(BATCH_SIZE, len(self._queue)))])

    async def _keep(self, batch: Sequence[RequestRecord]) -> None:
        try:
            await self._write_batch(batch)
        except (StorageError, ValidationError) as error:
            if isinstance(error, ValidationError) and len(batch) > 1:
                # One record holds a value no database can; the others are written without it.
                for record in batch:
                    await self._keep([record])
                return
            self._dropped += len(batch)
            logger.warning("%d request records were lost: %s", len(batch), error)

    async def _write_batch(self, batch: Sequence[RequestRecord]) -> None:
        now = self._clock()
        expired_us = to_us(now - self._retention.requests_for)
        most = self._retention.requests

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(_INSERT_REQUEST, [_row(record) for record in batch])
            add_requests(connection, batch, now)
            connection.execute(
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE at_us < ? ORDER BY at_us LIMIT ?)",
                (expired_us, EXPIRY_SLICE),
            )
            # Ids have gaps at the old end only, so their span is the count, without counting.
            connection.execute(
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests "
                "WHERE id <= (SELECT max(id) FROM requests) - ? ORDER BY id LIMIT ?)",
                (most, EXPIRY_SLICE),
            )

        await self._database.write(insert)


def _row(record: RequestRecord) -> tuple[object, ...]:
    return (to_us(record.at), *_values(record))


def _request(row: tuple[object, ...]) -> RequestRecord:
    # SQLite has no booleans; the conversion gives 0 and 1 back their meaning.
    at_us, *values = row
    facts = dict(zip(_REQUEST_FIELDS, values, strict=True))
    assert isinstance(at_us, int)
    return msgspec.convert({**facts, "at": from_us(at_us)}, RequestRecord, strict=False)
