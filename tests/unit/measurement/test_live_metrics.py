"""Live figures: moving averages over real requests, and nothing invented."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from noa.errors import ValidationError
from noa.measurement.live import HISTORY_LIMIT, LiveMetrics, ServedRequest
from noa.models import PerformanceMetrics

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_before_the_first_request_nothing_is_known() -> None:
    live = LiveMetrics()
    assert live.metrics() == PerformanceMetrics()
    assert live.ttft_ms is None


def test_the_first_request_sets_the_averages() -> None:
    live = LiveMetrics()
    live.record(200.0, 10, True, NOON, ttft_ms=40.0)
    assert live.metrics() == PerformanceMetrics(
        average_latency=200.0, tokens_per_second=50.0, total_inferences=1, success_rate=1.0
    )
    assert live.ttft_ms == 40.0


def test_later_requests_move_the_averages_by_a_fifth() -> None:
    live = LiveMetrics()
    live.record(200.0, 10, True, NOON, ttft_ms=40.0)
    live.record(400.0, 40, True, NOON, ttft_ms=90.0)
    metrics = live.metrics()
    assert metrics.average_latency == pytest.approx(240.0)
    assert metrics.tokens_per_second == pytest.approx(60.0)
    assert live.ttft_ms == pytest.approx(50.0)
    assert metrics.total_inferences == 2


def test_a_failure_lowers_the_success_rate_and_makes_nothing_faster() -> None:
    live = LiveMetrics()
    live.record(200.0, 10, True, NOON, ttft_ms=40.0)
    live.record(1.0, 1000, False, NOON, ttft_ms=1.0)
    metrics = live.metrics()
    assert metrics.success_rate == pytest.approx(0.8)
    assert (metrics.average_latency, metrics.tokens_per_second, live.ttft_ms) == (200.0, 50.0, 40.0)
    assert metrics.total_inferences == 2


def test_tokens_nobody_counted_are_not_taken_for_none() -> None:
    live = LiveMetrics()
    live.record(200.0, None, True, NOON)
    live.record(0.0, 5, True, NOON)
    assert live.metrics().tokens_per_second is None


def test_restored_figures_go_on_where_they_stopped() -> None:
    first = LiveMetrics()
    first.record(200.0, 10, True, NOON)
    first.benchmarked(NOON)
    restored = LiveMetrics(first.metrics())
    for live in (first, restored):
        live.record(400.0, 40, False, NOON)
    assert restored.metrics() == first.metrics()
    assert restored.metrics().last_benchmarked == NOON


def test_the_history_holds_the_latest_requests_oldest_first() -> None:
    live = LiveMetrics()
    for number in range(HISTORY_LIMIT + 5):
        live.record(float(number), number, True, NOON + timedelta(seconds=number), ttft_ms=1.0)
    history = live.history()
    assert len(history) == HISTORY_LIMIT
    assert history[0] == ServedRequest(
        at=NOON + timedelta(seconds=5), latency_ms=5.0, success=True, tokens=5, ttft_ms=1.0
    )
    assert history[-1].latency_ms == HISTORY_LIMIT + 4


@pytest.mark.parametrize("latency", [-1.0, math.nan, math.inf])
def test_a_latency_that_is_none_is_refused_and_counts_nowhere(latency: float) -> None:
    live = LiveMetrics()
    with pytest.raises(ValidationError, match="latency"):
        live.record(latency, 1, True, NOON)
    assert live.metrics().total_inferences == 0
