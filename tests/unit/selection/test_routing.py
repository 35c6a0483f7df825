"""Choosing by measurement finds the best model, and finds it again when the models change places.

Three made-up models answer 10 requests a second. Nothing here waits: time is a number.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from noa.measurement.estimates import Estimates, Observation
from noa.models import ModelCapability
from noa.selection.candidate import Candidate, Prediction
from noa.selection.decision import Decision, ExploreBudget, decide
from noa.selection.wish import Objective, Wish

CHAT = (ModelCapability.CHAT_COMPLETION,)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
PER_SECOND = 10
OUTPUT_TOKENS = 20


class World(msgspec.Struct, frozen=True):
    """How one model really is. It is fast, cheap or reliable; none is all of it."""

    ttft_ms: float
    tpot_ms: float
    cost_usd: float
    failures: float

    @property
    def latency_ms(self) -> float:
        return self.ttft_ms + (OUTPUT_TOKENS - 1) * self.tpot_ms


FAST = World(80, 4, 0.004, 0.03)
CHEAP = World(300, 10, 0.001, 0.02)
SOLID = World(200, 8, 0.003, 0.0)


class Router:
    """Chooses by what it has seen, as the server does."""

    def __init__(self, wish: Wish, seed: int) -> None:
        self.wish = wish
        self.dice = random.Random(seed)
        self.estimates = {key: Estimates() for key in "abc"}
        self.budget = ExploreBudget()
        self.decisions: list[Decision] = []

    def pick(self, now_s: float, worlds: dict[str, World], busy: list[str]) -> str:
        candidates = [self._candidate(key, worlds[key].cost_usd, now_s, busy.count(key)) for key in worlds]
        may_explore = self.budget.earn(self.wish.explore)
        decision = decide(self.wish, candidates, at=NOW, draw=self.dice.random, may_explore=may_explore)
        if decision.explored:
            self.budget.spend()
        self.decisions.append(decision)
        assert decision.chosen is not None
        return decision.chosen

    def _candidate(self, key: str, cost_usd: float, now_s: float, busy: int) -> Candidate:
        found = self.estimates[key].estimate(now_s, streamed=True, prompt_tokens=50, output_tokens=OUTPUT_TOKENS)
        prediction = Prediction(
            latency_ms=found.latency_ms,
            ttft_ms=found.ttft_ms,
            cost_usd=cost_usd,
            success_rate=found.success_rate,
            success_margin=found.success_margin or 0.0,
            unsettled=found.unsettled,
            samples=found.samples,
            age_s=found.age_s,
        )
        return Candidate(
            key=key,
            provider="p",
            capabilities=CHAT,
            context_window=None,
            ready=True,
            busy=busy,
            prediction=prediction,
        )

    def saw(self, key: str, world: World, now_s: float) -> bool:
        success = self.dice.random() >= world.failures
        jitter = self.dice.uniform(0.9, 1.1)
        self.estimates[key].observe(
            Observation(
                at_s=now_s,
                success=success,
                streamed=True,
                latency_ms=world.latency_ms * jitter,
                ttft_ms=world.ttft_ms * jitter,
                prompt_tokens=50,
                output_tokens=OUTPUT_TOKENS,
            )
        )
        return success


MEASURES: dict[Objective, Callable[[World], float]] = {
    Objective.SPEED: lambda world: world.latency_ms,
    Objective.COST: lambda world: world.cost_usd,
    Objective.RELIABILITY: lambda world: 1 - world.failures,
}


def run(objective: Objective, seed: int, explore: float = 0.05) -> tuple[list[float], list[float]]:
    """What each request was like: 400 of them, then 600 more after the models changed places."""
    router = Router(Wish(capabilities=CHAT, prefer=objective, explore=explore), seed)
    before, after = (
        dict(zip("abc", (FAST, CHEAP, SOLID), strict=True)),
        dict(zip("abc", (SOLID, FAST, CHEAP), strict=True)),
    )
    measured: list[float] = []
    under_way: list[tuple[float, str, World]] = []
    for number in range(1000):
        worlds, now_s = before if number < 400 else after, number / PER_SECOND
        for end_s, key, world in under_way:
            if end_s <= now_s:
                router.saw(key, world, end_s)
        under_way = [each for each in under_way if each[0] > now_s]
        key = router.pick(now_s, worlds, [key for _, key, _ in under_way])
        under_way.append((now_s + worlds[key].latency_ms / 1000, key, worlds[key]))
        measured.append(MEASURES[objective](worlds[key]))
    return measured[200:400], measured[700:]


@pytest.mark.parametrize("objective", list(MEASURES))
@pytest.mark.parametrize("seed", range(40))
def test_it_stays_near_an_oracle_before_and_after_the_models_change_places(objective: Objective, seed: int) -> None:
    values = [MEASURES[objective](world) for world in (FAST, CHEAP, SOLID)]
    oracle = max(values) if objective is Objective.RELIABILITY else min(values)
    for requests in run(objective, seed):
        mean = sum(requests) / len(requests)
        assert abs(mean - oracle) <= 0.05 * oracle, f"{mean:.4f} instead of {oracle:.4f}"


def test_without_exploring_it_never_learns_that_another_became_better() -> None:
    _, after = run(Objective.SPEED, 1, explore=0.0)
    assert sum(after) / len(after) > 1.05 * FAST.latency_ms
