"""The history of requests: bounded in memory and on disk, and never in the way."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noa.state import ProfileRecord, RequestRecord
from noa.storage import usage
from noa.storage.database import Database
from noa.storage.schema import USAGE
from noa.storage.usage import Retention, SqliteUsageStore

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def served(number: int, at: datetime = NOON, prompt_tokens: int | None = None) -> RequestRecord:
    return RequestRecord(
        request_id=str(number),
        key="a:1",
        at=at,
        operation="chat",
        streamed=False,
        success=True,
        latency_ms=1.0,
        prompt_tokens=prompt_tokens,
    )


async def ids(store: SqliteUsageStore) -> list[int]:
    return [int(record.request_id) for record in await store.requests(limit=100_000)]


@pytest.fixture
async def stalled() -> AsyncIterator[SqliteUsageStore]:
    """A store whose timer never fires by itself."""
    store = await SqliteUsageStore.open(clock=lambda: NOON, flush_interval_s=3600)
    yield store
    await store.aclose()


async def test_records_are_written_without_anyone_asking() -> None:
    store = await SqliteUsageStore.open(clock=lambda: NOON, flush_interval_s=0.0)
    store.record(served(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store._writing is not None
    await store._writing
    assert store._queue == deque()
    assert await ids(store) == [1]
    await store.aclose()


async def test_a_full_batch_does_not_wait_for_the_timer(stalled: SqliteUsageStore) -> None:
    for number in range(usage.BATCH_SIZE):
        assert stalled._writing is None
        stalled.record(served(number))
    assert stalled._writing is not None
    await stalled._writing
    assert stalled._queue == deque()


async def test_what_exceeds_the_queue_is_dropped_and_counted(
    stalled: SqliteUsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "QUEUE_LIMIT", 10)
    for number in range(13):
        stalled.record(served(number))
    assert stalled.dropped == 3
    assert await ids(stalled) == list(range(9, -1, -1))


async def test_closing_writes_what_is_queued_and_counts_what_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    store = await SqliteUsageStore.open(path, clock=lambda: NOON, flush_interval_s=3600)
    store.record(served(1))
    await store.aclose()
    store.record(served(2))
    assert store.dropped == 1
    again = await SqliteUsageStore.open(path, clock=lambda: NOON)
    assert await ids(again) == [1]
    await again.aclose()


async def test_old_requests_go_a_slice_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "EXPIRY_SLICE", 4)
    store = await SqliteUsageStore.open(clock=lambda: NOON)
    expired = NOON - timedelta(days=31)
    for number in range(10):
        store._queue.append(served(number, at=expired + timedelta(seconds=number)))
    left = []
    for number in range(10, 14):
        store.record(served(number))
        left.append(await ids(store))
    assert left == [
        [10, 9, 8, 7, 6, 5, 4],
        [11, 10, 9, 8],
        [12, 11, 10],
        [13, 12, 11, 10],
    ]
    await store.aclose()


async def test_no_more_than_the_newest_requests_are_kept() -> None:
    store = await SqliteUsageStore.open(clock=lambda: NOON, retention=Retention(requests=5))
    for number in range(8):
        store.record(served(number, at=NOON + timedelta(seconds=number)))
        await store.flush()
    assert await ids(store) == [7, 6, 5, 4, 3]
    await store.aclose()


async def test_a_models_newest_profiles_are_kept_and_other_models_keep_theirs() -> None:
    def profile(day: int, key: str) -> ProfileRecord:
        at = NOON + timedelta(days=day)
        return ProfileRecord(key=key, at=at, formula_version=1, metrics_json=b"{}", samples_json=b"[]")

    store = await SqliteUsageStore.open(clock=lambda: NOON, retention=Retention(profiles_per_model=2))
    await store.add_profile(profile(0, "a:2"))
    for day in range(4):
        await store.add_profile(profile(day, "a:1"))
    assert await store.profiles("a:1") == [profile(3, "a:1"), profile(2, "a:1")]
    assert await store.profiles("a:2") == [profile(0, "a:2")]
    await store.aclose()


async def test_one_impossible_record_does_not_take_others_with_it(
    stalled: SqliteUsageStore, caplog: pytest.LogCaptureFixture
) -> None:
    stalled.record(served(1))
    stalled.record(served(2, prompt_tokens=10**30))
    stalled.record(served(3, at=datetime(2026, 11, 23)))  # noqa: DTZ001 — a moment without a zone is the point
    stalled.record(served(4))
    assert await ids(stalled) == [4, 1]
    assert stalled.dropped == 2


async def test_a_disk_that_refuses_costs_the_records_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    database = await Database.open(None, USAGE, lambda: NOON)
    store = SqliteUsageStore(database, retention=Retention(), flush_interval_s=3600, clock=lambda: NOON)
    store.record(served(1))
    await store.flush()
    await database.read(lambda connection: connection.execute("PRAGMA query_only = ON"))
    store.record(served(2))
    with caplog.at_level(logging.WARNING):
        await store.flush()
    assert store.dropped == 1
    assert "1 request records were lost" in caplog.text
    await database.read(lambda connection: connection.execute("PRAGMA query_only = OFF"))
    store.record(served(3))
    assert await ids(store) == [3, 1]
    await store.aclose()
