"""Who is eliminated and why, who is best, and what a decision tells of it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.errors import ValidationError
from noa.models import ModelCapability
from noa.selection.candidate import Candidate, Prediction
from noa.selection.decision import Decision, ExploreBudget, decide
from noa.selection.wish import TASKS, Objective, Wish, capability_of, is_auto, split_auto

AT = datetime(2026, 11, 23, tzinfo=UTC)
DAY = date(2026, 11, 1)
CHAT, VISION = ModelCapability.CHAT_COMPLETION, ModelCapability.VISION


def candidate(key: str, *, busy: float = 0.0, ready: bool = True, unfit: str | None = None, **known: Any) -> Candidate:
    return Candidate(
        key=f"p:{key}",
        provider="p",
        capabilities=known.pop("capabilities", (CHAT,)),
        context_window=known.pop("context_window", 8_192),
        ready=ready,
        busy=busy,
        unfit=unfit,
        prediction=Prediction(**known),
    )


def choose(wish: Wish, *candidates: Candidate, dice: float = 0.0, may_explore: bool = False) -> Decision:
    return decide(wish, candidates, at=AT, draw=lambda: dice, may_explore=may_explore)


def eliminated(decision: Decision) -> dict[str, str]:
    return {each.key: each.eliminated for each in decision.candidates if each.eliminated}


@pytest.mark.parametrize(
    ("wish", "known", "reason"),
    [
        (Wish(capabilities=(VISION,)), {}, "not known to do vision"),
        (Wish(models=("p:b",)), {}, "not among the models of the request"),
        (Wish(providers=("q",), policy="house"), {}, "not of the providers of house"),
        (Wish(min_context=10_000), {}, "its context window is 8,192 tokens only"),
        (Wish(min_context=10), {"context_window": None}, "its context window is unknown"),
        (Wish(max_cost=0.01), {}, "its price is unknown, so it may not be shown to stay under the limit"),
        (Wish(max_cost=0.01), {"cost_usd": 0.02}, "it would cost 0.020000 USD, more than 0.01"),
        (Wish(max_ttft_ms=100), {"ttft_ms": 250.0}, "its first token would take 250 ms, more than 100"),
        (Wish(min_success_rate=0.95), {"success_rate": 0.9}, "only 90.0% of its requests succeed"),
    ],
)
def test_who_does_not_meet_a_condition_is_eliminated_with_the_reason(
    wish: Wish, known: dict[str, Any], reason: str
) -> None:
    decision = choose(wish, candidate("a", **known))
    assert decision.chosen is None
    assert eliminated(decision) == {"p:a": reason}
    assert decision.reason == "No model meets the conditions."


def test_what_can_only_be_known_by_serving_eliminates_nobody() -> None:
    assert choose(Wish(max_ttft_ms=100, min_success_rate=0.99), candidate("a")).chosen == "p:a"


def test_who_is_in_trouble_is_eliminated_for_now() -> None:
    decision = choose(Wish(), candidate("a", unfit="its breaker is open"), candidate("b"))
    assert decision.order == ("p:b",)
    assert [each.for_now for each in decision.candidates] == [True, False]


@pytest.mark.parametrize(
    ("prefer", "best"), [(Objective.SPEED, "p:fast"), (Objective.COST, "p:cheap"), (Objective.RELIABILITY, "p:solid")]
)
def test_the_objective_decides(prefer: Objective, best: str) -> None:
    decision = choose(
        Wish(prefer=prefer),
        candidate("fast", latency_ms=100.0, cost_usd=0.03, success_rate=0.97),
        candidate("cheap", latency_ms=900.0, cost_usd=0.001, success_rate=0.96),
        candidate("solid", latency_ms=500.0, cost_usd=0.02, success_rate=0.999),
    )
    assert decision.chosen == best
    assert decision.order[0] == best
    assert set(decision.order) == {"p:fast", "p:cheap", "p:solid"}
    assert {each.rank for each in decision.candidates} == {1, 2, 3}


def test_balanced_prefers_who_is_good_at_everything() -> None:
    decision = choose(
        Wish(prefer=Objective.BALANCED),
        candidate("fast", latency_ms=100.0, cost_usd=0.03, success_rate=0.99),
        candidate("cheap", latency_ms=900.0, cost_usd=0.001, success_rate=0.99),
        candidate("middle", latency_ms=150.0, cost_usd=0.003, success_rate=0.99),
    )
    assert decision.chosen == "p:middle"


def test_an_unknown_price_never_wins_on_cost() -> None:
    decision = choose(
        Wish(prefer=Objective.COST), candidate("unknown", latency_ms=1.0), candidate("dear", cost_usd=5.0)
    )
    assert decision.order == ("p:dear", "p:unknown")


def test_the_cheapest_that_is_good_comes_before_the_cheapest_and_the_cheapest_is_the_last_resort() -> None:
    poor = candidate("poor", cost_usd=0.001, success_rate=0.8)
    good = candidate("good", cost_usd=0.002, success_rate=0.99)
    assert choose(Wish(prefer=Objective.COST), poor, good).order == ("p:good", "p:poor")
    assert choose(Wish(prefer=Objective.COST), poor).chosen == "p:poor"
    few_samples = candidate("poor", cost_usd=0.001, success_rate=0.9, success_margin=0.3)
    assert choose(Wish(prefer=Objective.COST), few_samples, good).chosen == "p:poor"


def test_of_those_as_good_a_ready_and_idle_one_is_chosen() -> None:
    cold = candidate("cold", latency_ms=100.0, ready=False)
    busy = candidate("busy", latency_ms=101.0, busy=2.0)
    idle = candidate("idle", latency_ms=104.0)
    slow = candidate("slow", latency_ms=200.0)
    assert choose(Wish(prefer=Objective.SPEED), cold, busy, idle, slow).chosen == "p:idle"
    assert choose(Wish(prefer=Objective.SPEED), cold, busy).chosen == "p:busy"
    assert choose(Wish(prefer=Objective.SPEED), cold).chosen == "p:cold"


def test_of_two_drawn_at_random_the_less_busy_one_is_chosen() -> None:
    crowd = [candidate(str(number), latency_ms=100.0, busy=float(number + 1)) for number in range(4)]
    assert choose(Wish(prefer=Objective.SPEED), *crowd, dice=0.99).chosen == "p:2", "of 3 and 2"
    assert choose(Wish(prefer=Objective.SPEED), *crowd, dice=0.0).chosen == "p:0", "of 0 and 1"


def test_exploring_takes_the_stalest_that_could_win_and_nobody_who_had_to_be_loaded() -> None:
    best = candidate("best", latency_ms=100.0, age_s=0.1)
    fresh = candidate("fresh", latency_ms=300.0, age_s=2.0)
    stale = candidate("stale", latency_ms=300.0, age_s=60.0)
    cold = candidate("cold", latency_ms=300.0, age_s=600.0, ready=False)
    decision = choose(Wish(prefer=Objective.SPEED), best, fresh, stale, cold, may_explore=True)
    assert (decision.chosen, decision.explored) == ("p:stale", True)
    assert decision.order[:2] == ("p:stale", "p:best"), "the best one is the first to help out"
    assert not choose(Wish(prefer=Objective.SPEED), best, fresh, cold, may_explore=True).explored
    dear = candidate("dear", cost_usd=2.0, age_s=600.0)
    cheap = candidate("cheap", cost_usd=1.0, age_s=0.1)
    assert not choose(Wish(prefer=Objective.COST), cheap, dear, may_explore=True).explored


def test_who_is_measured_just_now_is_not_explored_once_more() -> None:
    best = candidate("best", latency_ms=100.0, age_s=0.1)
    stale = candidate("stale", latency_ms=300.0, age_s=60.0)
    asked = candidate("asked", latency_ms=300.0, age_s=90.0, busy=1.0)
    assert choose(Wish(prefer=Objective.SPEED), best, stale, asked, may_explore=True).chosen == "p:stale"
    assert not choose(Wish(prefer=Objective.SPEED), best, asked, may_explore=True).explored


def test_exploring_prefers_whose_last_answer_leaves_it_open_how_it_is() -> None:
    best = candidate("best", latency_ms=100.0, age_s=0.1)
    stale = candidate("stale", latency_ms=300.0, age_s=60.0)
    open_still = candidate("open", latency_ms=300.0, age_s=1.0, unsettled=True)
    assert choose(Wish(prefer=Objective.SPEED), best, stale, open_still, may_explore=True).chosen == "p:open"


def test_the_budget_lets_no_more_than_its_share_explore() -> None:
    budget = ExploreBudget()
    explored = 0
    for _ in range(1000):
        if budget.earn(0.05):
            budget.spend()
            explored += 1
    assert 45 <= explored <= 50
    assert not ExploreBudget().earn(0.0)


def test_a_decision_tells_what_it_rests_on() -> None:
    decision = choose(
        Wish(prefer=Objective.COST, capabilities=(CHAT,)),
        candidate(
            "a",
            cost_usd=0.5,
            latency_ms=10.0,
            samples=12,
            age_s=3.0,
            price_source="catalog",
            price_as_of=date(2026, 11, 1),
        ),
    )
    shown = msgspec.to_builtins(decision)
    assert shown["rule"].startswith("the lowest predicted cost")
    assert shown["reason"] == "p:a has the lowest predicted cost."
    (only,) = shown["candidates"]
    assert only["predictedCostUsd"] == 0.5
    assert (only["samples"], only["dataAgeS"]) == (12, 3.0)
    assert (only["priceSource"], only["priceAsOf"]) == ("catalog", "2026-11-01")


maybe = st.none() | st.floats(0, 1e6, allow_nan=False)


@given(
    prefer=st.sampled_from(Objective),
    rows=st.lists(st.tuples(maybe, maybe, st.none() | st.floats(0, 1), st.booleans(), st.floats(0, 10)), max_size=6),
    dice=st.floats(0, 1, exclude_max=True),
    may_explore=st.booleans(),
)
def test_whoever_may_serve_is_in_the_order_once_and_the_chosen_one_first(
    prefer: Objective, rows: list[tuple[Any, ...]], dice: float, may_explore: bool
) -> None:
    everyone = [
        candidate(str(number), latency_ms=latency, cost_usd=cost, success_rate=success, ready=ready, busy=busy)
        for number, (latency, cost, success, ready, busy) in enumerate(rows)
    ]
    decision = choose(Wish(prefer=prefer), *everyone, dice=dice, may_explore=may_explore)
    assert sorted(decision.order) == sorted(each.key for each in everyone)
    assert decision.chosen == (decision.order[0] if everyone else None)


def test_tasks_and_names() -> None:
    assert capability_of("embedding") is ModelCapability.EMBEDDINGS
    assert set(TASKS.values()) <= set(ModelCapability)
    with pytest.raises(ValidationError, match="chat, embedding"):
        capability_of("dance")
    assert [name for name in ("auto", "auto:speed", "automatic", "", None) if is_auto(name)] == ["auto", "auto:speed"]
    assert split_auto("auto", ()) == (None, None)
    assert split_auto("auto:speed", ()) == (Objective.SPEED, None)
    assert split_auto("auto:house", ("house",)) == (None, "house")
    with pytest.raises(ValidationError, match="speed, cost, balanced, reliability, house"):
        split_auto("auto:home", ("house",))
