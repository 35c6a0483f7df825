"""What a profile found: its figures, summed up from the samples. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from noa.measurement.profile_plan import TEST, ProfileMode
from noa.measurement.regression import Comparison
from noa.measurement.samples import (
    FORMULA_VERSION,
    Distribution,
    Sample,
    distribution,
    interval,
    mean,
    output_tokens_per_second,
    prompt_tokens_per_second,
    tokens_per_second,
    total,
)
from noa.measurement.significance import Interval
from noa.models import PerformanceMetrics, Value

#: A model is saturated at the smallest number of callers that get this part of the most it gives to any.
NEARLY_ALL = 0.9
#: Why a profile ended early: somebody wanted it to, or the next request might have cost more than allowed.
Stopped = Literal["asked", "max-cost"]


class Intervals(Value, frozen=True, kw_only=True):
    """Where the true medians lie, 95 % sure; ``None`` with too few samples (fewer than six)."""

    ttft_ms: Interval | None = None
    tpot_ms: Interval | None = None
    e2e_ms: Interval | None = None


class ShapeFigures(Value, frozen=True, kw_only=True):
    """How a model does with prompts of one length; ``prompt_tokens`` is what they had on average."""

    name: str
    requests: int
    failures: int
    prompt_tokens: float | None
    prompt_tokens_per_second: float | None
    output_tokens_per_second: float | None
    ttft_ms: Distribution
    tpot_ms: Distribution
    e2e_ms: Distribution


class LevelFigures(Value, frozen=True, kw_only=True):
    """How a model does with so many callers at once, each of whom asks again as soon as it is answered.

    ``tokens_per_second`` and ``requests_per_second`` are those of all callers together, while all of them were busy.
    """

    concurrency: int
    requests: int
    failures: int
    tokens_per_second: float | None
    requests_per_second: float | None
    ttft_ms: Distribution
    tpot_ms: Distribution
    e2e_ms: Distribution


class ProfileMetrics(PerformanceMetrics, frozen=True, kw_only=True):
    """What a profile found: the quick start's fields over the test requests, and how the times are spread.

    ``test_count`` requests were made one after the other; ``failures`` of them (by code in ``errors``) are in
    ``success_rate`` and in no time, and ``cache_hits`` are in no time that a cache makes shorter. ``cold_start_ms`` is
    the time from asking for an unloaded local model to its first token, ``None`` if it was not loaded for this profile.
    ``first_request_ms`` is the time to the first token of the very first request, which is in no other figure.
    ``memory_usage`` is what the model's process took at the end and ``peak_memory_usage`` the most it was seen to take,
    in MB of 10⁶ bytes. ``tokens_per_chunk`` tells how far inter-token gaps (``itl_ms``) are really those of tokens.
    ``levels`` are a full profile's, the first of them the test itself; ``saturation`` is the fewest callers that get
    nearly all of what the model gives to any number. ``client_lag_ms`` is how late our own event loop was: figures
    smaller than that say nothing. ``cost_usd`` is that of all requests that ended, warm-ups
    included. ``stopped`` says why there is less than was planned. ``formula_version`` names the
    formulas of ``noa.measurement.samples``.
    """

    ttft_ms: Distribution
    tpot_ms: Distribution
    itl_ms: Distribution
    e2e_ms: Distribution
    p50_intervals: Intervals
    cold_start_ms: float | None = None
    first_request_ms: float | None
    prompt_tokens_per_second: float | None
    output_tokens_per_second: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cache_hits: int
    tokens_per_chunk: float | None
    peak_memory_usage: float | None = None
    cost_usd: float | None = None
    test_count: int
    failures: int
    errors: dict[str, int]
    mode: str
    max_tokens: int
    stopped: Stopped | None = None
    duration_s: float | None = None
    shapes: tuple[ShapeFigures, ...] = ()
    levels: tuple[LevelFigures, ...] = ()
    saturation: int | None = None
    client_lag_ms: Distribution = Distribution()
    comparison: Comparison | None = None
    formula_version: int = FORMULA_VERSION


def summarise(samples: Sequence[Sample], *, at: datetime, mode: ProfileMode, max_tokens: int) -> ProfileMetrics:
    """Sum up the samples of a profile that ended ``at``."""
    tests = [sample for sample in samples if sample.stage == TEST and not sample.warmup]
    first = next((sample for sample in samples if sample.warmup), None)
    successes = [sample for sample in tests if sample.success]
    uncached = [sample for sample in successes if not sample.cache_hit]
    levels = _levels(samples) if mode is ProfileMode.FULL else ()
    return ProfileMetrics(
        average_latency=mean(sample.e2e_ms for sample in uncached),
        tokens_per_second=tokens_per_second(uncached),
        total_inferences=len(tests),
        success_rate=len(successes) / len(tests) if tests else None,
        last_benchmarked=at,
        ttft_ms=distribution(sample.ttft_ms for sample in uncached),
        tpot_ms=distribution(sample.tpot_ms for sample in successes),
        itl_ms=distribution(gap for sample in successes for gap in sample.gaps_ms),
        e2e_ms=distribution(sample.e2e_ms for sample in uncached),
        p50_intervals=Intervals(
            ttft_ms=interval(sample.ttft_ms for sample in uncached),
            tpot_ms=interval(sample.tpot_ms for sample in successes),
            e2e_ms=interval(sample.e2e_ms for sample in uncached),
        ),
        first_request_ms=first.ttft_ms if first is not None and first.success else None,
        prompt_tokens_per_second=prompt_tokens_per_second(tests),
        output_tokens_per_second=output_tokens_per_second(tests),
        prompt_tokens=total(sample.prompt_tokens for sample in samples),
        completion_tokens=total(sample.completion_tokens for sample in samples),
        cached_tokens=total(sample.cached_tokens for sample in samples),
        cache_hits=len(successes) - len(uncached),
        tokens_per_chunk=_tokens_per_chunk(successes),
        test_count=len(tests),
        failures=len(tests) - len(successes),
        errors=dict(Counter(sample.error_code for sample in tests if sample.error_code is not None)),
        mode=mode,
        max_tokens=max_tokens,
        shapes=_shapes(samples),
        levels=levels,
        saturation=_saturation(levels),
    )


def level_figures(samples: Iterable[Sample]) -> LevelFigures:
    """Sum up the samples of one level, those that warmed it up among them.

    It is looked at between the end of the last warm-up and the last start of a request: before and after that not all
    callers are busy. Requests that reach beyond count with the part of theirs that lies within.
    """
    everything = [sample for sample in samples if sample.started_ms is not None and sample.ended_ms is not None]
    counted = [sample for sample in everything if not sample.warmup]
    successes = [sample for sample in counted if sample.success]
    begin = max((_end(sample) for sample in everything if sample.warmup), default=0.0)
    end = max((_start(sample) for sample in counted), default=begin)
    if len(counted) == 1 or end <= begin:
        begin = min(map(_start, everything), default=0.0)
        end = max(map(_end, everything), default=begin)
    window_s = (end - begin) / 1000
    shares = [(sample, _share(sample, begin, end)) for sample in everything if sample.success]
    tokens = [share * sample.completion_tokens for sample, share in shares if sample.completion_tokens is not None]
    return LevelFigures(
        concurrency=counted[0].concurrency if counted else 1,
        requests=len(counted),
        failures=len(counted) - len(successes),
        tokens_per_second=sum(tokens) / window_s if tokens and window_s > 0 else None,
        requests_per_second=sum(share for _, share in shares) / window_s if shares and window_s > 0 else None,
        ttft_ms=distribution(sample.ttft_ms for sample in successes),
        tpot_ms=distribution(sample.tpot_ms for sample in successes),
        e2e_ms=distribution(sample.e2e_ms for sample in successes),
    )


def _levels(samples: Sequence[Sample]) -> tuple[LevelFigures, ...]:
    """The test itself, and each stage with several callers, as far as it came."""
    stages = dict.fromkeys(sample.stage for sample in samples if sample.stage == TEST or sample.concurrency > 1)
    of_stage = [[sample for sample in samples if sample.stage == stage] for stage in stages]
    return tuple(level_figures(each) for each in of_stage if any(not sample.warmup for sample in each))


def _saturation(levels: Sequence[LevelFigures]) -> int | None:
    speeds = {level.concurrency: level.tokens_per_second or level.requests_per_second or 0.0 for level in levels}
    if len(speeds) < 2:
        return None
    return min(concurrency for concurrency, speed in speeds.items() if speed >= NEARLY_ALL * max(speeds.values()))


def _shapes(samples: Sequence[Sample]) -> tuple[ShapeFigures, ...]:
    others = [sample for sample in samples if sample.stage != TEST and sample.concurrency == 1]
    names = dict.fromkeys(sample.stage for sample in others)
    return tuple(_shape(name, [sample for sample in others if sample.stage == name]) for name in names)


def _shape(name: str, samples: Sequence[Sample]) -> ShapeFigures:
    successes = [sample for sample in samples if sample.success]
    uncached = [sample for sample in successes if not sample.cache_hit]
    return ShapeFigures(
        name=name,
        requests=len(samples),
        failures=len(samples) - len(successes),
        prompt_tokens=mean(sample.prompt_tokens for sample in successes),
        prompt_tokens_per_second=prompt_tokens_per_second(samples),
        output_tokens_per_second=output_tokens_per_second(samples),
        ttft_ms=distribution(sample.ttft_ms for sample in uncached),
        tpot_ms=distribution(sample.tpot_ms for sample in successes),
        e2e_ms=distribution(sample.e2e_ms for sample in uncached),
    )


def _tokens_per_chunk(samples: Iterable[Sample]) -> float | None:
    pairs = [(sample.later_tokens, len(sample.gaps_ms)) for sample in samples if sample.later_tokens is not None]
    tokens = sum(count for count, _ in pairs if count is not None)
    return tokens / sum(gaps for _, gaps in pairs) if pairs else None


def _start(sample: Sample) -> float:
    assert sample.started_ms is not None
    return sample.started_ms


def _end(sample: Sample) -> float:
    assert sample.ended_ms is not None
    return _start(sample) + sample.ended_ms


def _share(sample: Sample, begin: float, end: float) -> float:
    """Which part of a request lies between two moments."""
    length = _end(sample) - _start(sample)
    within = min(_end(sample), end) - max(_start(sample), begin)
    return max(0.0, within) / length if length > 0 else 0.0
