"""The one table of moves that a model's status can make. The documentation's diagram is drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from noa.models import ModelStatus


class Move(StrEnum):
    """What happens to a model."""

    LOAD = "load"
    STARTED = "started"
    START_FAILED = "start failed"
    DRAIN = "drain"
    RESUME = "resume"
    STOPPED = "stopped"
    CRASHED = "crashed"
    GAVE_UP = "crashed too often"


TRANSITIONS: Final[Mapping[tuple[ModelStatus, Move], ModelStatus]] = MappingProxyType(
    {
        (ModelStatus.AVAILABLE, Move.LOAD): ModelStatus.LOADING,
        (ModelStatus.UNLOADED, Move.LOAD): ModelStatus.LOADING,
        (ModelStatus.FAILED, Move.LOAD): ModelStatus.LOADING,
        (ModelStatus.LOADING, Move.STARTED): ModelStatus.LOADED,
        (ModelStatus.LOADING, Move.START_FAILED): ModelStatus.FAILED,
        # Somebody unloads what is still loading, or what was started could not be kept.
        (ModelStatus.LOADING, Move.DRAIN): ModelStatus.DRAINING,
        (ModelStatus.LOADING, Move.CRASHED): ModelStatus.UNLOADED,
        (ModelStatus.LOADED, Move.DRAIN): ModelStatus.DRAINING,
        (ModelStatus.LOADED, Move.CRASHED): ModelStatus.UNLOADED,
        (ModelStatus.DRAINING, Move.RESUME): ModelStatus.LOADED,
        (ModelStatus.DRAINING, Move.STOPPED): ModelStatus.UNLOADED,
        (ModelStatus.DRAINING, Move.CRASHED): ModelStatus.UNLOADED,
        (ModelStatus.UNLOADED, Move.GAVE_UP): ModelStatus.FAILED,
    }
)


class IllegalTransitionError(AssertionError):
    """A move that the table does not have. It is a bug in the scheduler, never a user's mistake."""


def advance(status: ModelStatus, move: Move) -> ModelStatus:
    """The status after a move. Raises ``IllegalTransitionError`` if the table has no such move."""
    try:
        return TRANSITIONS[status, move]
    except KeyError:
        raise IllegalTransitionError(f"a model that is {status} cannot “{move}”") from None
