"""The formulas: exact, and silent where they know too little."""

from __future__ import annotations

import random
import statistics
from datetime import UTC, datetime

import msgspec
import pytest

from noa.measurement.samples import Distribution, Sample, distribution, quantile, summarise, tokens_per_second

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FAILED = Sample(success=False, e2e_ms=5.0, ttft_ms=1.0, completion_tokens=100, error_code="CONNECTION_ERROR")


def answered(e2e_ms: float, tokens: int | None = None, ttft_ms: float | None = None) -> Sample:
    return Sample(success=True, e2e_ms=e2e_ms, completion_tokens=tokens, ttft_ms=ttft_ms, gaps_ms=(1.0,))


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
    metrics = summarise(
        [answered(100.0, 10, 50.0), FAILED, answered(300.0, 10, 70.0)], cold=None, at=NOON, mode="quick"
    )
    assert (metrics.test_count, metrics.failures, metrics.total_inferences) == (3, 1, 3)
    assert metrics.success_rate == pytest.approx(2 / 3)
    assert metrics.average_latency == 200.0
    assert metrics.ttft_ms == Distribution(p50=60.0, min=50.0, max=70.0, samples=2)
    assert metrics.cold_start_ms is None


def test_a_model_that_never_answered_has_no_latency() -> None:
    metrics = summarise([FAILED, FAILED], cold=FAILED, at=NOON, mode="quick")
    assert metrics.success_rate == 0.0
    assert (metrics.average_latency, metrics.tokens_per_second, metrics.cold_start_ms) == (None, None, None)
    assert metrics.e2e_ms == Distribution()


def test_the_figures_have_the_contracts_names() -> None:
    metrics = summarise([answered(100.0)], cold=answered(900.0, ttft_ms=800.0), at=NOON, mode="quick")
    names = set(msgspec.to_builtins(metrics))
    assert names == {
        *("averageLatency", "tokensPerSecond", "totalInferences", "successRate", "lastBenchmarked", "memoryUsage"),
        *("ttftMs", "tpotMs", "e2eMs", "coldStartMs", "testCount", "failures", "mode", "formulaVersion"),
    }
    assert metrics.cold_start_ms == 800.0
    assert metrics.last_benchmarked == NOON
