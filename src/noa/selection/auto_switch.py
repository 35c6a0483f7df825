"""When to leave the current model for a better one, and for which. Pure: time arrives as an argument.

The score is the quick start's (``noa.selection.rank.auto_switch_score``). Three things keep it from switching to and
fro: a model must score low in several requests on end, another must be better by a margin, and after a switch, by
whomever, or a look around in vain, there is none for a while.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from noa.models import ModelCapability


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """When it is time.

    A score below ``threshold`` after each of ``low_requests`` on end, another model that ``least_requests`` measured
    and that scores higher by ``margin``, and ``pause_s`` since the last time.
    """

    threshold: float = 0.7
    low_requests: int = 10
    least_requests: int = 5
    margin: float = 0.1
    pause_s: float = 60.0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model that may become the current one. ``score`` is ``None`` while it was not measured."""

    key: str
    score: float | None
    requests: int
    capabilities: frozenset[ModelCapability]
    context_window: int | None = None


class LowScores:
    """Watches how the current model scores."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._key: str | None = None
        self._low = 0
        self._not_before_s = 0.0

    def seen(self, key: str, score: float | None, now_s: float) -> bool:
        """Take in how the current model scores after a request; says whether to look for another one now.

        An unknown score is not a low one.
        """
        if key != self._key:
            if self._key is not None:
                self._not_before_s = now_s + self._rules.pause_s
            self._key, self._low = key, 0
        self._low = self._low + 1 if score is not None and score < self._rules.threshold else 0
        return self._low >= self._rules.low_requests and now_s >= self._not_before_s

    def looked(self, now_s: float) -> None:
        """Somebody has looked for another one just now."""
        self._not_before_s = now_s + self._rules.pause_s


def successor(current: Measured, others: Iterable[Measured], rules: Rules) -> Measured | None:
    """The best of those that can do all that the current one can, and are clearly better; ``None`` if nobody is."""
    if current.score is None:
        return None
    least = current.score + rules.margin
    fit = [each for each in others if _is_better(each, least, rules) and _can_replace(each, current)]
    return max(fit, key=lambda each: (each.score or 0.0, each.key), default=None)


def _is_better(other: Measured, least: float, rules: Rules) -> bool:
    return other.score is not None and other.score >= least and other.requests >= rules.least_requests


def _can_replace(other: Measured, current: Measured) -> bool:
    """Whether no request that the current model serves would be refused: it can do as much, of prompts as long."""
    if other.key == current.key or not current.capabilities <= other.capabilities:
        return False
    ours, its = current.context_window, other.context_window
    return ours is None or its is None or its >= ours


def reason(current: Measured, better: Measured, rules: Rules) -> str:
    """Why, for the event and the alias's history."""
    return (
        f"{current.key} scores {current.score or 0:.2f}, below {rules.threshold:.2f}; "
        f"{better.key} scores {better.score or 0:.2f} over {better.requests} requests"
    )
