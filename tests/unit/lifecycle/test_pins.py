"""Whoever only pinned models keep from a place is told so soon; whoever waits for a busy one waits on."""

from __future__ import annotations

import pytest

from noa.errors import ModelUnavailableError
from noa.lifecycle.turns import PINNED_PATIENCE_S
from noa.models import LoadOptions
from simulation.stage import Stage

PINNED = LoadOptions(pin=True)


def full_of_pins(*keys: str) -> Stage:
    stage = Stage(room=len(keys))
    stage.with_loaded(*keys, options=PINNED)
    stage.known("late")
    return stage


def ask(stage: Stage, wish: str) -> int:
    if wish == "request":
        return stage.acquire("late", wait_s=300.0)
    if wish == "load":
        return stage.load("late", wait_s=300.0)
    return stage.switch("late", wait_s=300.0)


@pytest.mark.parametrize("wish", ["request", "load", "switch"])
def test_who_only_pins_block_is_refused_soon_with_their_names_and_a_way_out(wish: str) -> None:
    stage = full_of_pins("a", "b")
    waiting = ask(stage, wish)
    stage.at(stage.now + PINNED_PATIENCE_S - 0.1)
    assert waiting not in stage.refused
    stage.at(stage.now + 0.2)
    error = stage.refused[waiting]
    assert isinstance(error, ModelUnavailableError)
    assert error.message == (
        "There is no room for late: a and b are pinned. Unload one (noa unload a), or raise the limit."
    )
    assert error.retry_after_s
    assert error.details == {"pinned": ["a", "b"]}
    assert stage.stopped_keys == []
    assert stage.current() == "a"


def test_who_sets_a_shorter_limit_waits_no_longer_and_is_told_the_same() -> None:
    stage = full_of_pins("a")
    waiting = stage.acquire("late", wait_s=1.0)
    stage.at(stage.now + 1.0)
    assert "a is pinned" in stage.refused[waiting].message


def test_who_waits_for_a_busy_model_beside_a_pinned_one_waits_on() -> None:
    stage = Stage(room=2)
    stage.with_loaded("pinned", options=PINNED)
    stage.with_loaded("busy")
    request = stage.acquire("busy")
    stage.known("late")
    waiting = stage.acquire("late", wait_s=300.0)
    stage.at(stage.now + 200.0)
    assert waiting not in stage.refused
    stage.release(request)
    stage.stopped("busy")
    stage.started("late")
    assert stage.admitted[waiting] == "late"


def test_bytes_that_pinned_models_take_are_no_room_either() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", "late", size_bytes=4)
    stage.load("a", PINNED)
    stage.started("a")
    stage.known("large", size_bytes=7)
    waiting = stage.acquire("large")
    fits = stage.acquire("b")
    stage.at(stage.now + PINNED_PATIENCE_S)
    assert "a is pinned" in stage.refused[waiting].message
    assert stage.started_keys == ["a", "b"]
    assert fits not in stage.refused


def test_a_pinned_model_that_is_unloaded_in_time_makes_room() -> None:
    stage = full_of_pins("a")
    waiting = stage.acquire("late")
    stage.at(stage.now + PINNED_PATIENCE_S - 1)
    stage.unload("a")
    stage.at(stage.now + 10)
    assert waiting not in stage.refused
    stage.stopped("a")
    stage.started("late")
    assert stage.admitted[waiting] == "late"


def test_the_patience_begins_anew_where_something_else_was_in_the_way_meanwhile() -> None:
    stage = full_of_pins("a")
    waiting = stage.acquire("late")
    stage.at(stage.now + PINNED_PATIENCE_S - 1)
    request = stage.acquire("a")
    stage.unload("a", wait_s=3.0)  # It is in use, so this is given up, and it stays pinned.
    stage.at(stage.now + 3.0)
    assert waiting not in stage.refused
    stage.release(request)
    stage.at(stage.now + PINNED_PATIENCE_S)
    assert waiting in stage.refused


def test_nobody_rings_for_one_who_was_shut_out_and_left() -> None:
    stage = full_of_pins("a")
    waiting = stage.acquire("late", wait_s=300.0)
    assert stage.rings_at() == stage.now + PINNED_PATIENCE_S
    stage.release(waiting)
    assert stage.rings_at() is None
