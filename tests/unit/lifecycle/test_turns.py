"""Who goes first where processors or places are scarce, and how long a model stays that was loaded for somebody."""

from __future__ import annotations

from noa.lifecycle.fleet import MIN_RESIDENCY_S
from noa.lifecycle.turns import PATIENCE_S
from noa.models import LoadOptions, ModelStatus
from simulation.stage import Stage


def loaded(stage: Stage, *keys: str, threads: int = 1, concurrency: int | None = None) -> None:
    for key in keys:
        stage.known(key, threads=threads, concurrency=concurrency)
        stage.load(key)
        stage.started(key)


# Processors.


def test_engines_of_several_threads_are_busy_together_only_while_the_processors_suffice() -> None:
    stage = Stage(cores=4)
    loaded(stage, "a", "b", "c", threads=2)
    first, second, third = (stage.acquire(key) for key in "abc")
    assert {first, second} <= stage.admitted.keys()
    assert third not in stage.admitted
    stage.release(first)
    assert stage.admitted[third] == "c"


def test_one_that_is_alone_is_never_kept_waiting() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", threads=8)
    assert all(stage.acquire("a") in stage.admitted for _ in range(3))


def test_engines_of_one_thread_each_are_not_kept_waiting() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", "b", "c", threads=1)
    assert all(stage.acquire(key) in stage.admitted for key in "abc")


def test_a_load_may_say_how_many_threads() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a")
    stage.known("b")
    stage.load("b", LoadOptions(threads=2))
    stage.started("b")
    stage.acquire("a")
    assert stage.acquire("b") not in stage.admitted


def test_whoever_waits_for_processors_is_not_passed_by_later_requests() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", "b", threads=2)
    first = stage.acquire("a")
    waiting = stage.acquire("b")
    later = stage.acquire("a")
    assert later not in stage.admitted
    stage.release(first)
    assert waiting in stage.admitted
    assert later not in stage.admitted
    stage.release(waiting)
    assert later in stage.admitted


def test_a_higher_priority_goes_first_for_processors_too() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", "b", "c", threads=2)
    first = stage.acquire("a")
    low, high = stage.acquire("b"), stage.acquire("c", priority=1)
    stage.release(first)
    assert high in stage.admitted
    assert low not in stage.admitted


def test_remote_models_and_leases_take_no_processors() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", "b", threads=2)
    stage.known("far", owned=False)
    stage.acquire("a")
    far = stage.acquire("far")
    stage.started("far")
    assert far in stage.admitted
    assert stage.acquire("b", hold=True) in stage.admitted


def test_a_busy_engine_takes_more_while_nobody_waits_for_processors() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", "b", threads=2)
    assert all(stage.acquire("a") in stage.admitted for _ in range(3))


def test_who_waits_for_processors_and_leaves_lets_the_others_go_on() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", "b", threads=2)
    stage.acquire("a")
    waiting, later = stage.acquire("b"), stage.acquire("a")
    stage.release(waiting)
    assert later in stage.admitted


def test_a_model_is_not_idle_while_somebody_waits_for_processors_to_use_it() -> None:
    stage = Stage(cores=2)
    loaded(stage, "a", threads=2)
    busy = stage.acquire("a")
    stage.known("b", threads=2)
    waiting = stage.acquire("b")
    stage.load("b", LoadOptions(ttl_s=0.0))
    stage.started("b")
    stage.at(stage.now + 50.0)
    assert stage.stopped_keys == []
    stage.release(busy)
    assert waiting in stage.admitted


# Places.


def test_requests_in_turn_for_two_models_in_one_place_swap_them_once() -> None:
    stage = Stage(room=1)
    stage.known("a", "b", concurrency=1)
    asked = [stage.acquire("ab"[number % 2]) for number in range(20)]
    while len(stage.admitted) < len(asked):
        key = stage.started_keys[-1]
        if stage.status(key) is ModelStatus.LOADING:
            stage.started(key)
        for number in [number for number in asked if number in stage.admitted]:
            stage.release(number)
        for key in "ab":
            if stage.status(key) is ModelStatus.DRAINING:
                stage.stopped(key)
    assert stage.started_keys == ["a", "b"]


def test_whoever_a_model_was_loaded_for_has_it_before_another_gets_its_place() -> None:
    stage = Stage(room=1)
    stage.known("a", "b", concurrency=1)
    first = stage.acquire("a")
    stage.acquire("b")
    second = stage.acquire("a")
    stage.started("a")
    assert first in stage.admitted
    stage.release(first)
    assert second in stage.admitted
    stage.release(second)
    assert stage.stopped_keys == ["a"]


def test_after_a_while_a_model_makes_room_even_if_some_still_wait_for_it() -> None:
    stage = Stage(room=1)
    stage.known("a", "b", concurrency=1)
    first = stage.acquire("a")
    stage.acquire("b")
    stage.acquire("a")
    stage.started("a")
    stage.at(MIN_RESIDENCY_S)
    assert stage.stopped_keys == []
    stage.release(first)
    assert stage.stopped_keys == ["a"]


def test_when_those_it_was_loaded_for_leave_it_makes_room_at_once() -> None:
    stage = Stage(room=2, cores=2)
    loaded(stage, "busy", threads=2)
    stage.acquire("busy")
    stage.known("a", "b", threads=2)
    waiting = stage.acquire("a")
    stage.acquire("b")
    stage.started("a")
    assert stage.stopped_keys == []
    assert waiting not in stage.admitted
    stage.release(waiting)
    assert stage.stopped_keys == ["a"]


def test_requests_that_overlap_do_not_keep_another_model_out_for_ever() -> None:
    stage = Stage(room=1)
    loaded(stage, "a")
    stage.known("b")
    busy = stage.acquire("a")
    waiting = stage.acquire("b")
    soon = stage.acquire("a")
    assert soon in stage.admitted
    stage.release(busy)
    stage.at(PATIENCE_S)
    late = stage.acquire("a")
    assert late not in stage.admitted
    stage.release(soon)
    assert stage.stopped_keys == ["a"]
    stage.stopped("a")
    stage.started("b")
    assert waiting in stage.admitted


def test_a_lease_is_served_on_whoever_waits_for_the_place() -> None:
    stage = Stage(room=1)
    loaded(stage, "a")
    lease = stage.acquire("a", hold=True)
    stage.known("b")
    stage.acquire("b")
    stage.at(PATIENCE_S + 1)
    assert stage.acquire("a", within=lease) in stage.admitted
    assert stage.acquire("a") in stage.admitted, "that it waits would help nobody while the lease lasts"


def test_a_pinned_model_is_not_claimed() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a", options=LoadOptions(pin=True))
    stage.acquire("a")
    stage.known("b")
    stage.acquire("b")
    stage.at(PATIENCE_S + 1)
    assert stage.acquire("a") in stage.admitted


def test_force_waits_for_nobody_whom_a_model_was_loaded_for() -> None:
    stage = Stage(room=1)
    stage.known("a", "b", concurrency=1)
    stage.acquire("a")
    stage.acquire("a")
    stage.started("a")
    stage.unload("a", force=True)
    assert stage.stopped_keys == ["a"]
