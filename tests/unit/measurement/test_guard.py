"""A newcomer is called worse when it is, and not by chance."""

from __future__ import annotations

import random

import pytest

from noa.measurement.guard import Track, how_it_is_worse, rank_sum_z


def track(requests: int, *, failures: float = 0.0, latency_ms: float = 100.0, seed: int = 1) -> Track:
    dice = random.Random(seed)
    made = Track()
    for _ in range(requests):
        made.add(latency_ms * dice.lognormvariate(0, 0.3), success=dice.random() >= failures)
    return made


def worse(newcomer: Track, own: Track, min_requests: int = 20) -> str | None:
    return how_it_is_worse(newcomer, own, max_error_rise=0.05, max_latency_ratio=1.5, min_requests=min_requests)


def test_one_that_fails_much_more_is_worse_and_says_in_numbers() -> None:
    verdict = worse(track(40, failures=0.5), track(400))
    assert verdict is not None
    assert verdict.endswith("of its 40 requests failed, against 0 of 400")


def test_one_that_takes_twice_as_long_is_worse() -> None:
    verdict = worse(track(60, latency_ms=200.0), track(400))
    assert verdict is not None
    assert "more than 1.5 times" in verdict


def test_nothing_is_said_before_enough_was_seen() -> None:
    assert worse(track(19, failures=1.0), track(400)) is None
    assert worse(track(19, failures=1.0), track(400), min_requests=5) is not None


def test_where_everything_fails_the_newcomer_is_not_to_blame() -> None:
    assert worse(track(100, failures=0.5), track(400, failures=0.5, seed=2)) is None


@pytest.mark.parametrize("failures", [0.0, 0.02])
def test_one_that_is_alike_is_hardly_ever_called_worse_however_often_it_is_asked(failures: float) -> None:
    called = 0
    for seed in range(100):
        dice = random.Random(seed)
        newcomer, own = Track(), Track()
        for number in range(600):
            one = newcomer if number % 5 == 0 else own
            one.add(100 * dice.lognormvariate(0, 0.3), success=dice.random() >= failures)
            if one is newcomer and worse(newcomer, own):
                called += 1
                break
    assert called <= 2


def test_the_rank_sum_is_that_of_a_worked_example() -> None:
    # Ours are all larger: U = 9, its mean 4.5 and its variance 3·3·7/12 = 5.25.
    assert rank_sum_z([4, 5, 6], [1, 2, 3]) == pytest.approx(4.5 / 5.25**0.5)
    assert rank_sum_z([1, 2, 3], [1, 2, 3]) == 0.0
    assert rank_sum_z([1.0], []) == 0.0
    assert rank_sum_z([1.0, 1.0], [1.0, 1.0]) == 0.0
