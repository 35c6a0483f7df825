from __future__ import annotations

import random

import pytest
from bench.verdict import judge


def _pairs(slower: float, noise: float, count: int, seed: int) -> tuple[list[float], list[float]]:
    """Costs of two builds on a machine whose speed changes from pair to pair, and a little within each."""
    draw = random.Random(seed)
    moods = [draw.uniform(0.7, 1.6) for _ in range(count)]
    return (
        [200 * mood * draw.gauss(1, noise) for mood in moods],
        [200 * mood * slower * draw.gauss(1, noise) for mood in moods],
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_fifth_more_is_flagged_however_the_speed_of_the_machine_changes(seed: int) -> None:
    assert judge(*_pairs(1.2, 0.05, 10, seed)).is_slower


@pytest.mark.parametrize("seed", range(20))
def test_two_runs_of_the_same_build_are_not(seed: int) -> None:
    verdict = judge(*_pairs(1.0, 0.03, 10, seed))
    assert not verdict.is_slower
    assert not verdict.is_faster


def test_a_sure_difference_too_small_to_matter_is_not_told() -> None:
    assert not judge([100.0] * 10, [102.0] * 10).is_slower


def test_what_costs_less_is_faster() -> None:
    verdict = judge(*_pairs(0.8, 0.02, 10, 1))
    assert verdict.is_faster
    assert 0.75 < verdict.ratio < 0.85


def test_the_same_samples_get_the_same_verdict() -> None:
    pairs = _pairs(1.1, 0.1, 8, 3)
    assert judge(*pairs) == judge(*pairs)
