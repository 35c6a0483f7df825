"""Which failed attempts are followed by another, where, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.errors import (
    AIProviderError,
    ContextLengthError,
    ModelNotFoundError,
    ModelUnavailableError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderTimeoutError,
    RateLimitError,
)
from noa.selection.faults import Fault, judge, judge_admission
from noa.selection.retries import RESERVE, SHARE, Again, Budget, Elsewhere, Failure, GiveUp, Step, next_step

BUSY = ModelUnavailableError("busy", details={"upstream_status": 529})
LIMITED = RateLimitError("slow down")
UNSENT = ProviderConnectionError("refused", details={"sent": False})


def limited(retry_after_s: float) -> RateLimitError:
    return RateLimitError("slow down", retry_after_s=retry_after_s)


def after(error: AIProviderError, **facts: Any) -> Step:
    known: dict[str, Any] = {
        "fault": judge(error),
        "is_fallback": False,
        "repeats": 0,
        "most_repeats": 2,
        "elsewhere": False,
        "ready": False,
        "left_s": 60.0,
        "tokens": 10.0,
        "chance": 0.5,
    }
    return next_step(Failure(error=error, **{**known, **facts}))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (UNSENT, Fault.UNSENT),
        (ProviderTimeoutError("no connection", details={"sent": False}), Fault.UNSENT),
        (ProviderTimeoutError("silent", details={"sent": True}), Fault.FAILED),
        (ProviderResponseError("broken", details={"sent": True}), Fault.FAILED),
        (ProviderResponseError("oops", details={"upstream_status": 500}), Fault.FAILED),
        (LIMITED, Fault.LIMITED),
        (BUSY, Fault.OVERLOADED),
        (ModelUnavailableError("busy", details={"upstream_status": 503}), Fault.OVERLOADED),
        (ModelUnavailableError("was unloaded by force"), Fault.CUT),
        (ContextLengthError("too long"), Fault.DENIED),
        (ProviderAuthenticationError("wrong key"), Fault.DENIED),
    ],
)
def test_each_failure_has_its_fault(error: AIProviderError, fault: Fault) -> None:
    assert judge(error) is fault


def test_without_a_model_nothing_was_sent() -> None:
    assert judge_admission(ModelNotFoundError("gone")) is Fault.UNADMITTED
    assert judge_admission(ContextLengthError("x")) is Fault.UNADMITTED


@pytest.mark.parametrize("error", [BUSY, LIMITED])
def test_a_bare_refusal_is_repeated_once_before_another_is_asked(error: AIProviderError) -> None:
    assert isinstance(after(error, elsewhere=True, ready=True), Again)
    assert after(error, elsewhere=True, ready=True, repeats=1) == Elsewhere()
    assert after(error, elsewhere=True, ready=True, most_repeats=0) == Elsewhere()


def test_who_cannot_be_reached_or_names_a_time_is_not_waited_for_while_another_is_ready() -> None:
    for error in (UNSENT, limited(0.5)):
        assert after(error, elsewhere=True, ready=True) == Elsewhere()
        assert isinstance(after(error, elsewhere=True, ready=False), Again)


@pytest.mark.parametrize(("retry_after_s", "step"), [(1.0, Again(1.05)), (2.0, Again(2.1)), (2.1, GiveUp())])
def test_a_short_wait_that_is_asked_for_is_waited(retry_after_s: float, step: Step) -> None:
    assert after(limited(retry_after_s)) == step


def test_pauses_double_and_half_of_them_is_chance() -> None:
    assert [after(BUSY, repeats=repeats, chance=0.0) for repeats in (0, 1, 2)] == [Again(0.1), Again(0.2), GiveUp()]
    assert after(BUSY, chance=1.0) == Again(0.2)


@pytest.mark.parametrize(
    "error",
    [
        ProviderTimeoutError("silent", details={"sent": True}),
        ProviderResponseError("oops", details={"upstream_status": 500}),
        ProviderResponseError("oops", details={"upstream_status": 502}),
        ModelUnavailableError("was unloaded by force"),
        ContextLengthError("too long"),
        ProviderAuthenticationError("wrong key"),
    ],
)
def test_what_somebody_may_have_worked_on_or_is_the_callers_mistake_is_not_tried_again(error: AIProviderError) -> None:
    assert after(error, elsewhere=True, ready=True) == GiveUp()


def test_a_fallback_that_is_unfit_for_the_request_is_not_the_last_word() -> None:
    assert after(ContextLengthError("too long"), is_fallback=True, elsewhere=True, ready=True) == Elsewhere()
    assert after(ContextLengthError("too long"), is_fallback=True) == GiveUp()


def test_no_pause_helps_an_account_without_credit() -> None:
    broke = RateLimitError("no credit", retryable=False)
    assert after(broke) == GiveUp()
    assert after(broke, elsewhere=True, ready=True) == Elsewhere()


def test_a_spent_budget_ends_repetitions_but_not_the_way_to_who_is_ready() -> None:
    assert after(BUSY, tokens=0.5) == GiveUp(spent=True)
    assert after(BUSY, tokens=0.5, elsewhere=True, ready=False) == GiveUp(spent=True)
    assert after(BUSY, tokens=0.5, elsewhere=True, ready=True) == Elsewhere()


def test_nothing_is_tried_after_the_deadline() -> None:
    assert after(BUSY, left_s=0.0, elsewhere=True, ready=True) == GiveUp()
    assert after(BUSY, left_s=0.05) == GiveUp(), "the pause would outlast it"


@given(st.lists(st.booleans(), max_size=400))
def test_the_budget_allows_a_fifth_of_the_requests_and_a_few(wants: list[bool]) -> None:
    budget, made = Budget(), 0
    for wanted in wants:
        budget.request()
        while wanted and budget.left(0.0) >= 1:
            budget.take(0.0)
            made += 1
    assert made <= RESERVE + SHARE * len(wants) + 1


def test_the_budget_comes_back_with_time() -> None:
    budget = Budget()
    for _ in range(10):
        budget.take(0.0)
    assert budget.left(0.0) < 1
    assert budget.left(4.0) >= 2
    assert budget.left(1000.0) == RESERVE
