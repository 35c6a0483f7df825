"""What was used and what it cost, summed up by the hour, and kept for longer than the requests are."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any, Final

from noa.state import RequestRecord, UsageGrouping, UsageTotal
from noa.storage.moments import from_us, to_us

HOUR_US: Final = 3_600_000_000
_Group = tuple[int, str, str]
#: How long the sums are kept: a year can be compared with the one before.
KEPT_FOR: Final = timedelta(days=2 * 366)
#: How many expired sums one batch removes at most.
EXPIRY_SLICE: Final = 200

_ADD = """
INSERT INTO usage_hours (hour_us, key, caller, requests, failures, prompt_tokens, completion_tokens, cached_tokens,
    counted, cost_usd, priced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, failures = failures + excluded.failures,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens, counted = counted + excluded.counted,
    cost_usd = cost_usd + excluded.cost_usd, priced = priced + excluded.priced
"""
_EXPIRE = """
DELETE FROM usage_hours WHERE (hour_us, key, caller) IN (
    SELECT hour_us, key, caller FROM usage_hours WHERE hour_us < ? ORDER BY hour_us LIMIT ?)
"""
_SUMS = (
    "sum(requests), sum(failures), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(counted), "
    "sum(cost_usd), sum(priced)"
)
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_FIELDS = ("requests", "failures", *_TOKENS, "counted_requests", "cost_usd", "priced_requests")
#: What each grouping groups by, as SQL.
_GROUPS = {
    UsageGrouping.MODEL: "key",
    UsageGrouping.KEY: "caller",
    UsageGrouping.HOUR: "hour_us",
    UsageGrouping.DAY: "hour_us - hour_us % (24 * 3600000000)",
}


def add_requests(connection: sqlite3.Connection, batch: Sequence[RequestRecord], now: datetime) -> None:
    """Count requests in the hours they ended in, and drop some of the hours that are too long ago."""
    sums: dict[_Group, list[float]] = {}
    for record in batch:
        group = (to_us(record.at) // HOUR_US * HOUR_US, record.key, record.caller or "")
        before = sums.get(group)
        counts = _counts(record)
        sums[group] = counts if before is None else list(map(add, before, counts))
    connection.executemany(_ADD, [(*group, *counts) for group, counts in sums.items()])
    connection.execute(_EXPIRE, (to_us(now - KEPT_FOR), EXPIRY_SLICE))


def totals(
    connection: sqlite3.Connection, by: UsageGrouping, since: datetime | None, until: datetime | None, key: str | None
) -> list[UsageTotal]:
    """The sums of the hours from that of ``since`` to before ``until``, grouped; times newest first, else by name."""
    group = _GROUPS[by]
    conditions, arguments = ["TRUE"], list[object]()
    if since is not None:
        conditions.append("hour_us >= ?")
        arguments.append(to_us(since) // HOUR_US * HOUR_US)
    if until is not None:
        conditions.append("hour_us < ?")
        arguments.append(to_us(until))
    if key is not None:
        conditions.append("key = ?")
        arguments.append(key)
    order = "DESC" if by in (UsageGrouping.HOUR, UsageGrouping.DAY) else "ASC"
    query = (
        f"SELECT {group}, {_SUMS} FROM usage_hours WHERE {' AND '.join(conditions)} "  # noqa: S608 — constant text
        f"GROUP BY 1 ORDER BY 1 {order}"
    )
    return [_total(by, row) for row in connection.execute(query, arguments)]


def _counts(record: RequestRecord) -> list[float]:
    """What one request adds to the sums of its hour, in the order of ``_ADD``."""
    return [
        1,
        not record.success,
        record.prompt_tokens or 0,
        record.completion_tokens or 0,
        record.cached_tokens or 0,
        record.completion_tokens is not None,
        record.cost_usd or 0.0,
        record.cost_usd is not None,
    ]


def _total(by: UsageGrouping, row: Sequence[object]) -> UsageTotal:
    group, *sums = row
    facts: dict[str, Any] = dict(zip(_FIELDS, sums, strict=True))
    unknown = [] if facts["counted_requests"] else [*_TOKENS]
    unknown += [] if facts["priced_requests"] else ["cost_usd"]
    return UsageTotal(group=_named(by, group), **{**facts, **dict.fromkeys(unknown)})


def _named(by: UsageGrouping, group: object) -> str | None:
    if isinstance(group, str):
        return group or None
    assert isinstance(group, int)
    moment = from_us(group).astimezone(UTC)
    return moment.date().isoformat() if by is UsageGrouping.DAY else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
