"""A switch never fails a request, and either happens whole or not at all."""

from __future__ import annotations

from noa.errors import ConflictError, ModelLoadError, ModelUnavailableError, StorageError
from noa.lifecycle import messages as m
from noa.models import LoadOptions, ModelStatus
from noa.state import AliasPointed
from simulation.stage import Stage


def test_a_switch_loads_the_target_first_and_points_to_it_when_that_is_written() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("b")
    number = stage.switch("b")
    assert stage.current() == "a"
    stage.disk_waits = True
    stage.started("b")
    assert stage.current() == "a"
    stage.disk_waits = False
    stage.write()
    assert stage.current() == "b"
    assert stage.done[number] == m.Done(waiter=number, key="b", previous="a")
    assert stage.status("a") is ModelStatus.LOADED
    assert stage.events_of("model-switched")[-1].data == {
        "alias": "current",
        "previous_model": "a",
        "current_model": "b",
        "reason": "asked for",
    }


def test_requests_that_run_finish_on_the_old_model_and_new_ones_go_to_the_new() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    running = stage.acquire("current")
    stage.switch("b")
    new = stage.acquire("current")
    assert (stage.admitted[running], stage.admitted[new]) == ("a", "b")
    assert stage.view("a").in_flight == 1
    assert stage.cut == []


def test_if_the_new_model_fails_the_old_one_serves_on_and_stays_current() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("b")
    number = stage.switch("b")
    waiting = stage.acquire("current")
    stage.start_failed("b", ModelLoadError("b is corrupt."))
    assert stage.refused[number].message == "b is corrupt."
    assert stage.current() == "a"
    assert stage.admitted[waiting] == "a"
    assert stage.events_of("model-switched") == []


def test_a_switch_that_cannot_be_written_does_not_happen() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    stage.disk_fails = True
    number = stage.switch("b")
    assert isinstance(stage.refused[number], StorageError)
    assert stage.current() == "a"
    assert stage.view("b").leases == 0


def test_when_both_do_not_fit_the_old_one_drains_and_callers_land_on_the_new() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    running = stage.acquire("current")
    stage.known("b")
    number = stage.switch("b")
    waiting = stage.acquire("current")
    assert stage.status("a") is ModelStatus.DRAINING
    assert waiting not in stage.admitted
    stage.release(running)
    assert stage.stops[0].reason == "switched away"
    stage.stopped("a")
    stage.started("b")
    assert number in stage.done
    assert stage.admitted[waiting] == "b"
    assert stage.started_keys == ["a", "b"]


def test_when_both_do_not_fit_and_the_new_one_fails_the_old_one_comes_back() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a", options=LoadOptions(context_size=512))
    running = stage.acquire("current")
    stage.known("b")
    number = stage.switch("b")
    waiting = stage.acquire("current")
    stage.release(running)
    stage.stopped("a")
    stage.start_failed("b")
    assert number in stage.refused
    assert stage.started_keys == ["a", "b", "a"]
    assert stage.starts[-1].options.context_size == 512
    stage.started("a")
    assert stage.current() == "a"
    assert stage.admitted[waiting] == "a"


def test_a_switch_whose_drain_takes_too_long_fails_and_the_old_model_serves_on() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.acquire("current")
    stage.known("b")
    number = stage.switch("b", wait_s=20.0)
    waiting = stage.acquire("current")
    stage.at(60.0)
    assert isinstance(stage.refused[number], ModelUnavailableError)
    assert stage.status("a") is ModelStatus.LOADED
    assert stage.admitted[waiting] == "a"


def test_a_switch_that_is_cancelled_puts_the_old_model_back() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.acquire("current")
    stage.known("b")
    number = stage.switch("b")
    stage.release(number)
    assert stage.status("a") is ModelStatus.LOADED


def test_a_pinned_model_is_not_displaced() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a", options=LoadOptions(pin=True))
    stage.known("b")
    stage.switch("b")
    assert stage.status("a") is ModelStatus.LOADED
    assert stage.stopped_keys == []


def test_nothing_is_displaced_in_vain() -> None:
    """With the old model gone there would still be no room, since another one is pinned."""
    stage = Stage(budget_bytes=3)
    stage.known("pinned", "old")
    stage.load("old")
    stage.started("old")
    stage.load("pinned", LoadOptions(pin=True))
    stage.started("pinned")
    stage.acquire("old")
    stage.known("big", size_bytes=3)
    stage.switch("big")
    assert stage.status("old") is ModelStatus.LOADED


def test_what_is_unloaded_by_hand_is_not_put_back_by_a_switch_that_fails() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    running = stage.acquire("a")
    stage.known("b")
    stage.switch("b")
    stage.unload("a")
    stage.release(running)
    stage.stopped("a")
    stage.start_failed("b")
    assert stage.started_keys == ["a", "b"]


def test_compare_and_set_refuses_what_was_decided_on_something_else() -> None:
    stage = Stage()
    stage.with_loaded("a", "b", "c")
    assert isinstance(stage.refused[stage.switch("b", expected="c")], ConflictError)
    assert isinstance(stage.refused[stage.switch("b", expected=None)], ConflictError)
    assert stage.switch("b", expected="a") in stage.done
    assert stage.switch("c", alias="prod", expected=None) in stage.done


def test_compare_and_set_is_checked_when_the_switch_happens_not_only_when_it_is_asked_for() -> None:
    stage = Stage()
    stage.with_loaded("a", "c")
    stage.known("b")
    slow = stage.switch("b", expected="a")
    assert stage.switch("c", expected="a") in stage.done
    stage.started("b")
    assert isinstance(stage.refused[slow], ConflictError)
    assert stage.current() == "c"


def test_of_two_switches_at_once_the_second_waits_for_the_first_to_be_written() -> None:
    stage = Stage()
    stage.with_loaded("a", "b", "c")
    stage.disk_waits = True
    first = stage.switch("b", expected="a")
    second = stage.switch("c", expected="a")
    third = stage.switch("c")
    assert len(stage.writing) == 1
    stage.disk_waits = False
    stage.write()
    assert first in stage.done
    assert isinstance(stage.refused[second], ConflictError)
    assert stage.done[third].previous == "b"
    assert [each.previous for each in stage.written if isinstance(each, AliasPointed)] == [None, "a", "b"]


def test_a_switch_to_what_is_current_already_is_done_at_once_and_announces_nothing() -> None:
    stage = Stage()
    stage.with_loaded("a")
    number = stage.switch("a")
    assert stage.done[number].previous == "a"
    assert stage.events_of("model-switched") == []


def test_other_aliases_switch_alike_and_leave_current_alone() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    stage.switch("b", alias="prod")
    request = stage.acquire("prod")
    assert stage.admitted[request] == "b"
    assert stage.current() == "a"


def test_an_unload_refuses_the_switch_that_waits_for_the_same_model() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("b")
    number = stage.switch("b")
    stage.unload("b")
    assert isinstance(stage.refused[number], ConflictError)


def test_a_switch_to_a_model_that_cools_down_tries_at_once() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("b")
    stage.switch("b")
    stage.start_failed("b")
    stage.switch("b")
    assert stage.started_keys == ["a", "b", "b"]


def test_a_higher_one_in_the_line_is_served_first_when_the_old_model_comes_back() -> None:
    stage = Stage(room=1)
    stage.known("a", concurrency=1)
    stage.load("a")
    stage.started("a")
    running = stage.acquire("a")
    stage.known("b")
    stage.switch("b")
    urgent, plain = stage.acquire("a", priority=1), stage.acquire("a")
    stage.step(m.Gone(key="b"))
    stage.release(running)
    assert list(stage.admitted) == [running, urgent]
    stage.release(urgent)
    assert stage.admitted[plain] == "a"
