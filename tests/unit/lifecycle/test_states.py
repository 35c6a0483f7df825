"""The table of moves is total where it must be, and leads everywhere and back."""

from __future__ import annotations

import itertools

import pytest

from noa.lifecycle.states import TRANSITIONS, IllegalTransitionError, Move, advance
from noa.models import ModelStatus


@pytest.mark.parametrize(("status", "move"), list(itertools.product(ModelStatus, Move)))
def test_a_move_is_in_the_table_or_refused(status: ModelStatus, move: Move) -> None:
    if (status, move) in TRANSITIONS:
        assert advance(status, move) is TRANSITIONS[status, move]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{status} cannot “{move}”"):
            advance(status, move)


def reachable_from(start: ModelStatus) -> set[ModelStatus]:
    found = {start}
    while more := {after for (before, _), after in TRANSITIONS.items() if before in found} - found:
        found |= more
    return found


def test_every_status_is_reached_from_the_first() -> None:
    assert reachable_from(ModelStatus.AVAILABLE) == set(ModelStatus)


@pytest.mark.parametrize("status", ModelStatus)
def test_no_status_is_a_dead_end(status: ModelStatus) -> None:
    assert ModelStatus.LOADED in reachable_from(status)


def test_every_move_is_used() -> None:
    assert {move for _, move in TRANSITIONS} == set(Move)


def test_only_a_started_model_becomes_loaded() -> None:
    ways = {(before, move) for (before, move), after in TRANSITIONS.items() if after is ModelStatus.LOADED}
    assert ways == {(ModelStatus.LOADING, Move.STARTED), (ModelStatus.DRAINING, Move.RESUME)}
