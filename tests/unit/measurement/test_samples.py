"""The formulas: exact, and silent where they know too little."""

from __future__ import annotations

import random
import statistics
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from noa.measurement.profile_plan import ProfileMode, saturated
from noa.measurement.samples import (
    Distribution,
    Sample,
    distribution,
    output_tokens_per_second,
    prompt_tokens_per_second,
    quantile,
    tokens_per_second,
)
from noa.measurement.summary import ProfileMetrics, level_figures, summarise

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FAILED = Sample(success=False, e2e_ms=5.0, ttft_ms=1.0, completion_tokens=100, error_code="CONNECTION_ERROR")


def answered(e2e_ms: float, tokens: int | None = None, ttft_ms: float | None = None, **more: Any) -> Sample:
    """An answer with a token in each chunk."""
    facts = {"gaps_ms": (1.0,) * max(1, (tokens or 2) - 1), "first_answer_ms": ttft_ms, **more}
    return Sample(success=True, e2e_ms=e2e_ms, completion_tokens=tokens, ttft_ms=ttft_ms, **facts)


def summed_up(*samples: Sample) -> ProfileMetrics:
    return summarise(samples, at=NOON, mode=ProfileMode.QUICK, max_tokens=32)


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_quantiles_agree_with_the_standard_librarys(count: int) -> None:
    chance = random.Random(count)
    values = sorted(chance.expovariate(0.01) for _ in range(count))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert [quantile(values, percent / 100) for percent in range(1, 100)] == pytest.approx(cuts)


def test_the_ends_are_the_smallest_and_the_largest() -> None:
    assert (quantile([1.0, 2.0, 4.0], 0.0), quantile([1.0, 2.0, 4.0], 1.0)) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (1, {"p50"}),
        (9, {"p50"}),
        (10, {"p50", "p90"}),
        (99, {"p50", "p90"}),
        (100, {"p50", "p90", "p95"}),
        (499, {"p50", "p90", "p95"}),
        (500, {"p50", "p90", "p95", "p99"}),
    ],
)
def test_a_percentile_is_shown_only_with_enough_samples(count: int, shown: set[str]) -> None:
    spread = msgspec.to_builtins(distribution(float(number) for number in range(count)))
    assert {name for name in ("p50", "p90", "p95", "p99") if spread[name] is not None} == shown
    assert (spread["min"], spread["max"], spread["samples"]) == (0.0, count - 1, count)


def test_nothing_measured_is_nothing_known() -> None:
    assert distribution([None, None]) == Distribution(samples=0)
    assert msgspec.json.encode(Distribution()) == (
        b'{"p50":null,"p90":null,"p95":null,"p99":null,"min":null,"max":null,"samples":0}'
    )


def test_unknown_values_are_left_out_of_a_distribution() -> None:
    assert distribution([3.0, None, 1.0]) == Distribution(p50=2.0, min=1.0, max=3.0, samples=2)


def test_time_per_token_excludes_the_first() -> None:
    assert answered(1000.0, tokens=10, ttft_ms=100.0).tpot_ms == 100.0


@pytest.mark.parametrize(
    "sample",
    [
        answered(1000.0, tokens=None, ttft_ms=100.0),
        answered(1000.0, tokens=1, ttft_ms=100.0),
        answered(1000.0, tokens=10),
        Sample(success=True, e2e_ms=100.0, ttft_ms=100.0, completion_tokens=10),
    ],
    ids=["uncounted", "one token", "no first token", "all in one piece"],
)
def test_time_per_token_is_unknown_where_it_cannot_be_told(sample: Sample) -> None:
    assert sample.tpot_ms is None


def test_speed_is_all_tokens_over_all_time() -> None:
    assert tokens_per_second([answered(1000.0, 10), answered(3000.0, 70), answered(9000.0), FAILED]) == 20.0
    assert tokens_per_second([answered(1000.0)]) is None


def test_failures_are_counted_and_flatter_nothing() -> None:
    metrics = summed_up(answered(100.0, 10, 50.0), FAILED, answered(300.0, 10, 70.0))
    assert (metrics.test_count, metrics.failures, metrics.total_inferences) == (3, 1, 3)
    assert metrics.success_rate == pytest.approx(2 / 3)
    assert metrics.average_latency == 200.0
    assert metrics.ttft_ms == Distribution(p50=60.0, min=50.0, max=70.0, samples=2)
    assert metrics.first_request_ms is None


def test_a_model_that_never_answered_has_no_latency() -> None:
    metrics = summed_up(msgspec.structs.replace(FAILED, warmup=True), FAILED, FAILED)
    assert metrics.success_rate == 0.0
    assert (metrics.average_latency, metrics.tokens_per_second, metrics.first_request_ms) == (None, None, None)
    assert metrics.e2e_ms == Distribution()


def test_the_figures_have_the_contracts_names() -> None:
    metrics = summed_up(answered(900.0, ttft_ms=800.0, warmup=True), answered(100.0))
    names = set(msgspec.to_builtins(metrics))
    assert names >= {
        *("averageLatency", "tokensPerSecond", "totalInferences", "successRate", "lastBenchmarked", "memoryUsage"),
        *("ttftMs", "tpotMs", "itlMs", "e2eMs", "coldStartMs", "testCount", "failures", "mode", "formulaVersion"),
    }
    assert set(msgspec.to_builtins(metrics.ttft_ms)) == {"p50", "p90", "p95", "p99", "min", "max", "samples"}
    assert metrics.first_request_ms == 800.0
    assert metrics.last_benchmarked == NOON


def test_several_tokens_in_a_chunk_make_a_model_neither_faster_nor_slower() -> None:
    one = answered(200.0 + 31 * 10, 32, 200.0, gaps_ms=(10.0,) * 31)
    four = answered(200.0 + 7 * 40, 32, 200.0, gaps_ms=(40.0,) * 7)
    assert one.tpot_ms == pytest.approx(10.0)
    assert four.tpot_ms == pytest.approx(10.0)
    assert output_tokens_per_second([one, four]) == pytest.approx(100.0)


def test_reasoning_that_is_not_shown_is_not_taken_for_fast_generation() -> None:
    hidden = answered(1200.0, 110, 1100.0, gaps_ms=(1.0,) * 9, reasoning_tokens=100)
    shown = answered(1200.0, 110, 1100.0, gaps_ms=(1.0,) * 109, reasoning_tokens=100, first_answer_ms=1150.0)
    assert hidden.tpot_ms == pytest.approx(100 / 9)
    assert shown.tpot_ms == pytest.approx(100 / 109)


def test_what_a_cache_had_flatters_nothing() -> None:
    fresh = answered(400.0, 10, 200.0, prompt_tokens=100, cached_tokens=20)
    hit = answered(210.0, 10, 10.0, prompt_tokens=100, cached_tokens=60)
    metrics = summed_up(fresh, hit)
    assert (metrics.ttft_ms, metrics.average_latency) == (Distribution(p50=200.0, min=200.0, max=200.0, samples=1), 400)
    assert (metrics.cache_hits, metrics.cached_tokens, metrics.test_count, metrics.failures) == (1, 80, 2, 0)
    assert prompt_tokens_per_second([fresh, hit]) == pytest.approx(400.0)


# Several callers.


def test_the_speed_of_a_level_is_what_all_callers_get_while_all_are_busy() -> None:
    # Two callers, four requests of a second and ten tokens each; the last begins at 3 s, alone from 4 s on.
    times = [(0, True), (0, True), (1000, False), (1000, False), (2000, False), (2000, False), (3000, False)]
    samples = [
        answered(1000.0, 10, 500.0, started_ms=float(started), ended_ms=1000.0, warmup=warmup, concurrency=2)
        for started, warmup in times
    ]
    level = level_figures(samples)
    assert (level.concurrency, level.requests, level.failures) == (2, 5, 0)
    assert level.tokens_per_second == pytest.approx(20.0)
    assert level.requests_per_second == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("speeds", "failures", "over"),
    [([10.0], 0, False), ([10.0, 20.0], 0, False), ([10.0, 10.9], 0, True), ([10.0, 20.0], 2, True), ([None], 0, True)],
)
def test_a_model_is_saturated_when_more_callers_bring_no_more(
    speeds: list[float | None], failures: int, over: bool
) -> None:
    assert saturated(speeds, failures, 20) is over
