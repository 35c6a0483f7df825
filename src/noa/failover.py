"""Where a request goes, and where it goes when it was not taken: fallbacks, breakers and the retry budget of a manager.

What is decided stands in ``noa.selection`` (``breaker``, ``breakers``, ``faults``, ``retries``); here it is remembered
between requests, and told: ``breaker-opened``, ``breaker-half-open`` and ``breaker-closed`` (``scope``, ``name``,
``provider``, and ``key`` of a model's; ``for_s`` of one that opened), ``rate-limited`` (the same, with ``for_s``), and
``request-failed-over`` (``request_id``, ``previous``, ``key``, ``reason``, ``error``, ``attempt``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from noa.attempt import Attempted
from noa.errors import AIProviderError, RateLimitError
from noa.events import EventBus
from noa.selection.breaker import BreakerRules, BreakerState
from noa.selection.breakers import BreakerFigures, Breakers, Outcome, Scope, Turn, first_choice
from noa.selection.faults import Fault, judge
from noa.selection.retries import Budget, Failure, Step, next_step

_EVENTS: Final[Mapping[BreakerState | None, str]] = {
    BreakerState.OPEN: "breaker-opened",
    BreakerState.HALF_OPEN: "breaker-half-open",
    BreakerState.CLOSED: "breaker-closed",
    None: "rate-limited",
}


class FailoverSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What failover needs of the configuration.

    ``fallbacks`` maps a name (a key or an alias) to the names to go to instead, in order. ``retries`` says by provider
    how often a request that it did not take is tried again there.
    """

    fallbacks: Mapping[str, Sequence[str]] = {}
    retries: Mapping[str, int] = {}
    rules: BreakerRules = BreakerRules()


class Failover:
    """Shared by all requests of a manager. Nothing here waits, and nothing costs anything while nothing fails.

    ``clock`` is in seconds and never goes back; ``chance`` gives random numbers from 0 to 1.
    """

    def __init__(
        self,
        settings: FailoverSettings,
        events: EventBus,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._events = events
        self._clock = clock
        self._chance = chance
        self._breakers = Breakers(settings.rules)
        self._budget = Budget()

    def reconfigure(self, settings: FailoverSettings, changed: Iterable[str]) -> None:
        """From now on these count. ``changed`` are the providers that are others now, so that their breakers go."""
        self._settings = settings
        for provider in changed:
            self._breakers.forget(provider)

    # What others ask.

    @property
    def has_fallbacks(self) -> bool:
        """Whether any are configured."""
        return bool(self._settings.fallbacks)

    def fallbacks(self, *names: str) -> Sequence[str]:
        """Where to go instead of a model, which may be known by several names; the first that has fallbacks counts."""
        known = self._settings.fallbacks
        return next((known[name] for name in names if name in known), ())

    def ready(self, key: str) -> bool:
        """Whether a model may be asked, as far as its breakers are concerned."""
        return self._breakers.ready(key, self._clock())

    def trouble(self, key: str) -> str | None:
        """Why a model had better not be asked just now, ``None`` if it may."""
        if self.ready(key):
            return None
        seconds = max(0.0, self._breakers.ready_at(key) - self._clock())
        return f"it is left alone for {seconds:.0f} s more, since it failed or asked for that"

    def figures(self) -> Sequence[BreakerFigures]:
        """Every breaker there is; what has never failed has none."""
        return self._breakers.figures(self._clock())

    # The way of a request.

    def request(self) -> None:
        """A request has come."""
        self._budget.request()

    def choose(self, keys: Sequence[str]) -> tuple[int, bool]:
        """Which of the candidates to ask, and whether it is ready. If none is, it is the least bad."""
        return first_choice(keys, self._breakers, self._clock())

    def begin(self, key: str) -> float:
        """A model is asked; gives the moment."""
        now = self._clock()
        self._tell(self._breakers.begin(key, now))
        return now

    def ended(self, attempted: Attempted) -> None:
        """An attempt is over."""
        key, error = attempted.record.key, attempted.failure
        if attempted.cancelled:
            self._breakers.left(key, attempted.began_at)
            return
        if error is None:
            if not self._breakers.is_empty:
                self._tell(self._breakers.succeeded(key, self._clock(), attempted.began_at))
            return
        outcome = Outcome(
            key=key,
            sent_at=attempted.began_at,
            fault=judge(error),
            retry_after_s=error.retry_after_s,
            owned=attempted.owned,
            account=isinstance(error, RateLimitError) and not error.retryable,
        )
        self._tell(self._breakers.ended(outcome, self._clock()))

    def unadmitted(self, key: str, began_at: float, error: AIProviderError | None = None) -> None:
        """A model was not asked after all. Only that its provider cannot be reached is a matter of the breakers."""
        unsent = error is not None and error.provider == key.partition(":")[0] and judge(error) is Fault.UNSENT
        if unsent and ":" in key:
            outcome = Outcome(key=key, sent_at=began_at, fault=Fault.UNSENT)
            self._tell(self._breakers.ended(outcome, self._clock()))
        else:
            self._breakers.left(key, began_at)

    def after(
        self,
        fault: Fault,
        error: AIProviderError,
        *,
        key: str,
        others: Sequence[str],
        is_fallback: bool,
        repeats: int,
        left_s: float,
    ) -> Step:
        """What to do after an attempt on ``key`` has failed; ``others`` are the candidates not asked yet."""
        now = self._clock()
        return next_step(
            Failure(
                fault=fault,
                error=error,
                is_fallback=is_fallback,
                repeats=repeats,
                most_repeats=self._settings.retries.get(key.partition(":")[0], 0),
                elsewhere=bool(others),
                ready=bool(others) and first_choice(others, self._breakers, now)[1],
                left_s=left_s,
                tokens=self._budget.left(now),
                chance=self._chance(),
            )
        )

    def again(self) -> None:
        """An attempt beyond a request's first is made."""
        self._budget.take(self._clock())

    def moved(self, request_id: str, previous: str, key: str, error: AIProviderError | None, attempt: int) -> None:
        """A request goes to another model than it would have: it failed there, or (no error) was not even sent."""
        reason = "BREAKER_OPEN" if error is None else error.code
        message = f"{previous} is left alone for a while." if error is None else error.message
        data = {
            "request_id": request_id,
            "previous": previous,
            "key": key,
            "reason": reason,
            "error": message,
            "attempt": attempt,
        }
        self._events.publish("request-failed-over", data)

    def _tell(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            data: dict[str, object] = {
                "scope": turn.scope.value,
                "name": turn.name,
                "provider": turn.name.partition(":")[0],
            }
            if turn.scope is Scope.MODEL:
                data["key"] = turn.name
            if turn.for_s is not None:
                data["for_s"] = turn.for_s
            self._events.publish(_EVENTS[turn.state], data)
