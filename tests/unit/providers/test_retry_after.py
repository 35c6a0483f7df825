"""When upstreams want to be asked again, in every header that somebody says it in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from noa.providers.retry_after import parse_limit_reset, parse_retry_after

#: As OpenAI says it of both its limits.
BOTH = {"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Mon, 23 Nov 2026 12:01:00 GMT"}, 60),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        (BOTH, 1),
        ({**BOTH, "x-ratelimit-remaining-tokens": "0"}, 360),
        ({"x-ratelimit-reset-requests": "1h2m3s"}, 3723),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "7.66s"}, 7.66),
        ({"x-ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 5)}, 5),
        ({"x-ratelimit-reset": str((int(NOW.timestamp()) + 5) * 1000)}, 5),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) - 5)}, 0),
        ({"ratelimit-reset": "30"}, 30),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset-requests": ""}, None),
    ],
)
def test_when_a_limit_is_lifted(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_limit_reset(headers, NOW) == (None if seconds is None else pytest.approx(seconds))
