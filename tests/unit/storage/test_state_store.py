"""What the state in SQLite does beyond what every storage must."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noa.errors import StorageError
from noa.models import LoadOptions
from noa.state import AliasPointed, ModelKept, ProcessStarted
from noa.storage import sqlite
from noa.storage.database import Database
from noa.storage.schema import STATE
from noa.storage.sqlite import SqliteStateStore


def noon() -> datetime:
    return datetime(2026, 11, 23, 12, tzinfo=UTC)


async def test_the_history_of_one_alias_is_bounded_and_the_others_are_untouched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite, "ALIAS_HISTORY_LIMIT", 3)
    store = await SqliteStateStore.open()
    await store.write(AliasPointed(name="prod", key="a:0", previous=None, reason="a test"))
    for number in range(5):
        await store.write(AliasPointed(name="current", key=f"a:{number}", previous=None, reason="a test"))
    assert [record.key for record in await store.alias_history("current")] == ["a:4", "a:3", "a:2"]
    assert [record.key for record in await store.alias_history("prod")] == ["a:0"]
    await store.aclose()


async def test_a_process_without_an_intent_is_said_not_to_be_recognisable(caplog: pytest.LogCaptureFixture) -> None:
    store = await SqliteStateStore.open()
    with caplog.at_level(logging.WARNING):
        await store.write(ProcessStarted(nonce="unheard", pid=42, started_at=1.0))
    assert "process 42 was started" in caplog.text
    assert (await store.read()).processes == ()
    await store.aclose()


async def test_options_that_were_edited_by_hand_are_reported_not_guessed(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "state.db", STATE, noon)
    store = SqliteStateStore(database, noon)
    await store.write(ModelKept(key="a:1", options=LoadOptions()))
    await database.write(lambda connection: connection.execute("UPDATE kept_models SET options = '{\"pin\": 7}'"))
    with pytest.raises(StorageError, match="LoadOptions that this Noa cannot read"):
        await store.read()
    await store.aclose()


async def test_writes_at_once_are_kept_in_the_order_they_were_asked_for() -> None:
    store = await SqliteStateStore.open()
    changes = [AliasPointed(name="current", key=f"a:{number}", previous=None, reason="") for number in range(50)]
    await asyncio.gather(*(store.write(change) for change in changes))
    history = await store.alias_history("current")
    assert [record.key for record in history] == [f"a:{number}" for number in reversed(range(50))]
    await store.aclose()


async def test_closing_finishes_the_writes_that_were_asked_for(tmp_path: Path) -> None:
    store = await SqliteStateStore.open(tmp_path / "state.db")
    change = AliasPointed(name="current", key="a:1", previous=None, reason="")
    writes = [asyncio.create_task(store.write(change)) for _ in range(20)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*writes)
    again = await SqliteStateStore.open(tmp_path / "state.db")
    assert len(await again.alias_history("current", limit=100)) == 20
    await again.aclose()
