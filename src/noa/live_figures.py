"""How every model is doing in the requests it really serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from noa.measurement.live import LiveMetrics, LiveSpread, ServedRequest
from noa.registry import Registry
from noa.selection.faults import NOT_THE_MODELS_FAULT
from noa.state import RequestRecord


class LiveFigures:
    """Keeps the live figures of every model, and those of them that last in the registry.

    Without ``track`` requests are not counted, but for those that somebody counts by ``record``.
    """

    def __init__(self, registry: Registry, *, track: bool) -> None:
        self._registry = registry
        self._track = track
        self._live: dict[str, LiveMetrics] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        if not self._track:
            return
        live = self._of(record.key)
        if record.error_code not in NOT_THE_MODELS_FAULT:
            live.record(record.latency_ms, record.completion_tokens, record.success, record.at, record.ttft_ms)
            _time(live, record)
        live.add_use(record.prompt_tokens, record.completion_tokens, record.cost_usd)
        self._registry.put_metrics(record.key, live.metrics())

    def record(self, key: str, latency_ms: float, tokens: int | None, *, success: bool) -> None:
        """Count an inference that somebody else made."""
        live, now = self._of(key), datetime.now(UTC)
        live.record(latency_ms, tokens, success, now)
        if success:
            live.time(now, latency_ms=latency_ms)
        self._registry.put_metrics(key, live.metrics())

    def benchmarked(self, key: str, at: datetime) -> None:
        """Note that a model was profiled."""
        live = self._of(key)
        live.benchmarked(at)
        self._registry.put_metrics(key, live.metrics())

    def remember(self, records: Iterable[RequestRecord]) -> None:
        """Take in requests of an earlier run, oldest first; the averages have counted them."""
        for record in records:
            live = self._of(record.key)
            live.remember(
                ServedRequest(
                    at=record.at,
                    latency_ms=record.latency_ms,
                    success=record.success,
                    tokens=record.completion_tokens,
                    ttft_ms=record.ttft_ms,
                )
            )
            _time(live, record)

    def history(self, key: str) -> Sequence[ServedRequest]:
        """The latest requests of a model, oldest first."""
        return self._live[key].history() if key in self._live else ()

    def spread(self, key: str) -> LiveSpread:
        """How the latest times of a model were spread."""
        return self._live[key].spread() if key in self._live else LiveSpread()

    def _of(self, key: str) -> LiveMetrics:
        if key not in self._live:
            self._live[key] = LiveMetrics(self._registry.figures(key).metrics)
        return self._live[key]


def _time(live: LiveMetrics, record: RequestRecord) -> None:
    if record.success:
        live.time(
            record.at,
            ttft_ms=record.ttft_ms,
            tpot_ms=record.tpot_ms,
            latency_ms=record.latency_ms,
            queue_ms=record.queue_ms,
            overhead_ms=record.overhead_ms,
        )
