"""When a breaker opens, how it is tried again, and that requests always have somewhere to go."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.selection.breaker import Breaker, BreakerRules, BreakerState
from noa.selection.breakers import Breakers, Outcome, Scope, first_choice
from noa.selection.faults import Fault
from noa.selection.retries import Budget

RULES = BreakerRules()
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
KEY, OTHER = "openai:a", "claude:b"


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(RULES.least_failures):
        breaker.failed(now, now)
    assert breaker.state is OPEN
    return breaker


def test_it_opens_at_five_failures_in_a_row_however_well_it_went_before() -> None:
    breaker = Breaker(RULES)
    for _ in range(1000):
        breaker.succeeded(0, 0)
    assert [breaker.failed(moment * 60, moment * 60) for moment in range(1, 5)] == [None] * 4
    assert breaker.failed(300, 300) is OPEN
    assert not breaker.ready(300)


def test_it_opens_when_half_of_the_latest_requests_failed() -> None:
    breaker, results = Breaker(RULES), []
    for moment in range(5):
        breaker.succeeded(moment, moment)
        results.append(breaker.failed(moment, moment))
    assert results == [None, None, None, None, OPEN]
    mostly_well = Breaker(RULES)
    for moment in range(25):
        mostly_well.succeeded(moment, moment)
        mostly_well.succeeded(moment, moment)
        assert mostly_well.failed(moment, moment) is None


@pytest.mark.parametrize("seed", range(20))
def test_where_failures_are_usual_a_few_in_a_row_are_chance_and_an_outage_is_still_noticed_soon(seed: int) -> None:
    breaker, dice = Breaker(RULES), random.Random(seed)
    for number in range(1_000):
        now = number / 10
        tell = breaker.failed if number > 50 and dice.random() < 0.2 else breaker.succeeded
        assert tell(now, now) is None
    results = [breaker.failed(100 + number / 10, 100 + number / 10) for number in range(15)]
    assert OPEN in results


def test_failures_of_long_ago_do_not_open_it() -> None:
    breaker = Breaker(RULES)
    for number in range(20):
        now = number * RULES.window_s / 3
        breaker.succeeded(now, now)
        assert breaker.failed(now, now) is None


def test_after_its_time_one_probe_goes_at_a_time_and_two_that_succeed_close_it() -> None:
    breaker = opened()
    assert not breaker.ready(4.9)
    assert breaker.ready(5.0)
    assert breaker.begin(5.0) is HALF_OPEN
    assert not breaker.ready(5.1), "a probe is under way"
    assert breaker.succeeded(5.5, 5.0) is None
    assert breaker.ready(5.5)
    breaker.begin(5.5)
    assert breaker.succeeded(6.0, 5.5) is CLOSED
    assert breaker.ready(6.0)


def test_each_relapse_doubles_the_time_up_to_the_longest_and_calm_forgets_it() -> None:
    breaker = opened()
    now, waits = 0.0, []
    for _ in range(6):
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        breaker.begin(now)
        assert breaker.failed(now, now) is OPEN
    assert waits == [5, 10, 20, 40, 60, 60]
    now = breaker.open_until
    for _ in range(RULES.probes):
        breaker.begin(now)
        breaker.succeeded(now, now)
    now += RULES.calm_s
    for _ in range(RULES.least_failures):
        breaker.failed(now, now)
    assert breaker.open_until - now == RULES.open_s


def test_what_was_sent_before_a_change_says_nothing_of_what_is_true_since() -> None:
    breaker = opened(now=10)
    assert breaker.succeeded(11, sent_at=3) is None
    assert breaker.state is OPEN
    breaker.begin(15)
    assert breaker.failed(16, sent_at=9) is None
    assert breaker.state is HALF_OPEN
    assert not breaker.ready(16), "the probe is still under way"


def test_a_probe_that_says_nothing_gives_its_place_to_the_next() -> None:
    breaker = opened()
    breaker.begin(5)
    breaker.left(5)
    assert breaker.ready(5)
    breaker.begin(6)
    assert not breaker.ready(6 + RULES.probe_patience_s - 0.1)
    assert breaker.ready(6 + RULES.probe_patience_s), "one that hangs does not keep others away for ever"


def test_to_be_asked_to_slow_down_is_no_failure() -> None:
    breaker = Breaker(RULES)
    assert breaker.limited(0, 0, 30)
    assert not breaker.limited(1, 1, 5), "it cools down already"
    assert (breaker.state, breaker.ready(29.9), breaker.ready(30)) == (CLOSED, False, True)
    bare = Breaker(RULES)
    waits = []
    now = 0.0
    for _ in range(4):
        bare.limited(now, now, None)
        waits.append(bare.cooling_until - now)
        now = bare.cooling_until
    assert waits == [1, 2, 4, 8]
    bare.limited(now, now, 1e9)
    assert bare.cooling_until - now == RULES.longest_cooling_s


@given(
    st.lists(st.tuples(st.floats(0, 40), st.sampled_from(["begin", "ok", "bad", "limit", "left", "late"])), max_size=80)
)
def test_whatever_happens_it_is_tried_again_in_time_and_recovers_with_what_it_guards(
    happenings: list[tuple[float, str]],
) -> None:
    breaker, now, sent_at = Breaker(RULES), 0.0, 0.0
    for pause, what in happenings:
        now += pause
        match what:
            case "begin":
                breaker.begin(now)
                sent_at = now
            case "ok":
                breaker.succeeded(now, now)
            case "bad":
                breaker.failed(now, now)
            case "limit":
                breaker.limited(now, now, None)
            case "left":
                breaker.left(now)
            case "late":
                breaker.failed(now, sent_at)
        longest = max(RULES.longest_open_s, RULES.longest_cooling_s, RULES.probe_patience_s)
        assert breaker.ready_at() <= now + longest
    for _ in range(RULES.probes):
        now = max(now, breaker.ready_at())
        assert breaker.ready(now)
        breaker.begin(now)
        breaker.succeeded(now, now)
    assert breaker.state is CLOSED


# All of them together.


def outcome(key: str, fault: Fault | None, now: float = 0.0, **more: bool) -> Outcome:
    return Outcome(key=key, sent_at=now, fault=fault, **more)


def test_what_never_failed_has_no_breaker() -> None:
    breakers = Breakers()
    assert breakers.begin(KEY, 0) == ()
    assert breakers.ended(outcome(KEY, None), 0) == ()
    assert breakers.figures(0) == []


@pytest.mark.parametrize(
    ("fault", "owned", "out"),
    [
        (Fault.UNSENT, False, {"openai"}),
        (Fault.UNSENT, True, {KEY}),
        (Fault.OVERLOADED, False, {KEY}),
        (Fault.FAILED, False, {KEY}),
        (Fault.DENIED, False, set()),
        (Fault.CUT, False, set()),
    ],
)
def test_a_providers_breaker_counts_what_concerns_all_its_models(fault: Fault, owned: bool, out: set[str]) -> None:
    breakers = Breakers()
    for _ in range(RULES.least_failures):
        breakers.ended(outcome(KEY, fault, owned=owned), 0)
    assert {name for name, state in breakers.states().items() if state is OPEN} == out
    assert breakers.ready("openai:c", 0) == ("openai" not in out)
    assert breakers.ready(OTHER, 0)


def test_a_provider_that_answers_with_errors_can_be_reached() -> None:
    breakers = Breakers()
    for _ in range(RULES.least_failures):
        breakers.ended(outcome(KEY, Fault.UNSENT), 0)
    for now in (5.0, 5.1):
        breakers.begin(KEY, now)
        breakers.ended(outcome(KEY, Fault.FAILED, now), now)
    assert breakers.states() == {"openai": CLOSED, KEY: CLOSED}


def test_an_empty_account_cools_the_provider_down_and_a_limit_only_the_model() -> None:
    breakers = Breakers()
    [turn] = breakers.ended(outcome(KEY, Fault.LIMITED), 0)
    assert (turn.scope, turn.name, turn.state, turn.for_s) == (Scope.MODEL, KEY, None, 1.0)
    assert breakers.ready("openai:c", 0)
    [turn] = breakers.ended(outcome(KEY, Fault.LIMITED, account=True), 0)
    assert (turn.scope, turn.name) == (Scope.PROVIDER, "openai")
    assert not breakers.ready("openai:c", 0)


def test_the_first_that_is_ready_is_asked_and_the_least_bad_if_none_is() -> None:
    breakers = Breakers()
    assert first_choice([KEY, OTHER], breakers, 0) == (0, True)
    breakers.ended(Outcome(key=KEY, sent_at=0, fault=Fault.LIMITED, retry_after_s=30), 0)
    assert first_choice([KEY, OTHER], breakers, 0) == (1, True)
    breakers.ended(Outcome(key=OTHER, sent_at=0, fault=Fault.LIMITED, retry_after_s=40), 0)
    assert first_choice([KEY, OTHER], breakers, 0) == (0, False)
    assert first_choice([OTHER, KEY], breakers, 0) == (1, False)


class Weather:
    """Two upstreams, each of which is down for a while, now and then."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._down_until = dict.fromkeys((KEY, OTHER), -math.inf)

    def pass_to(self, now: float) -> None:
        for key, until in self._down_until.items():
            if now > until and self._chance.random() < 0.002:
                self._down_until[key] = now + self._chance.uniform(1, 40)

    def is_up(self, key: str, now: float) -> bool:
        return now > self._down_until[key]


@pytest.mark.parametrize("seed", range(20))
def test_simulated_outages_reach_no_caller_while_another_can_serve_and_cost_few_attempts(seed: int) -> None:
    """Ten requests a second for ten minutes, each of which goes on to the other upstream as the product does."""
    weather, breakers, budget = Weather(seed), Breakers(), Budget()
    failed_needlessly = attempts = first_served = 0
    moments = [number / 10 for number in range(6000)]
    for now in moments:
        weather.pass_to(now)
        budget.request()
        keys, served = [KEY, OTHER], False
        while keys and not served:
            index, ready = first_choice(keys, breakers, now)
            if len(keys) == 1 and not ready:
                if budget.left(now) < 1:
                    break
                budget.take(now)
            key = keys.pop(index)
            attempts += 1
            breakers.begin(key, now)
            served = weather.is_up(key, now)
            breakers.ended(outcome(key, None if served else Fault.OVERLOADED, now), now)
            first_served += served and key == KEY
        failed_needlessly += not served and any(weather.is_up(key, now) for key in (KEY, OTHER))
    assert failed_needlessly <= 15, "only where both were down so long that the budget was spent"
    assert attempts <= 1.1 * len(moments)
    assert first_served >= 0.3 * len(moments), "the preferred one is found again when it recovers"
    longest = RULES.longest_open_s
    for now in (moments[-1] + longest + step for step in range(10)):
        for key in (KEY, OTHER):
            breakers.begin(key, now)
            breakers.ended(outcome(key, None, now), now)
    assert set(breakers.states().values()) <= {CLOSED}
