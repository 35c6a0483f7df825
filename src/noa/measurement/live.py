"""How one model has been doing in the requests it really served."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from noa.errors import ValidationError
from noa.measurement.fading import FadingValues
from noa.measurement.samples import Distribution
from noa.models import PerformanceMetrics, Value

Number = TypeVar("Number", int, float)
#: The weight of the newest request in each moving average.
WEIGHT = 0.2
#: How many past requests a model's history holds.
HISTORY_LIMIT = 256


class ServedRequest(Value, frozen=True, kw_only=True):
    """One line of a model's performance history. ``latency_ms`` is end to end, ``tokens`` are generated ones."""

    at: datetime
    latency_ms: float
    success: bool
    tokens: int | None = None
    ttft_ms: float | None = None


class LiveSpread(Value, frozen=True, kw_only=True):
    """How the times of a model's latest successful requests were spread, in milliseconds; newer ones count for more.

    ``ttft_ms`` and ``tpot_ms`` (per token after the first) are of those that were streamed, ``latency_ms`` of all, from
    when the model was to be had to the end. ``queue_ms`` is the wait for it before, its load included, and
    ``overhead_ms`` what Noa itself took. ``samples`` of each are what its values are worth together; a percentile is
    ``null`` where that is too little for it. ``last_at`` is when the newest request ended.
    """

    ttft_ms: Distribution = Distribution()
    tpot_ms: Distribution = Distribution()
    latency_ms: Distribution = Distribution()
    queue_ms: Distribution = Distribution()
    overhead_ms: Distribution = Distribution()
    last_at: datetime | None = None


class LiveMetrics:
    """Moving averages over every request to one model, its latest requests, and how their times were spread.

    The first sample sets an average, each later one moves it by ``WEIGHT``. Failures count in the success rate alone:
    a refused connection takes no time, and would make a broken model look fast.
    """

    def __init__(self, restored: PerformanceMetrics | None = None) -> None:
        self._metrics = restored if restored is not None else PerformanceMetrics()
        self._ttft_ms: float | None = None
        self._history: deque[ServedRequest] = deque(maxlen=HISTORY_LIMIT)
        self._ttfts, self._tpots, self._latencies = FadingValues(), FadingValues(), FadingValues()
        self._queues, self._overheads = FadingValues(), FadingValues()
        self._last_at: datetime | None = None

    def record(
        self, latency_ms: float, tokens: int | None, success: bool, at: datetime, ttft_ms: float | None = None
    ) -> None:
        """Count one request that ended ``at``. ``tokens`` are the generated ones, ``None`` if nobody counted them.

        Raises ``ValidationError`` for a time that is none.
        """
        if not (math.isfinite(latency_ms) and latency_ms >= 0):
            raise ValidationError(f"A latency of {latency_ms} ms is none; give milliseconds, 0 or more.")
        before = self._metrics
        speed = tokens * 1000 / latency_ms if success and tokens and latency_ms > 0 else None
        self._metrics = msgspec.structs.replace(
            before,
            average_latency=_moved(before.average_latency, latency_ms if success else None),
            tokens_per_second=_moved(before.tokens_per_second, speed),
            success_rate=_moved(before.success_rate, 1.0 if success else 0.0),
            total_inferences=before.total_inferences + 1,
        )
        if success:
            self._ttft_ms = _moved(self._ttft_ms, ttft_ms)
        self._history.append(
            ServedRequest(at=at, latency_ms=latency_ms, success=success, tokens=tokens, ttft_ms=ttft_ms)
        )

    def add_use(self, prompt_tokens: int | None, completion_tokens: int | None, cost_usd: float | None) -> None:
        """Add what a request used to the totals; ``None`` is not known, and adds nothing."""
        before = self._metrics
        self._metrics = msgspec.structs.replace(
            before,
            total_prompt_tokens=_added(before.total_prompt_tokens, prompt_tokens),
            total_completion_tokens=_added(before.total_completion_tokens, completion_tokens),
            total_cost_usd=_added(before.total_cost_usd, cost_usd),
        )

    def time(
        self,
        at: datetime,
        *,
        latency_ms: float,
        ttft_ms: float | None = None,
        tpot_ms: float | None = None,
        queue_ms: float | None = None,
        overhead_ms: float | None = None,
    ) -> None:
        """Take in the times of a request that succeeded ``at``; ``None`` was not measured, and is in no figure."""
        at_s = at.timestamp()
        self._last_at = at
        self._latencies.add(latency_ms, at_s)
        for values, value in (
            (self._ttfts, ttft_ms),
            (self._tpots, tpot_ms),
            (self._queues, queue_ms),
            (self._overheads, overhead_ms),
        ):
            if value is not None:
                values.add(value, at_s)

    def spread(self) -> LiveSpread:
        """How the latest times were spread."""
        return LiveSpread(
            ttft_ms=self._ttfts.distribution(),
            tpot_ms=self._tpots.distribution(),
            latency_ms=self._latencies.distribution(),
            queue_ms=self._queues.distribution(),
            overhead_ms=self._overheads.distribution(),
            last_at=self._last_at,
        )

    def remember(self, request: ServedRequest) -> None:
        """Take a request of an earlier run into the history; the restored averages have counted it."""
        self._history.append(request)

    def benchmarked(self, at: datetime) -> None:
        """Note that a profile of the model ended ``at``."""
        self._metrics = msgspec.structs.replace(self._metrics, last_benchmarked=at)

    def metrics(self) -> PerformanceMetrics:
        """The averages so far. Restoring from this value goes on where it stopped."""
        return self._metrics

    @property
    def ttft_ms(self) -> float | None:
        """The moving average of the time to the first token, of those streamed since this object was made."""
        return self._ttft_ms

    def history(self) -> Sequence[ServedRequest]:
        """The latest requests, oldest first."""
        return tuple(self._history)


def _added(total: Number | None, part: Number | None) -> Number | None:
    if total is None or part is None:
        return part if total is None else total
    return total + part


def _moved(average: float | None, value: float | None) -> float | None:
    if value is None:
        return average
    if average is None:
        return value
    return average + WEIGHT * (value - average)
