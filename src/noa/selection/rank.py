"""Which of several models should serve, by what was measured of them."""

from __future__ import annotations

from collections.abc import Iterable

from noa.models import PerformanceMetrics, RegistryEntry


def auto_switch_score(metrics: PerformanceMetrics) -> float | None:
    """The quick start's score, 0 to 1: ``0.5·success + 0.3·min(tokens/s ÷ 100, 1) + 0.2·(1 − min(latency ÷ 1 s, 1))``.

    ``None`` while any of the three was not measured: an unknown figure is not a bad one.
    """
    success, speed, latency = metrics.success_rate, metrics.tokens_per_second, metrics.average_latency
    if success is None or speed is None or latency is None:
        return None
    return 0.5 * success + 0.3 * min(speed / 100, 1.0) + 0.2 * (1.0 - min(latency / 1000, 1.0))


def best(entries: Iterable[RegistryEntry]) -> tuple[RegistryEntry, float] | None:
    """The measured model with the highest score, and the score; ``None`` if none was measured."""
    scored = (
        (entry, score)
        for entry in entries
        if entry.performance_metrics is not None and (score := auto_switch_score(entry.performance_metrics)) is not None
    )
    return max(scored, key=lambda pair: pair[1], default=None)
