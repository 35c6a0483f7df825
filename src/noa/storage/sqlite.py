"""Durable state in SQLite: aliases, models to load again, their usage, and processes to look for after a crash."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from noa.errors import ConflictError, StorageError
from noa.models import LoadOptions, PerformanceMetrics
from noa.state import (
    AliasPointed,
    AliasRecord,
    AliasSplit,
    CallerKey,
    CallerKeyKept,
    CallerKeyRevoked,
    CapabilityProbed,
    Change,
    EngineIdentity,
    KeptModel,
    ModelDropped,
    ModelKept,
    ModelUsage,
    ProcessGone,
    ProcessIntended,
    ProcessRecord,
    ProcessStarted,
    SavedState,
    SizeMeasured,
)
from noa.storage.database import Database
from noa.storage.moments import from_us, to_us, utc_now
from noa.storage.schema import STATE

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How much of each alias's history is kept.
ALIAS_HISTORY_LIMIT = 1000
#: How many measured sizes are kept, the latest ones.
SIZES_LIMIT = 1000

_ALIAS_COLUMNS = "name, key, previous, reason, at_us"


class SqliteStateStore:
    """``StateStore`` in one SQLite file, or in memory. Each ``write`` is one transaction, synced to the disk."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    async def open(cls, path: Path | None = None, *, clock: Callable[[], datetime] = utc_now) -> Self:
        """Open the state at ``path`` (``None``: in memory, gone with the process) and hold it alone.

        Raises ``StateInUseError`` if another manager holds it, ``ConfigurationError`` if the path cannot be used or
        the file is another program's or a newer Noa's, ``StorageError`` if the disk fails.
        """
        return cls(await Database.open(path, STATE, clock), clock)

    @property
    def set_aside(self) -> Path | None:
        """Where a damaged state lies now, if one was found at ``path``; this store then began empty."""
        return self._database.set_aside

    def announce(self, url: str) -> None:
        """Let another manager that is refused this state say where its holder listens. ``url`` holds no secret."""
        self._database.announce(url)

    async def read(self) -> SavedState:
        """Everything, as of the last acknowledged write. An alias that means nothing any more has ``key=None``."""
        return await self._database.read(_read_state)

    async def write(self, *changes: Change) -> None:
        """Make the changes durable, all or none, in order. Raises ``StorageError`` if they are not."""
        if not changes:
            return
        at_us = to_us(self._clock())

        def apply(connection: sqlite3.Connection) -> None:
            for change in changes:
                _apply(connection, change, at_us)

        await self._database.write(apply)

    async def restore(self, state: SavedState) -> None:
        """Fill an empty store from a snapshot. Raises ``ConflictError`` if it is not empty."""

        def fill(connection: sqlite3.Connection) -> None:
            if _read_state(connection) != SavedState():
                raise ConflictError("The snapshot was not restored, because the database already holds a state.")
            _fill(connection, state, to_us(self._clock()))

        await self._database.write(fill)

    async def alias_history(self, name: str, limit: int = 50) -> Sequence[AliasRecord]:
        """What an alias pointed to, newest first."""
        query = f"SELECT {_ALIAS_COLUMNS} FROM alias_history WHERE name = ? ORDER BY sequence DESC LIMIT ?"  # noqa: S608 — constant columns

        def select(connection: sqlite3.Connection) -> list[AliasRecord]:
            return [_alias(row) for row in connection.execute(query, (name, max(0, limit)))]

        return await self._database.read(select)

    async def aclose(self) -> None:
        """Close the file and let go of its lock."""
        await self._database.aclose()


def _apply(connection: sqlite3.Connection, change: Change, at_us: int) -> None:
    match change:
        case AliasPointed():
            _point_alias(connection, (change.name, change.key, change.previous, change.reason, at_us))
        case ModelKept():
            _keep_model(connection, change.key, change.options, at_us)
        case ModelDropped():
            connection.execute("DELETE FROM kept_models WHERE key = ?", (change.key,))
        case ModelUsage():
            _put_usage(connection, change)
        case ProcessIntended() | ProcessStarted() | ProcessGone():
            _note_process(connection, change)
        case SizeMeasured():
            _note_size(connection, change, at_us)
        case CapabilityProbed():
            _note_probe(connection, change)
        case AliasSplit():
            _split_alias(connection, change)
        case CallerKeyKept() | CallerKeyRevoked():
            _note_caller_key(connection, change)


def _point_alias(connection: sqlite3.Connection, row: tuple[str, str | None, str | None, str, int]) -> None:
    connection.execute(f"INSERT INTO alias_history ({_ALIAS_COLUMNS}) VALUES (?, ?, ?, ?, ?)", row)  # noqa: S608 — constant columns
    connection.execute(
        "DELETE FROM alias_history WHERE name = :name AND sequence <= ("
        "SELECT sequence FROM alias_history WHERE name = :name ORDER BY sequence DESC LIMIT 1 OFFSET :kept)",
        {"name": row[0], "kept": ALIAS_HISTORY_LIMIT},
    )


def _keep_model(connection: sqlite3.Connection, key: str, options: LoadOptions, at_us: int) -> None:
    connection.execute(
        "INSERT INTO kept_models (key, options, at_us) VALUES (?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET options = excluded.options",
        (key, _to_json(options), at_us),
    )


def _put_usage(connection: sqlite3.Connection, usage: ModelUsage) -> None:
    last_accessed_us = None if usage.last_accessed is None else to_us(usage.last_accessed)
    connection.execute(
        "INSERT OR REPLACE INTO model_usage (key, metrics, access_count, last_accessed_us) VALUES (?, ?, ?, ?)",
        (usage.key, _to_json(usage.metrics), usage.access_count, last_accessed_us),
    )


def _note_process(connection: sqlite3.Connection, change: ProcessIntended | ProcessStarted | ProcessGone) -> None:
    match change:
        case ProcessIntended():
            connection.execute(
                "INSERT OR REPLACE INTO processes (nonce, key, generation, socket_path) VALUES (?, ?, ?, ?)",
                (change.nonce, change.key, change.generation, change.socket_path),
            )
        case ProcessStarted():
            _start_process(connection, change)
        case ProcessGone():
            connection.execute("DELETE FROM processes WHERE nonce = ?", (change.nonce,))


def _start_process(connection: sqlite3.Connection, change: ProcessStarted) -> None:
    updated = connection.execute(
        "UPDATE processes SET pid = ?, started_at = ? WHERE nonce = ?", (change.pid, change.started_at, change.nonce)
    )
    if updated.rowcount == 0:
        logger.warning("process %d was started, but its intent is not on record; it will not be recognised", change.pid)


def _note_size(connection: sqlite3.Connection, measured: SizeMeasured, at_us: int) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO sizes (engine, size_bytes, measured_by, at_us) VALUES (?, ?, ?, ?)",
        (_to_json(measured.engine), measured.size_bytes, measured.by, at_us),
    )
    connection.execute(
        "DELETE FROM sizes WHERE sequence <= (SELECT sequence FROM sizes ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
        (SIZES_LIMIT,),
    )


def _note_probe(connection: sqlite3.Connection, probe: CapabilityProbed) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO probes (key, capability, probe) VALUES (?, ?, ?)",
        (probe.key, probe.capability.value, _to_json(probe)),
    )


def _split_alias(connection: sqlite3.Connection, split: AliasSplit) -> None:
    if split.weights:
        connection.execute("INSERT OR REPLACE INTO splits (alias, split) VALUES (?, ?)", (split.alias, _to_json(split)))
    else:
        connection.execute("DELETE FROM splits WHERE alias = ?", (split.alias,))


def _note_caller_key(connection: sqlite3.Connection, change: CallerKeyKept | CallerKeyRevoked) -> None:
    match change:
        case CallerKeyKept():
            _keep_caller_key(connection, change.key)
        case CallerKeyRevoked():
            connection.execute("DELETE FROM caller_keys WHERE name = ?", (change.name,))


def _keep_caller_key(connection: sqlite3.Connection, key: CallerKey) -> None:
    connection.execute("INSERT OR REPLACE INTO caller_keys (name, key) VALUES (?, ?)", (key.name, _to_json(key)))


def _fill(connection: sqlite3.Connection, state: SavedState, at_us: int) -> None:
    for alias in state.aliases:
        _point_alias(connection, (alias.name, alias.key, alias.previous, alias.reason, to_us(alias.at)))
    for model in state.models:
        _keep_model(connection, model.key, model.options, to_us(model.at))
    for usage in state.usage:
        _put_usage(connection, usage)
    for process in state.processes:
        connection.execute(
            "INSERT INTO processes (nonce, key, generation, socket_path, pid, started_at) VALUES (?, ?, 0, ?, ?, ?)",
            (process.nonce, process.key, process.socket_path, process.pid, process.started_at),
        )
    for measured in state.sizes:
        _note_size(connection, measured, at_us)
    for probe in state.probes:
        _note_probe(connection, probe)
    for split in state.splits:
        _split_alias(connection, split)
    for key in state.caller_keys:
        _keep_caller_key(connection, key)


def _read_state(connection: sqlite3.Connection) -> SavedState:
    aliases = connection.execute(
        f"SELECT {_ALIAS_COLUMNS} FROM alias_history "  # noqa: S608 — constant columns
        "WHERE sequence IN (SELECT max(sequence) FROM alias_history GROUP BY name) ORDER BY name"
    )
    models = connection.execute("SELECT key, options, at_us FROM kept_models ORDER BY at_us, rowid")
    usage = connection.execute("SELECT key, metrics, access_count, last_accessed_us FROM model_usage ORDER BY key")
    processes = connection.execute("SELECT key, nonce, socket_path, pid, started_at FROM processes ORDER BY rowid")
    sizes = connection.execute("SELECT engine, size_bytes, measured_by FROM sizes ORDER BY sequence")
    probes = connection.execute("SELECT probe FROM probes ORDER BY key, capability")
    splits = connection.execute("SELECT split FROM splits ORDER BY alias")
    caller_keys = connection.execute("SELECT key FROM caller_keys ORDER BY name")
    return SavedState(
        aliases=tuple(_alias(row) for row in aliases),
        models=tuple(
            KeptModel(key=key, options=_from_json(options, LoadOptions), at=from_us(at_us))
            for key, options, at_us in models
        ),
        usage=tuple(
            ModelUsage(
                key=key,
                metrics=_from_json(metrics, PerformanceMetrics),
                access_count=count,
                last_accessed=None if last_us is None else from_us(last_us),
            )
            for key, metrics, count, last_us in usage
        ),
        processes=tuple(
            ProcessRecord(key=key, nonce=nonce, socket_path=socket_path, pid=pid, started_at=started_at)
            for key, nonce, socket_path, pid, started_at in processes
        ),
        sizes=tuple(
            SizeMeasured(engine=_from_json(engine, EngineIdentity), size_bytes=size_bytes, by=by)
            for engine, size_bytes, by in sizes
        ),
        probes=tuple(_from_json(probe, CapabilityProbed) for (probe,) in probes),
        splits=tuple(_from_json(split, AliasSplit) for (split,) in splits),
        caller_keys=tuple(_from_json(key, CallerKey) for (key,) in caller_keys),
    )


def _alias(row: tuple[Any, ...]) -> AliasRecord:
    name, key, previous, reason, at_us = row
    return AliasRecord(name=name, key=key, previous=previous, reason=reason, at=from_us(at_us))


def _to_json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


def _from_json(text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"The state holds a {kind.__name__} that this Noa cannot read ({error}); was the file edited by hand?"
        ) from error
