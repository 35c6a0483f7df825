"""The shape of a database: its numbered migrations, and who may open it.

A migration is ``migrations/<name>/NNNN_what.sql``. Each runs in one transaction that ends by writing its number to
``PRAGMA user_version``, so a crash leaves the database before it or after it, never between.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from typing import Literal

import msgspec

from noa.errors import ConfigurationError


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of database.

    ``application_id`` marks the file as ours (https://www.sqlite.org/pragma.html#pragma_application_id).
    ``synchronous`` is ``FULL`` where every acknowledged commit must survive a power cut, ``NORMAL`` where only a crash
    of the process must not lose it.
    """

    name: Literal["state", "usage"]
    application_id: int
    synchronous: Literal["FULL", "NORMAL"]


STATE = Schema(name="state", application_id=int.from_bytes(b"NoaS"), synchronous="FULL")
USAGE = Schema(name="usage", application_id=int.from_bytes(b"NoaU"), synchronous="NORMAL")


def migrations(schema: Schema) -> tuple[tuple[int, str], ...]:
    """Number and SQL of each migration, in order."""
    folder = resources.files("noa.storage") / "migrations" / schema.name
    scripts = (entry for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(sorted((int(entry.name[:4]), entry.read_text(encoding="utf-8")) for entry in scripts))


def migrate(connection: sqlite3.Connection, schema: Schema, what: str) -> None:
    """Bring a database up to date. Raises ``ConfigurationError`` for another program's file and for a newer Noa's."""
    version = _pragma(connection, "user_version")
    _refuse_foreign(connection, schema, version, what)
    steps = migrations(schema)
    known = steps[-1][0]
    if version > known:
        raise ConfigurationError(
            f"{what} was written by a newer Noa (format {version}, this one knows {known}); "
            "upgrade Noa, or choose another path.",
            details={"version": version, "known": known},
        )
    for number, sql in steps:
        if number > version:
            _apply(
                connection, f"{sql}\nPRAGMA user_version = {number};\nPRAGMA application_id = {schema.application_id};"
            )


def _apply(connection: sqlite3.Connection, sql: str) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_foreign(connection: sqlite3.Connection, schema: Schema, version: int, what: str) -> None:
    owner = _pragma(connection, "application_id")
    if owner == schema.application_id:
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != 0 or version != 0 or tables:
        raise ConfigurationError(f"{what} is a database, but not one of Noa’s ({schema.name}); choose another path.")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
