"""The quick start's score, to the letter, and nothing for what was not measured."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from noa.models import ModelStatus, PerformanceMetrics, RegistryEntry
from noa.selection.rank import auto_switch_score, best

MEASURED = PerformanceMetrics(average_latency=500.0, tokens_per_second=50.0, success_rate=0.9, total_inferences=3)


def entry(key: str, metrics: PerformanceMetrics | None) -> RegistryEntry:
    return RegistryEntry(
        key=key,
        id=key,
        name=key,
        provider="fake",
        context_window=None,
        max_tokens=None,
        capabilities=(),
        metadata={},
        status=ModelStatus.AVAILABLE,
        registered_at=datetime(2026, 1, 1, tzinfo=UTC),
        performance_metrics=metrics,
    )


@pytest.mark.parametrize(
    ("latency", "speed", "success", "score"),
    [(500.0, 50.0, 0.9, 0.45 + 0.15 + 0.1), (0.0, 100.0, 1.0, 1.0), (9000.0, 900.0, 0.0, 0.3), (1000.0, 0.0, 0.0, 0.0)],
)
def test_the_score_is_the_quick_starts(latency: float, speed: float, success: float, score: float) -> None:
    metrics = PerformanceMetrics(average_latency=latency, tokens_per_second=speed, success_rate=success)
    assert auto_switch_score(metrics) == pytest.approx(score)


@pytest.mark.parametrize("unknown", ["average_latency", "tokens_per_second", "success_rate"])
def test_what_was_not_measured_has_no_score(unknown: str) -> None:
    assert auto_switch_score(msgspec.structs.replace(MEASURED, **{unknown: None})) is None


def test_the_best_is_the_highest_of_those_that_were_measured() -> None:
    worse = msgspec.structs.replace(MEASURED, success_rate=0.1)
    found = best([entry("unknown", None), entry("worse", worse), entry("good", MEASURED)])
    assert found is not None
    assert found[0].key == "good"
    assert found[1] == pytest.approx(0.7)
    assert best([entry("unknown", None), entry("half", PerformanceMetrics(success_rate=1.0))]) is None
