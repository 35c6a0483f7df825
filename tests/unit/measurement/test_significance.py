"""Intervals and tests that assume nothing about how times are distributed."""

from __future__ import annotations

import itertools
import random

import pytest

from noa.measurement.significance import EXACT_LIMIT, median_interval, paired_p_value


def test_five_values_are_too_few_for_an_interval() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None


@pytest.mark.parametrize(
    ("count", "ranks", "covered"),
    [(6, (1, 6), 0.96875), (10, (2, 9), 0.978515625), (20, (6, 15), 0.95861053)],
)
def test_intervals_are_those_of_the_tables(count: int, ranks: tuple[float, float], covered: float) -> None:
    found = median_interval([float(number) for number in range(1, count + 1)])
    assert found is not None
    assert (found.low, found.high) == ranks
    assert found.confidence == pytest.approx(covered)


def test_an_interval_holds_the_median_as_often_as_it_says() -> None:
    chance, held = random.Random(7), 0
    for _ in range(2000):
        found = median_interval(sorted(chance.expovariate(1.0) for _ in range(15)))
        assert found is not None
        held += found.low <= 0.6931 <= found.high
    assert held / 2000 == pytest.approx(0.9648, abs=0.015)


@pytest.mark.parametrize("differences", [[1, 2, 3, 4, 5], [-1, 2, 3, -4, 5, 6], [1, 1, -1, 2, 2, 3], [-3, -2, -1, 4]])
def test_p_values_are_those_of_counting_every_choice_of_signs(differences: list[float]) -> None:
    magnitudes = sorted(map(abs, differences))
    ranks = {
        each: sum(i + 1 for i, m in enumerate(magnitudes) if m == each) / magnitudes.count(each) for each in magnitudes
    }
    rest = [ranks[abs(each)] for each in differences]
    below = sum(rank for rank, each in zip(rest, differences, strict=True) if each < 0)
    lesser = min(below, sum(rest) - below)
    sums = [sum(chosen) for size in range(len(rest) + 1) for chosen in itertools.combinations(rest, size)]
    expected = min(1.0, 2 * sum(each <= lesser for each in sums) / len(sums))
    assert paired_p_value(differences) == pytest.approx(expected)


def test_ten_of_ten_to_one_side_are_no_chance() -> None:
    assert paired_p_value([0.1 * number for number in range(1, 11)]) == pytest.approx(2 / 1024)


def test_many_differences_are_approximated_closely() -> None:
    chance = random.Random(3)
    differences = [chance.gauss(0.25, 1.0) for _ in range(EXACT_LIMIT)]
    one_more = paired_p_value([*differences, 0.001])
    assert one_more == pytest.approx(paired_p_value(differences), rel=0.15)


def test_nothing_to_compare_is_no_difference() -> None:
    assert paired_p_value([]) == 1.0
    assert paired_p_value([0.0, 0.0]) == 1.0
