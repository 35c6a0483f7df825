"""How long an upstream asks to be left alone, in whichever header it says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: OpenAI's and Groq's durations: ``20ms``, ``7.66s``, ``6m0s``, ``1h2m3s``.
_DURATION: Final = re.compile(
    r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?"
)
_UNITS_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
#: From here on a number is a moment in seconds, and from there on in milliseconds since 1970; below it is a wait.
_EPOCH_S, _EPOCH_MS = 1e9, 1e11


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait by ``retry-after-ms`` (milliseconds) or ``retry-after`` (seconds, or a date as in RFC 9110)."""
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    if milliseconds is not None and (number := _number(milliseconds)) is not None:
        return number / 1000
    if seconds is None:
        return None
    if (number := _number(seconds)) is not None:
        return number
    try:
        moment = parsedate_to_datetime(seconds)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def parse_limit_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until a limit is lifted, by the headers that say so for each limit.

    OpenAI and Groq count requests and tokens (``x-ratelimit-reset-tokens``, a duration): what is used up counts, and
    otherwise whatever resets first. Others have one limit (``x-ratelimit-reset``: OpenRouter's is a moment in
    milliseconds; ``ratelimit-reset`` of the IETF's draft is in seconds).
    """
    for name in ("x-ratelimit-reset", "ratelimit-reset"):
        if name in headers and (wait := _wait(headers[name], now)) is not None:
            return wait
    waits = {kind: _duration(headers.get(f"x-ratelimit-reset-{kind}")) for kind in ("requests", "tokens")}
    used_up = [wait for kind, wait in waits.items() if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    return max(_known(used_up), default=None) or min(_known(waits.values()), default=None)


def _known(waits: Iterable[float | None]) -> list[float]:
    return [wait for wait in waits if wait is not None]


def _wait(text: str, now: datetime) -> float | None:
    number = _number(text)
    if number is None:
        return _duration(text)
    if number < _EPOCH_S:
        return number
    moment = number / 1000 if number >= _EPOCH_MS else number
    return max(0.0, moment - now.timestamp())


def _duration(text: str | None) -> float | None:
    if not text or (match := _DURATION.fullmatch(text.strip())) is None:
        return _number(text) if text else None
    return sum(float(amount) * _UNITS_S[unit] for unit, amount in match.groupdict().items() if amount)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
