"""What was measured of single requests, and how it is summed up. Pure.

The formulas, since tools disagree on them (``FORMULA_VERSION`` changes with any of them):

- **TTFT**: from sending the request to the first event with content. Reasoning counts, an empty or role-only event
  doesn't.
- **E2E**: from sending to the last event with content.
- **TPOT** = (E2E − TTFT) / (completion tokens − 1), as vLLM's ``benchmarks/serve.py`` has it.
- **Tokens per second** = Σ completion tokens / Σ E2E, over the requests whose tokens are known. End to end rather than
  after the first token, because it is what a caller experiences and what the live figures of unstreamed requests can
  be compared with; the speed of generation alone is 1000 / TPOT. A ratio of sums, so that a short answer doesn't weigh
  as much as a long one.
- **Tokens** are the provider's count. Chunks are never counted as tokens: one may hold several.
- **Percentiles** are exact, interpolated linearly between the closest ranks (Hyndman & Fan's type 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from noa.models import PerformanceMetrics, Value

FORMULA_VERSION = 1

#: How many samples a percentile needs before it is shown. With fewer, single requests decide it: at these counts one
#: request in ten lies beyond p90, and five lie beyond p95 and p99.
SAMPLES_NEEDED = {50: 1, 90: 10, 95: 100, 99: 500}


class Sample(Value, frozen=True, kw_only=True):
    """One request as it was measured. Times are in milliseconds since it was sent; ``None`` is not known.

    ``first_answer_ms`` is the first content that is no reasoning. ``gaps_ms`` lie between events with content, which
    are not tokens. ``token_source`` says where the token counts come from. A failed request has an ``error_code``, and
    the error in words.
    """

    success: bool
    e2e_ms: float | None = None
    ttft_ms: float | None = None
    first_answer_ms: float | None = None
    gaps_ms: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    token_source: Literal["usage", "unknown"] = "unknown"  # noqa: S105 — these tokens are no secrets
    finish_reason: str | None = None
    error_code: str | None = None
    error: str | None = None

    @property
    def tpot_ms(self) -> float | None:
        """Milliseconds per output token after the first; ``None`` without a count of at least two, or in one piece."""
        if self.ttft_ms is None or self.e2e_ms is None or not self.gaps_ms:
            return None
        if self.completion_tokens is None or self.completion_tokens < 2:
            return None
        return (self.e2e_ms - self.ttft_ms) / (self.completion_tokens - 1)


class Distribution(Value, frozen=True, kw_only=True):
    """How measured values are spread; a percentile is ``None`` where ``samples`` are too few for it."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    min: float | None = None
    max: float | None = None
    samples: int = 0


class ProfileMetrics(PerformanceMetrics, frozen=True, kw_only=True):
    """What a profile found: the quick start's fields over the warm requests, and how the times are spread.

    ``cold_start_ms`` is the time to the first token of the very first request, which is in no other figure.
    ``failures`` of the ``test_count`` requests are in ``success_rate`` and in no time. ``formula_version`` names the
    formulas of ``noa.measurement.samples``.
    """

    ttft_ms: Distribution
    tpot_ms: Distribution
    e2e_ms: Distribution
    cold_start_ms: float | None
    test_count: int
    failures: int
    mode: str
    formula_version: int = FORMULA_VERSION


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """The value below which ``fraction`` of the sorted, non-empty values lie, interpolated linearly (type 7)."""
    position = (len(ordered) - 1) * fraction
    below = int(position)
    if below + 1 >= len(ordered):
        return ordered[-1]
    return ordered[below] + (ordered[below + 1] - ordered[below]) * (position - below)


def distribution(values: Iterable[float | None]) -> Distribution:
    """Sum up the values that are known."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return Distribution()

    def percentile(percent: int) -> float | None:
        return quantile(ordered, percent / 100) if len(ordered) >= SAMPLES_NEEDED[percent] else None

    return Distribution(
        p50=percentile(50),
        p90=percentile(90),
        p95=percentile(95),
        p99=percentile(99),
        min=ordered[0],
        max=ordered[-1],
        samples=len(ordered),
    )


def mean(values: Iterable[float | None]) -> float | None:
    """The arithmetic mean of the values that are known, ``None`` if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def tokens_per_second(samples: Iterable[Sample]) -> float | None:
    """Σ tokens / Σ end-to-end time over the successful samples whose tokens are known."""
    tokens, milliseconds = 0, 0.0
    for sample in samples:
        if sample.success and sample.completion_tokens and sample.e2e_ms is not None:
            tokens += sample.completion_tokens
            milliseconds += sample.e2e_ms
    return tokens * 1000 / milliseconds if milliseconds > 0 else None


def summarise(samples: Sequence[Sample], *, cold: Sample | None, at: datetime, mode: str) -> ProfileMetrics:
    """Sum up the warm samples of a profile that ended ``at``; ``cold`` is its first request, kept apart."""
    successes = [sample for sample in samples if sample.success]
    return ProfileMetrics(
        average_latency=mean(sample.e2e_ms for sample in successes),
        tokens_per_second=tokens_per_second(successes),
        total_inferences=len(samples),
        success_rate=len(successes) / len(samples) if samples else None,
        last_benchmarked=at,
        ttft_ms=distribution(sample.ttft_ms for sample in successes),
        tpot_ms=distribution(sample.tpot_ms for sample in successes),
        e2e_ms=distribution(sample.e2e_ms for sample in successes),
        cold_start_ms=cold.ttft_ms if cold is not None and cold.success else None,
        test_count=len(samples),
        failures=len(samples) - len(successes),
        mode=mode,
    )
