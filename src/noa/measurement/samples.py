"""What was measured of single requests, and the formulas that sum it up. Pure.

Tools disagree on the formulas, so ``FORMULA_VERSION`` changes with any of them:

- **TTFT**: from sending the request to the first event with content. Reasoning counts, an empty or role-only event
  doesn't.
- **E2E**: from sending to the last event with content.
- **TPOT** = (E2E − TTFT) / (tokens − tokens of the first chunk). Where each token comes in a chunk of its own this is
  vLLM's (E2E − TTFT) / (tokens − 1) (its ``benchmarks/serve.py``); where a chunk holds several, the first holds as many
  as the others on average, and they took none of that time. Reasoning that is counted but not shown is left out.
- **ITL** is the time between two chunks with content, over all chunks of all requests: what a reader sees stutter.
- **Output tokens per second** = Σ those tokens / Σ (E2E − TTFT): generation alone.
- **Prompt tokens per second** = Σ prompt tokens that no cache had / Σ TTFT. The network and the first token are in it,
  so the model itself is at least as fast.
- **Tokens per second** = Σ completion tokens / Σ E2E, over the requests whose tokens are known. End to end rather than
  after the first token, because it is what a caller experiences and what the live figures of unstreamed requests can
  be compared with. A ratio of sums, so that a short answer doesn't weigh as much as a long one.
- **Tokens** are the provider's count. Chunks are never counted as tokens: one may hold several.
- **Percentiles** are exact, interpolated linearly between the closest ranks (Hyndman & Fan's type 7).
- **Cached**: a request whose prompt came from a cache for the better part is in no time that a cache makes shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from noa.measurement.significance import Interval, median_interval
from noa.models import Value

FORMULA_VERSION = 2

#: How many samples a percentile needs before it is shown. With fewer, single requests decide it: at these counts one
#: request in ten lies beyond p90, and five lie beyond p95 and p99.
SAMPLES_NEEDED = {50: 1, 90: 10, 95: 100, 99: 500}
#: From which part of the prompt on it is a hit of a cache. The beginning that a chat template gives to all is less.
CACHE_HIT_SHARE = 0.5


class Sample(Value, frozen=True, kw_only=True):
    """One request as it was measured. Times are in milliseconds since it was sent; ``None`` is not known.

    ``stage`` is the part of the profile it belongs to, ``prompt_number`` tells its prompts apart, ``concurrency`` is
    how many were sent at once, ``warmup`` says that it is in no figure, and ``started_ms`` is when it was sent since
    the profile began. ``first_answer_ms`` is the first content that is no reasoning. ``gaps_ms`` lie between events
    with content, which are not tokens. ``ended_ms`` is when it was over, well or not. ``token_source`` says where the
    token counts come from, and ``error_code`` why it failed, as ``error`` does in words.
    """

    success: bool
    stage: str = "test"
    prompt_number: int | None = None
    concurrency: int = 1
    warmup: bool = False
    started_ms: float | None = None
    e2e_ms: float | None = None
    ttft_ms: float | None = None
    first_answer_ms: float | None = None
    gaps_ms: tuple[float, ...] = ()
    ended_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    token_source: Literal["usage", "unknown"] = "unknown"  # noqa: S105 — these tokens are no secrets
    finish_reason: str | None = None
    error_code: str | None = None
    error: str | None = None

    @property
    def generation_ms(self) -> float | None:
        """From the first chunk to the last; ``None`` for an answer that came in one piece."""
        if self.ttft_ms is None or self.e2e_ms is None or not self.gaps_ms:
            return None
        return self.e2e_ms - self.ttft_ms

    @property
    def later_tokens(self) -> float | None:
        """The tokens that came after the first chunk; ``None`` without a count, or where there were none."""
        if self.completion_tokens is None or self.generation_ms is None:
            return None
        # Reasoning was shown if content came before the answer did.
        hidden = (self.reasoning_tokens or 0) if self.first_answer_ms == self.ttft_ms else 0
        tokens = self.completion_tokens - hidden
        later = tokens - max(1.0, tokens / (len(self.gaps_ms) + 1))
        return later if later > 0 else None

    @property
    def tpot_ms(self) -> float | None:
        """Milliseconds per output token after the first chunk; ``None`` where that cannot be told."""
        if self.generation_ms is None or self.later_tokens is None:
            return None
        return self.generation_ms / self.later_tokens

    @property
    def cache_hit(self) -> bool:
        """Whether the upstream said that it had the better part of the prompt in a cache."""
        return bool(self.cached_tokens and self.cached_tokens >= CACHE_HIT_SHARE * (self.prompt_tokens or 0))


class Distribution(Value, frozen=True, kw_only=True):
    """How measured values are spread; a percentile is ``None`` where ``samples`` are too few for it."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    min: float | None = None
    max: float | None = None
    samples: int = 0


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


def interval(values: Iterable[float | None]) -> Interval | None:
    """Where the median of the values that are known lies, if they are enough to say."""
    return median_interval(sorted(value for value in values if value is not None))


def mean(values: Iterable[float | None]) -> float | None:
    """The arithmetic mean of the values that are known, ``None`` if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def total(counts: Iterable[int | None]) -> int | None:
    """The sum of the counts that are known, ``None`` if there are none."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def tokens_per_second(samples: Iterable[Sample]) -> float | None:
    """Σ tokens / Σ end-to-end time over the successful samples whose tokens are known."""
    return _rate((each.completion_tokens or None, each.e2e_ms) for each in samples if each.success)


def output_tokens_per_second(samples: Iterable[Sample]) -> float | None:
    """Σ tokens after the first chunk / Σ time since then."""
    return _rate((each.later_tokens, each.generation_ms) for each in samples if each.success)


def prompt_tokens_per_second(samples: Iterable[Sample]) -> float | None:
    """Σ prompt tokens that no cache had / Σ TTFT."""
    return _rate((_read_tokens(each), each.ttft_ms) for each in samples if each.success and not each.cache_hit)


def _read_tokens(sample: Sample) -> int | None:
    return None if sample.prompt_tokens is None else sample.prompt_tokens - (sample.cached_tokens or 0)


def _rate(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Σ of the firsts per second of the seconds, over the pairs that are known."""
    tokens, milliseconds = 0.0, 0.0
    for count, duration_ms in pairs:
        if count is not None and duration_ms is not None:
            tokens += count
            milliseconds += duration_ms
    return tokens * 1000 / milliseconds if milliseconds > 0 else None
