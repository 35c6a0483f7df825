"""What is counted of every request, for Prometheus."""

from __future__ import annotations

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

from noa.models import split_key
from noa.server import metric_names as names
from noa.state import RequestRecord


class _Series(msgspec.Struct, frozen=True, kw_only=True):
    """The series of one model and operation, looked up once: that costs more than to count."""

    labels: tuple[str, str, str]
    latency: Histogram
    duration: Histogram
    input_tokens: Histogram
    output_tokens: Histogram
    first_token: Histogram
    per_token: Histogram
    queue: Histogram
    overhead: Histogram
    cost: Counter
    unpriced: Counter


class RequestMetrics:
    """Counts requests once they are over. What is not known of one is in no figure."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        by_model, gen_ai = (names.MODEL,), names.GEN_AI
        self._latency = histogram(
            names.INFERENCE_LATENCY,
            "End-to-end latency of the inferences that succeeded.",
            by_model,
            names.LATENCY_BUCKETS_S,
        )
        self._duration = histogram(
            names.OPERATION_DURATION,
            "How long requests took once their model was to be had; error_type is empty for those that succeeded.",
            (*gen_ai, names.ERROR_TYPE),
            names.DURATION_BUCKETS_S,
        )
        self._tokens = histogram(
            names.TOKEN_USAGE,
            "Tokens of a request, by the provider's count.",
            (*gen_ai, names.TOKEN_TYPE),
            names.TOKEN_BUCKETS,
        )
        self._first_token = histogram(
            names.TIME_TO_FIRST_TOKEN,
            "Time to the first token of streamed answers.",
            gen_ai,
            names.FIRST_TOKEN_BUCKETS_S,
        )
        self._per_token = histogram(
            names.TIME_PER_OUTPUT_TOKEN,
            "Time per token after the first of streamed answers.",
            gen_ai,
            names.PER_TOKEN_BUCKETS_S,
        )
        self._queue = histogram(
            names.QUEUE_TIME,
            "How long requests waited for their model, its load included.",
            by_model,
            names.QUEUE_BUCKETS_S,
        )
        self._overhead = histogram(
            names.OVERHEAD,
            "What Noa itself took of requests that succeeded: all but the wait for the model and the provider's time.",
            by_model,
            names.OVERHEAD_BUCKETS_S,
        )
        self._cost = Counter(names.COST, "What requests of known cost cost, in USD.", by_model, registry=registry)
        self._unpriced = Counter(
            names.UNPRICED_REQUESTS, "Requests that succeeded and whose cost is not known.", by_model, registry=registry
        )
        self._series: dict[tuple[str, str], _Series] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        series = self._series.get((record.key, record.operation)) or self._new(record.key, record.operation)
        seconds = record.latency_ms / 1000
        if record.error_code is None:
            series.latency.observe(seconds)
            series.duration.observe(seconds)
        else:
            self._duration.labels(*series.labels, record.error_code).observe(seconds)
        _observe(series.queue, record.queue_ms)
        _observe(series.overhead, record.overhead_ms)
        _observe(series.first_token, record.ttft_ms if record.success else None)
        _observe(series.per_token, record.tpot_ms)
        if record.prompt_tokens is not None:
            series.input_tokens.observe(record.prompt_tokens)
        if record.completion_tokens is not None:
            series.output_tokens.observe(record.completion_tokens)
        if record.cost_usd is not None:
            series.cost.inc(record.cost_usd)
        elif record.success:
            series.unpriced.inc()

    def _new(self, key: str, operation: str) -> _Series:
        provider, model_id = split_key(key)
        labels = names.OPERATIONS.get(operation, operation), names.PROVIDERS.get(provider, provider), model_id
        series = self._series[key, operation] = _Series(
            labels=labels,
            latency=self._latency.labels(key),
            duration=self._duration.labels(*labels, ""),
            input_tokens=self._tokens.labels(*labels, "input"),
            output_tokens=self._tokens.labels(*labels, "output"),
            first_token=self._first_token.labels(*labels),
            per_token=self._per_token.labels(*labels),
            queue=self._queue.labels(key),
            overhead=self._overhead.labels(key),
            cost=self._cost.labels(key),
            unpriced=self._unpriced.labels(key),
        )
        return series


def _observe(histogram: Histogram, milliseconds: float | None) -> None:
    if milliseconds is not None:
        histogram.observe(milliseconds / 1000)
