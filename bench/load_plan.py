"""What a load generator is told to do, and what it found: values that cross from one process to another as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A load.

    ``connections`` are kept alive. Each sends its next request when its last is answered, for ``seconds`` and until
    ``requests`` were sent (0: no matter), or, with a ``rate`` (requests a second), all together at fixed moments.
    Right is an answer of status 200 that has ``marker`` in it ``markers`` times and ends with ``ending``; ``streamed``
    ones are timed event by event.
    """

    port: int
    path: str
    body: str
    headers: Mapping[str, str] = {}
    connections: int = 1
    seconds: float = 0.0
    requests: int = 0
    rate: float = 0.0
    warm_up: int = 1
    marker: str = ""
    markers: int = 1
    ending: str = ""
    streamed: bool = False


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one thing, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread | None:
        """The percentiles (nearest rank) of some times in seconds, ``None`` where there are none."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        p50, p95, p99 = (_rank(ordered, share) * 1000 for share in (0.5, 0.95, 0.99))
        return cls(p50=p50, p95=p95, p99=p99)


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a load.

    ``latency`` is to the last byte, ``first`` to the first event with text, ``gap`` between two of those; ``events`` is
    how many there were. ``cpu_s`` is what the generator itself took. ``wrong`` shows the first wrong answer.
    """

    requests: int
    seconds: float
    cpu_s: float
    latency: Spread | None = None
    events: int = 0
    first: Spread | None = None
    gap: Spread | None = None
    wrong: str | None = None


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
