"""Who takes a place, who gives it back, and who waits for one."""

from __future__ import annotations

import pytest

from noa.errors import ModelUnavailableError
from noa.lifecycle import messages as m
from noa.models import LoadOptions, ModelStatus
from noa.state import ModelDropped
from simulation.stage import Stage


def test_the_least_recently_used_goes_not_the_least_often_used() -> None:
    stage = Stage(room=2)
    stage.with_loaded("often", "seldom")
    for _ in range(5):
        stage.release(stage.acquire("often"))
    stage.now += 10
    stage.release(stage.acquire("seldom"))
    stage.known("new")
    stage.acquire("new")
    assert stage.stopped_keys == ["often"]
    assert stage.stops[0].reason == "evicted"


def test_an_evicted_model_is_off_the_disk_and_its_event_says_why() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.known("b")
    stage.acquire("b")
    stage.stopped("a")
    assert ModelDropped(key="a") in stage.written
    assert "a" not in stage.scheduler.kept
    assert stage.events_of("model-evicted")[0].data == {"key": "a", "reason": "evicted"}
    assert stage.current() == "a"


def test_a_place_is_free_when_the_process_is_gone_not_when_it_was_told_to_go() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.known("b")
    stage.acquire("b")
    assert stage.started_keys == ["a"]
    stage.stopped("a")
    assert stage.started_keys == ["a", "b"]


@pytest.mark.parametrize("use", ["request", "lease", "pin", "loading"])
def test_a_model_in_use_or_pinned_is_not_evicted(use: str) -> None:
    stage = Stage(room=1)
    if use == "loading":
        stage.known("a")
        stage.load("a")
    else:
        stage.with_loaded("a", options=LoadOptions(pin=use == "pin"))
        if use != "pin":
            stage.acquire("a", hold=use == "lease")
    stage.known("b")
    waiting = stage.acquire("b", wait_s=30.0)
    assert stage.stopped_keys == []
    stage.at(stage.now + 31.0)
    error = stage.refused[waiting]
    assert isinstance(error, ModelUnavailableError)
    assert error.retry_after_s
    assert stage.stopped_keys == []


def test_who_waits_for_a_place_gets_it_when_one_is_free() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    busy = stage.acquire("a")
    stage.known("b")
    waiting = stage.acquire("b")
    stage.release(busy)
    assert stage.stopped_keys == ["a"]
    stage.stopped("a")
    stage.started("b")
    assert stage.admitted[waiting] == "b"


def test_two_models_in_one_place_do_not_thrash() -> None:
    """All who wait for a model are served by one load of it."""
    stage = Stage(room=1)
    stage.known("a", "b")
    first = stage.acquire("a")
    waiting = [stage.acquire(name) for name in ("b", "b", "b")]
    stage.started("a")
    stage.release(first)
    stage.stopped("a")
    stage.started("b")
    assert all(stage.admitted[number] == "b" for number in waiting)
    assert stage.started_keys == ["a", "b"]


def test_bytes_are_counted_as_well_as_models() -> None:
    stage = Stage(room=10, budget_bytes=10)
    stage.known("a", size_bytes=6)
    stage.known("b", size_bytes=6)
    stage.load("a")
    stage.started("a")
    stage.load("b")
    assert stage.stopped_keys == ["a"]


def test_what_was_measured_counts_rather_than_what_was_expected() -> None:
    stage = Stage(room=10, budget_bytes=10)
    stage.known("a", "b", size_bytes=5)
    stage.load("a")
    stage.step(m.Started(key="a", generation=stage.view("a").generation, size_bytes=9))
    stage.load("b")
    assert stage.stopped_keys == ["a"]


def test_a_remote_model_never_waits_for_a_place_and_the_limit_holds_again_afterwards() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    busy = stage.acquire("a")
    stage.known("far", owned=False, size_bytes=0)
    request = stage.acquire("far")
    stage.started("far")
    assert stage.admitted[request] == "far"
    assert stage.stopped_keys == []
    stage.release(request)
    assert stage.stopped_keys == ["far"]
    assert stage.view("a").in_flight == 1
    stage.release(busy)
    assert stage.status("a") is ModelStatus.LOADED


def test_idle_time_counts_from_the_last_release() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(ttl_s=10.0))
    stage.now = 5.0
    request = stage.acquire("a")
    stage.at(100.0)
    assert stage.stopped_keys == []
    stage.release(request)
    assert stage.rings_at() == 110.0
    stage.at(109.9)
    assert stage.stopped_keys == []
    stage.at(110.0)
    assert stage.stops[0].reason == "ttl"


def test_a_request_that_comes_as_the_time_ends_is_served() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(ttl_s=10.0))
    stage.now = 50.0
    request = stage.acquire("a")
    assert stage.admitted[request] == "a"
    assert stage.stopped_keys == []


def test_a_pinned_model_has_no_time_to_live() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(ttl_s=10.0, pin=True))
    stage.at(1000.0)
    assert stage.status("a") is ModelStatus.LOADED


def test_the_timer_is_always_the_earliest_needed() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a", options=LoadOptions(ttl_s=100.0))
    assert stage.rings_at() == 100.0
    busy = stage.acquire("a")
    assert stage.rings_at() is None
    stage.known("b")
    late = stage.acquire("b", wait_s=50.0)
    assert stage.rings_at() == 51.0
    soon = stage.acquire("b", wait_s=5.0)
    assert stage.rings_at() == 6.0
    stage.unload("a", wait_s=2.0)
    assert stage.rings_at() == 3.0
    stage.at(3.0)
    assert stage.rings_at() == 6.0
    stage.release(soon)
    assert stage.rings_at() == 51.0
    stage.release(late)
    assert stage.rings_at() is None
    stage.release(busy)
    assert stage.rings_at() == 103.0


def test_a_model_that_is_gone_serves_on_and_is_forgotten_afterwards() -> None:
    stage = Stage()
    stage.with_loaded("a")
    request = stage.acquire("a")
    stage.step(m.Gone(key="a"))
    again = stage.acquire("current")
    assert stage.admitted[again] == "a"
    stage.release(request)
    stage.release(again)
    stage.unload("a")
    stage.stopped("a")
    assert stage.scheduler.view("a") is None


def test_whoever_waits_for_a_model_that_is_gone_is_told() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.acquire("a")
    stage.known("b")
    waiting = [stage.acquire("b"), stage.load("b"), stage.switch("b", alias="prod")]
    stage.step(m.Gone(key="b"))
    assert all(number in stage.refused for number in waiting)
