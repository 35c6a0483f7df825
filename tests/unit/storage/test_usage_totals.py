"""What was used and what it cost, summed up: by model, by caller's key, by hour and by day."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noa.state import RequestRecord, UsageGrouping, UsageTotal
from noa.storage import schema
from noa.storage.usage import SqliteUsageStore
from noa.storage.usage_hours import KEPT_FOR

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
CHEAP, DEAR = "openai:gpt-4o-mini", "openai:gpt-4o"


def served(at: datetime = NOON, key: str = CHEAP, **facts: Any) -> RequestRecord:
    plain = {"request_id": "r", "operation": "chat", "streamed": False, "success": True, "latency_ms": 1.0}
    return RequestRecord(**{**plain, "key": key, "at": at, **facts})


def total(group: str | None, requests: int, cost_usd: float | None, priced: int, **facts: Any) -> UsageTotal:
    plain = {"failures": 0, "prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}
    return UsageTotal(
        **{**plain, "counted_requests": 0, "group": group, "requests": requests, "cost_usd": cost_usd, **facts},
        priced_requests=priced,
    )


@pytest.fixture
async def store() -> AsyncIterator[SqliteUsageStore]:
    usage = await SqliteUsageStore.open(clock=lambda: NOON)
    yield usage
    await usage.aclose()


async def test_nothing_used_is_no_group(store: SqliteUsageStore) -> None:
    assert await store.totals(UsageGrouping.MODEL) == []


async def test_models_are_summed_up_each_by_itself(store: SqliteUsageStore) -> None:
    store.record(served(key=DEAR, prompt_tokens=100, completion_tokens=10, cached_tokens=50, cost_usd=0.25))
    store.record(served(key=DEAR, prompt_tokens=200, completion_tokens=20, cost_usd=0.5))
    store.record(served(key=CHEAP, prompt_tokens=7, completion_tokens=3, cost_usd=0.0))
    counted = {"prompt_tokens": 300, "completion_tokens": 30, "cached_tokens": 50, "counted_requests": 2}
    free = {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 0, "counted_requests": 1}
    assert await store.totals(UsageGrouping.MODEL) == [
        total(DEAR, 2, 0.75, 2, **counted),
        total(CHEAP, 1, 0.0, 1, **free),
    ]


async def test_what_is_not_known_is_in_no_sum_and_of_no_group_a_zero(store: SqliteUsageStore) -> None:
    store.record(served(key=DEAR, cost_usd=0.5, prompt_tokens=4, completion_tokens=2))
    store.record(served(key=DEAR, success=False, error_code="CONNECTION_ERROR"))
    store.record(served(key=CHEAP))
    known = {"prompt_tokens": 4, "completion_tokens": 2, "cached_tokens": 0, "counted_requests": 1}
    assert await store.totals(UsageGrouping.MODEL) == [
        total(DEAR, 2, 0.5, 1, failures=1, **known),
        total(CHEAP, 1, None, 0),
    ]


async def test_callers_are_told_apart_by_their_keys(store: SqliteUsageStore) -> None:
    store.record(served(caller="ada", cost_usd=1.0))
    store.record(served(caller="ada", key=DEAR, cost_usd=2.0))
    store.record(served(cost_usd=4.0))
    found = await store.totals(UsageGrouping.KEY)
    assert [(each.group, each.cost_usd) for each in found] == [(None, 4.0), ("ada", 3.0)]


async def test_hours_and_days_are_those_of_utc_newest_first(store: SqliteUsageStore) -> None:
    for minutes in (0, 59, 60, 24 * 60):
        store.record(served(at=NOON - timedelta(days=2) + timedelta(minutes=minutes), cost_usd=1.0))
    hours = await store.totals(UsageGrouping.HOUR)
    assert [(each.group, each.requests) for each in hours] == [
        ("2026-11-22T12:00:00Z", 1),
        ("2026-11-21T13:00:00Z", 1),
        ("2026-11-21T12:00:00Z", 2),
    ]
    days = await store.totals(UsageGrouping.DAY)
    assert [(each.group, each.cost_usd) for each in days] == [("2026-11-22", 1.0), ("2026-11-21", 3.0)]


async def test_a_span_and_a_model_can_be_asked_for(store: SqliteUsageStore) -> None:
    for hours in range(4):
        store.record(served(at=NOON - timedelta(hours=hours), key=DEAR if hours % 2 else CHEAP))
    since = NOON - timedelta(hours=2) + timedelta(minutes=30)
    found = await store.totals(UsageGrouping.HOUR, since=since, until=NOON)
    assert [each.group for each in found] == ["2026-11-23T11:00:00Z", "2026-11-23T10:00:00Z"]
    found = await store.totals(UsageGrouping.HOUR, key=DEAR)
    assert [each.group for each in found] == ["2026-11-23T11:00:00Z", "2026-11-23T09:00:00Z"]


async def test_sums_outlive_their_requests_but_not_forever(store: SqliteUsageStore) -> None:
    store.record(served(at=NOON - timedelta(days=365)))
    store.record(served(at=NOON - KEPT_FOR - timedelta(hours=1)))
    await store.flush()
    store.record(served())
    assert [each.group for each in await store.totals(UsageGrouping.DAY)] == ["2026-11-23", "2025-11-23"]
    assert len(await store.requests()) == 1


async def test_a_history_from_before_there_were_costs_is_summed_up_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "usage.db"
    everything = schema.migrations(schema.USAGE)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda _: everything[:1])
        connection = sqlite3.connect(path)
        schema.migrate(connection, schema.USAGE, str(path))
    at_us = int((NOON - timedelta(minutes=10)).timestamp() * 1_000_000)
    connection.execute(
        "INSERT INTO requests (request_id, key, at_us, operation, streamed, success, latency_ms, prompt_tokens, "
        "completion_tokens) VALUES ('r', ?, ?, 'chat', 0, 1, 1.0, 5, 2)",
        (DEAR, at_us),
    )
    connection.commit()
    connection.close()
    store = await SqliteUsageStore.open(path, clock=lambda: NOON)
    store.record(served(at=NOON - timedelta(minutes=5), key=DEAR, cost_usd=1.0))
    counted = {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 0, "counted_requests": 1}
    assert await store.totals(UsageGrouping.MODEL) == [total(DEAR, 2, 1.0, 1, **counted)]
    assert [record.cost_usd for record in await store.requests()] == [1.0, None]
    await store.aclose()
