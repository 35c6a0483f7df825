"""What somebody else had unloaded where it runs is so here too, and comes back when it is asked for."""

from __future__ import annotations

from noa.lifecycle import messages as m
from noa.models import LoadOptions, ModelStatus
from noa.state import ModelDropped
from simulation.stage import Stage


def left(stage: Stage, key: str = "a") -> None:
    stage.step(m.Left(key=key, generation=stage.starts[-1].generation))


def remote(stage: Stage, *, pin: bool = False) -> None:
    stage.known("a", owned=False)
    stage.load("a", LoadOptions(pin=pin))
    stage.started("a")


def test_a_model_that_left_is_unloaded_and_does_not_come_back_by_itself() -> None:
    stage = Stage()
    remote(stage)
    left(stage)
    assert [stop.reason for stop in stage.stops] == ["unloaded elsewhere"]
    stage.stopped("a")
    assert stage.status("a") is ModelStatus.UNLOADED
    assert stage.current() == "a", "it is current still, and loads on demand"
    assert ModelDropped(key="a") in stage.written
    stage.at(stage.now + 1000)
    assert len(stage.starts) == 1


def test_a_request_loads_it_again() -> None:
    stage = Stage()
    remote(stage)
    left(stage)
    stage.stopped("a")
    stage.acquire("a")
    assert len(stage.starts) == 2


def test_what_is_in_use_is_loaded_there_again_and_stays() -> None:
    stage = Stage()
    remote(stage)
    caller = stage.acquire("a")
    left(stage)
    assert stage.status("a") is ModelStatus.LOADED
    stage.release(caller)
    left(stage)
    assert stage.stops


def test_a_word_about_an_earlier_incarnation_says_nothing() -> None:
    stage = Stage()
    remote(stage)
    stage.step(m.Left(key="a", generation=stage.starts[-1].generation - 1))
    stage.step(m.Left(key="unknown", generation=1))
    assert stage.status("a") is ModelStatus.LOADED


def test_a_pin_holds_nothing_that_is_gone() -> None:
    stage = Stage()
    remote(stage, pin=True)
    left(stage)
    assert stage.stops
