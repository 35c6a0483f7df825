"""Models whose provider is taken out, or is another one; and room that changes while models are loaded."""

from __future__ import annotations

from noa.errors import ModelUnavailableError
from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Room
from noa.models import ModelStatus
from simulation.stage import Stage


def test_a_withdrawn_model_serves_out_its_requests_and_goes() -> None:
    stage = Stage()
    stage.with_loaded("a")
    running = stage.acquire("a")
    stage.step(m.Withdrawn(key="a"))
    assert stage.status("a") is ModelStatus.DRAINING
    late = stage.acquire("a")
    assert isinstance(stage.refused[late], ModelUnavailableError)
    stage.release(running)
    assert stage.stopped_keys == ["a"]
    stage.stopped("a")
    assert stage.scheduler.view("a") is None


def test_those_who_wait_for_it_are_told_and_those_who_lease_it_go_on() -> None:
    stage = Stage()
    stage.with_loaded("a")
    lease = stage.acquire("a", hold=True)
    stage.step(m.Withdrawn(key="a"))
    inside = stage.acquire("a", within=lease)
    assert stage.admitted[inside] == "a"
    stage.release(inside)
    stage.release(lease)
    assert stage.stopped_keys == ["a"]


def test_an_unload_that_is_given_up_does_not_bring_it_back() -> None:
    stage = Stage()
    stage.with_loaded("a")
    running = stage.acquire("a")
    unload = stage.unload("a")
    stage.step(m.Withdrawn(key="a"))
    stage.at(3600)
    assert unload in stage.refused
    assert stage.status("a") is ModelStatus.DRAINING
    stage.release(running)
    assert stage.stopped_keys == ["a"]


def test_less_room_lets_idle_models_go_and_busy_ones_stay() -> None:
    stage = Stage(room=3)
    for key in ("a", "b", "c"):
        stage.with_loaded(key)
    stage.acquire("a")
    stage.step(m.RoomChanged(room=Room(max_models=1)))
    assert sorted(stage.stopped_keys) == ["b", "c"]
    assert stage.status("a") is ModelStatus.LOADED
