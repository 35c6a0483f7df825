"""The breakers of all providers and models, and who of several candidates is asked first. Pure.

A provider's breaker counts what concerns all its models: that it cannot be reached. A model's breaker counts what may
concern it alone: overload, errors, stalls, broken answers. A limit on requests is the model's too, unless it is the
account that ran out. A model that runs in a process of its own has only a breaker of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

import msgspec

from noa.models import Value, split_key
from noa.selection.breaker import Breaker, BreakerRules, BreakerState
from noa.selection.faults import Fault


class Scope(StrEnum):
    """What a breaker is for."""

    PROVIDER = "provider"
    MODEL = "model"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt on a model ended: ``fault`` is ``None`` if it was answered.

    ``sent_at`` is when it began. ``retry_after_s`` is how long the upstream asked to wait. ``owned`` models run in
    processes of their own; ``account`` says that a limit is the whole account's.
    """

    key: str
    sent_at: float
    fault: Fault | None = None
    retry_after_s: float | None = None
    owned: bool = False
    account: bool = False


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker that has just changed, or (``state`` ``None``) a cool-down that has just begun.

    ``for_s`` is how long it stays open or cools down.
    """

    scope: Scope
    name: str
    state: BreakerState | None
    for_s: float | None = None


class BreakerFigures(Value, frozen=True, kw_only=True):
    """A breaker as it is shown: ``name`` is a provider or a key, ``requests`` and ``failures`` are the recent ones.

    ``retry_in_s`` is when it will be tried again if it is open, ``cooling_s`` how long it is left alone because it
    asked to slow down; both ``None`` if it is not.
    """

    scope: Scope
    name: str
    state: BreakerState
    requests: int
    failures: int
    retry_in_s: float | None = None
    cooling_s: float | None = None


class Breakers:
    """Every breaker that was ever needed; what has never failed has none, and costs nothing."""

    def __init__(self, rules: BreakerRules | None = None) -> None:
        self._rules = rules or BreakerRules()
        self._by_name: dict[str, Breaker] = {}
        self._scopes: dict[str, Scope] = {}
        self._chains: dict[str, Sequence[tuple[str, Breaker]]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing has ever failed."""
        return not self._by_name

    def ready(self, key: str, now: float) -> bool:
        """Whether a request may go to this model."""
        for _, breaker in self._of(key):  # noqa: SIM110  # on the way of every request, and faster than all()
            if not breaker.ready(now):
                return False
        return True

    def ready_at(self, key: str) -> float:
        """From when on one may; minus infinity for a healthy one."""
        return max((breaker.ready_at() for _, breaker in self._of(key)), default=float("-inf"))

    def begin(self, key: str, now: float) -> Sequence[Turn]:
        """A request goes to this model."""
        turns: Sequence[Turn] = ()
        for name, breaker in self._of(key):
            if state := breaker.begin(now):
                turns = [*turns, self._turn(name, state, now)]
        return turns

    def succeeded(self, key: str, now: float, sent_at: float) -> Sequence[Turn]:
        """A request to a model was answered. The turns are what changed, the provider's first."""
        turns: Sequence[Turn] = ()
        for name, breaker in self._of(key):
            if state := breaker.succeeded(now, sent_at):
                turns = [*turns, self._turn(name, state, now)]
        return turns

    def ended(self, outcome: Outcome, now: float) -> Sequence[Turn]:
        """A request to a model has ended, one way or the other. The turns are what changed, the provider's first."""
        fault = outcome.fault
        if fault is None or fault is Fault.DENIED:
            return self.succeeded(outcome.key, now, outcome.sent_at)
        provider, _ = split_key(outcome.key)
        if fault is Fault.CUT or fault is Fault.UNADMITTED:
            self.left(outcome.key, outcome.sent_at)
            return ()
        turns = [] if outcome.owned else self._provider_ended(provider, outcome, now)
        return [*turns, *self._model_ended(outcome, now)]

    def left(self, key: str, sent_at: float) -> None:
        """A request to a model ended without saying anything of it: its caller went away."""
        for _, breaker in self._of(key):
            breaker.left(sent_at)

    def forget(self, provider: str) -> None:
        """This is another provider from now on: what was seen of it and its models counts no more."""
        for name in [name for name in self._by_name if name.partition(":")[0] == provider]:
            del self._by_name[name], self._scopes[name]
        self._chains.clear()

    def figures(self, now: float) -> Sequence[BreakerFigures]:
        """Every breaker there is, providers first."""
        names = sorted(self._by_name, key=lambda name: (self._scopes[name] is Scope.MODEL, name))
        return [self._figures_of(name, now) for name in names]

    def states(self) -> Mapping[str, BreakerState]:
        """The state of every breaker there is, by provider or key."""
        return MappingProxyType({name: breaker.state for name, breaker in self._by_name.items()})

    def _provider_ended(self, provider: str, outcome: Outcome, now: float) -> list[Turn]:
        if outcome.fault is Fault.UNSENT:
            breaker = self._need(Scope.PROVIDER, provider)
            return self._turned(provider, breaker.failed(now, outcome.sent_at), now)
        if outcome.fault is Fault.LIMITED and outcome.account:
            return self._limited(Scope.PROVIDER, provider, outcome, now)
        if known := self._by_name.get(provider):
            return self._turned(provider, known.succeeded(now, outcome.sent_at), now)
        return []

    def _model_ended(self, outcome: Outcome, now: float) -> list[Turn]:
        key, sent_at = outcome.key, outcome.sent_at
        match outcome.fault:
            case Fault.OVERLOADED | Fault.FAILED:
                return self._turned(key, self._need(Scope.MODEL, key).failed(now, sent_at), now)
            case Fault.UNSENT if outcome.owned:
                return self._turned(key, self._need(Scope.MODEL, key).failed(now, sent_at), now)
            case Fault.LIMITED if not outcome.account:
                return self._limited(Scope.MODEL, key, outcome, now)
            case Fault.UNSENT | Fault.LIMITED:
                if known := self._by_name.get(key):
                    known.left(sent_at)
        return []

    def _limited(self, scope: Scope, name: str, outcome: Outcome, now: float) -> list[Turn]:
        breaker = self._need(scope, name)
        if not breaker.limited(now, outcome.sent_at, outcome.retry_after_s):
            return []
        return [Turn(scope=scope, name=name, state=None, for_s=breaker.cooling_until - now)]

    def _turned(self, name: str, state: BreakerState | None, now: float) -> list[Turn]:
        return [] if state is None else [self._turn(name, state, now)]

    def _turn(self, name: str, state: BreakerState, now: float) -> Turn:
        for_s = self._by_name[name].open_until - now if state is BreakerState.OPEN else None
        return Turn(scope=self._scopes[name], name=name, state=state, for_s=for_s)

    def _need(self, scope: Scope, name: str) -> Breaker:
        if name not in self._by_name:
            self._by_name[name] = Breaker(self._rules)
            self._scopes[name] = scope
            self._chains.clear()
        return self._by_name[name]

    def _of(self, key: str) -> Sequence[tuple[str, Breaker]]:
        """The breakers on the way to a model, its provider's first."""
        if not self._by_name:
            return ()
        chain = self._chains.get(key)
        if chain is None:
            names = (key.partition(":")[0], key)
            chain = self._chains[key] = [(name, self._by_name[name]) for name in names if name in self._by_name]
        return chain

    def _figures_of(self, name: str, now: float) -> BreakerFigures:
        breaker = self._by_name[name]
        requests, failures = breaker.totals(now)
        is_open = breaker.state is BreakerState.OPEN
        return BreakerFigures(
            scope=self._scopes[name],
            name=name,
            state=breaker.state,
            requests=requests,
            failures=failures,
            retry_in_s=max(0.0, breaker.open_until - now) if is_open else None,
            cooling_s=breaker.cooling_until - now if now < breaker.cooling_until else None,
        )


def first_choice(keys: Sequence[str], breakers: Breakers, now: float) -> tuple[int, bool]:
    """Which of the candidates (in order of preference, at least one) to ask, and whether it is ready.

    The first that is ready; if none is, the least bad: the one that would be ready first. So never are all ejected.
    """
    for index, key in enumerate(keys):
        if breakers.ready(key, now):
            return index, True
    return min(range(len(keys)), key=lambda index: breakers.ready_at(keys[index])), False
