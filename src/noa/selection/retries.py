"""Whether a request that was not taken is tried again, where, and after how long. Pure.

Only a request that nobody has worked on is tried again (``noa.selection.faults.NOT_TAKEN``), and only within its
deadline. Where another candidate is ready, it goes there: at once, but for a refusal without ``Retry-After``, which is
repeated once at the same model first, since it may be a matter of milliseconds. Where none is, it is repeated at the
same model, as often as its provider allows, if what the upstream asks to wait is short.

The budget bounds repetitions, and visits to candidates that are known to be in trouble: together at most a fifth of
the requests and a few, so that an overloaded upstream is not buried by those who try again (as in Finagle's
``RetryBudget``). Going once to each candidate that is ready is no repetition, so it is counted but never refused.
"""

from __future__ import annotations

import msgspec

from noa.errors import AIProviderError
from noa.selection.faults import NOT_TAKEN, Fault

#: What each request adds to the budget: one repetition for five of them.
SHARE = 0.2
#: How many repetitions are allowed at once, whatever came before, and how fast that comes back without requests.
RESERVE = 10.0
RESERVE_PER_S = 0.5

#: The longest pause before a repetition, in seconds. Who is asked to wait longer is told so, to decide for himself.
LONGEST_PAUSE_S = 2.0
#: The pause before the first repetition where none is asked for; it doubles, and half of it is chance.
FIRST_PAUSE_S = 0.2


class Budget:
    """How many repetitions all requests together may still make. ``now`` is in seconds."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = RESERVE
        self._at: float | None = None

    def request(self) -> None:
        """A request has come."""
        if self._tokens < RESERVE:
            self._tokens += SHARE

    def left(self, now: float) -> float:
        """How many repetitions are left."""
        if self._at is not None:
            self._tokens = min(RESERVE, self._tokens + (now - self._at) * RESERVE_PER_S)
        self._at = now
        return self._tokens

    def take(self, now: float) -> None:
        """A repetition is made."""
        self._tokens = max(0.0, self.left(now) - 1.0)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that failed, and what there is to go on with.

    ``repeats`` is how often this model was tried again already, of ``most_repeats``. ``elsewhere`` is whether another
    candidate remains, and whether that is ``ready``. ``left_s`` is the time to the deadline, ``tokens`` what is left of
    the budget, and ``chance`` a random number from 0 to 1.
    """

    fault: Fault
    error: AIProviderError
    is_fallback: bool
    repeats: int
    most_repeats: int
    elsewhere: bool
    ready: bool
    left_s: float
    tokens: float
    chance: float


class Again(msgspec.Struct, frozen=True):
    """Try the same model again after this pause, in seconds."""

    pause_s: float


class Elsewhere(msgspec.Struct, frozen=True):
    """Go to the next candidate."""


class GiveUp(msgspec.Struct, frozen=True):
    """Tell the caller. ``spent`` says that it was the budget that forbade more."""

    spent: bool = False


Step = Again | Elsewhere | GiveUp


def next_step(failure: Failure) -> Step:
    """What to do after an attempt has failed."""
    # A fallback that is unfit for this very request (its window too small, its dialect too poor) is not the last word.
    unfit = failure.is_fallback and failure.fault is Fault.DENIED
    if failure.left_s <= 0 or not (failure.fault in NOT_TAKEN or unfit):
        return GiveUp()
    pause_s = _pause_s(failure)
    if pause_s is not None and failure.tokens >= 1:
        return Again(pause_s)
    if failure.elsewhere and (failure.ready or failure.tokens >= 1):
        return Elsewhere()
    return GiveUp(spent=failure.tokens < 1 and (failure.elsewhere or pause_s is not None))


def _pause_s(failure: Failure) -> float | None:
    """How long to pause before the same model is tried again; ``None`` if it is not to be."""
    if failure.fault in (Fault.UNADMITTED, Fault.DENIED) or failure.repeats >= failure.most_repeats:
        return None
    asked_s = failure.error.retry_after_s
    if not failure.error.retryable:  # Out of credit: no pause helps.
        return None
    if (
        failure.elsewhere
        and failure.ready
        and (failure.fault is Fault.UNSENT or asked_s is not None or failure.repeats)
    ):
        return None
    whole_s = FIRST_PAUSE_S * 2.0**failure.repeats
    # Those who are asked to wait equally long shall not all come back at the same moment.
    pause_s = (whole_s + whole_s * failure.chance) / 2 if asked_s is None else asked_s * (1 + 0.1 * failure.chance)
    short = asked_s is None or asked_s <= LONGEST_PAUSE_S
    return pause_s if short and pause_s < failure.left_s else None
