"""What the next request would take, by those before it."""

from __future__ import annotations

from typing import Any

import pytest

from noa.measurement.estimates import Estimate, Estimates, Observation


def seen(at_s: float, latency_ms: float = 100.0, *, success: bool = True, **more: Any) -> Observation:
    return Observation(at_s=at_s, success=success, streamed=True, latency_ms=latency_ms, **more)


def estimate(estimates: Estimates, now_s: float, *, output_tokens: int = 10, prompt_tokens: int = 50) -> Estimate:
    return estimates.estimate(now_s, streamed=True, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def test_nothing_is_known_of_a_model_that_was_never_asked() -> None:
    assert estimate(Estimates(), 0.0) == Estimate()


def test_longer_answers_take_longer_by_the_line_through_those_seen() -> None:
    estimates = Estimates()
    for number in range(20):
        tokens = 10 + number
        estimates.observe(seen(number, 200 + 5 * tokens, output_tokens=tokens, ttft_ms=200.0))
    found = estimate(estimates, 20.0, output_tokens=100)
    assert found.latency_ms == pytest.approx(700)
    assert found.ttft_ms == pytest.approx(200)


def test_what_was_seen_of_long_prompts_is_kept_apart() -> None:
    estimates = Estimates()
    estimates.observe(seen(0, 100, prompt_tokens=50))
    estimates.observe(seen(1, 9_000, prompt_tokens=20_000))
    assert estimate(estimates, 2).latency_ms == 100
    assert estimate(estimates, 2, prompt_tokens=10_000).latency_ms == 9_000


def test_a_model_that_changed_is_believed_within_seconds() -> None:
    estimates = Estimates()
    for number in range(100):
        estimates.observe(seen(number / 10, 500))
    for number in range(3):
        estimates.observe(seen(60 + number, 100))
    latency_ms = estimate(estimates, 63).latency_ms
    assert latency_ms is not None
    assert latency_ms < 300


def test_an_answer_much_faster_than_expected_leaves_it_open_how_the_model_is() -> None:
    estimates = Estimates()
    for number in range(5):
        estimates.observe(seen(number, 500))
    assert not estimate(estimates, 5).unsettled
    estimates.observe(seen(6, 900))
    assert not estimate(estimates, 6).unsettled, "slower is no reason to ask again"
    estimates.observe(seen(7, 100))
    assert estimate(estimates, 7).unsettled


def test_a_failure_after_a_silence_is_looked_at_once_more_and_not_again() -> None:
    estimates = Estimates()
    estimates.observe(seen(0))
    estimates.observe(seen(1, success=False))
    assert not estimate(estimates, 1).unsettled
    estimates.observe(seen(30, success=False))
    assert estimate(estimates, 30).unsettled
    estimates.observe(seen(31, success=False))
    assert not estimate(estimates, 31).unsettled


def test_a_failure_leaves_open_what_was_open_and_a_second_settles_it() -> None:
    estimates = Estimates()
    estimates.observe(seen(0, 500))
    estimates.observe(seen(1, 100))
    estimates.observe(seen(2, success=False))
    assert estimate(estimates, 2).unsettled
    estimates.observe(seen(3, success=False))
    assert not estimate(estimates, 3).unsettled


def test_success_is_believed_of_the_unknown_and_learned_from_the_known() -> None:
    estimates = Estimates()
    estimates.observe(seen(0))
    first = estimate(estimates, 0)
    for number in range(100):
        estimates.observe(seen(number / 10, success=number % 2 == 0))
    later = estimate(estimates, 10)
    assert first.success_rate == pytest.approx(0.993, abs=0.001)
    assert later.success_rate == pytest.approx(0.5, abs=0.05)
    assert later.success_margin is not None
    assert later.success_margin < 0.2
    assert later.samples == 101
