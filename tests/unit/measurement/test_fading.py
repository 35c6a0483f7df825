"""How values were spread lately: as of all of them where they are as old, and for the newer the more where not."""

from __future__ import annotations

import random

import pytest

from noa.measurement.fading import HALF_LIFE_S, WINDOW, FadingValues, weighted_quantile
from noa.measurement.samples import Distribution, distribution, quantile


def spread(*values: tuple[float, float]) -> Distribution:
    fading = FadingValues()
    for value, at_s in values:
        fading.add(value, at_s)
    return fading.distribution()


def test_before_the_first_value_nothing_is_known() -> None:
    assert FadingValues().distribution() == Distribution()


def test_values_of_the_same_age_are_spread_as_in_a_profile() -> None:
    values = [random.Random(5).uniform(0, 1000) for _ in range(WINDOW)]
    got, exact = spread(*((value, 7.0) for value in values)), distribution(values)
    for field in Distribution.__struct_fields__:
        assert getattr(got, field) == pytest.approx(getattr(exact, field)), field


def test_a_percentile_is_told_only_where_the_values_are_worth_enough() -> None:
    assert spread(*((1.0, 0.0) for _ in range(9))).p90 is None
    assert spread(*((1.0, 0.0) for _ in range(10))).p90 == 1.0
    aged = spread(*((1.0, 0.0) for _ in range(10)), (2.0, 20 * HALF_LIFE_S))
    assert (aged.samples, aged.p90) == (1, None), "ten that hardly count beside a new one are worth next to nothing"


def test_newer_values_count_for_more_and_old_ones_alone_for_as_much_as_ever() -> None:
    old, new = [(100.0, 0.0)] * 50, [(200.0, 4 * HALF_LIFE_S)] * 20
    assert spread(*old).p50 == 100.0
    assert spread(*old, *new).p50 == 200.0
    assert spread(*old, *((value, 0.0) for value, _ in new)).p50 == 100.0


def test_of_very_many_the_oldest_go() -> None:
    got = spread(*((float(number), 0.0) for number in range(WINDOW + 100)))
    assert (got.min, got.max, got.samples) == (100.0, WINDOW + 99.0, WINDOW)


def test_a_quantile_of_equal_weights_is_the_plain_one() -> None:
    values = sorted(random.Random(3).uniform(0, 10) for _ in range(37))
    for fraction in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        weighted = [(value, 0.25) for value in values]
        assert weighted_quantile(weighted, fraction) == pytest.approx(quantile(values, fraction))
