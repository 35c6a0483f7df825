"""How models go by hand: drained, or cut by force; written first; and what becomes of ``current``."""

from __future__ import annotations

import pytest

from noa.errors import ConflictError, ModelNotFoundError, ModelNotLoadedError, StorageError
from noa.lifecycle import messages as m
from noa.models import LoadOptions, ModelStatus
from noa.state import AliasPointed, ModelDropped
from simulation.stage import Stage


def test_an_unload_waits_for_the_requests_that_run_and_admits_no_others() -> None:
    stage = Stage()
    stage.with_loaded("a")
    running = stage.acquire("a")
    number = stage.unload("a")
    late = stage.acquire("a")
    assert stage.status("a") is ModelStatus.DRAINING
    assert late not in stage.admitted
    stage.release(running)
    assert stage.stopped_keys == ["a"]
    assert number not in stage.done
    stage.stopped("a")
    assert number in stage.done
    assert stage.started_keys == ["a", "a"]
    stage.started("a")
    assert stage.admitted[late] == "a"


def test_requests_within_a_lease_are_served_while_the_model_drains() -> None:
    stage = Stage()
    stage.with_loaded("a")
    lease = stage.acquire("a", hold=True)
    stage.unload("a")
    inside = stage.acquire("a", within=lease)
    outside = stage.acquire("a")
    assert stage.admitted[inside] == "a"
    assert outside not in stage.admitted
    stage.release(inside)
    assert stage.stopped_keys == []
    stage.release(lease)
    assert stage.stopped_keys == ["a"]


def test_a_drain_that_takes_too_long_is_given_up_and_the_model_serves_on() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.acquire("a")
    number = stage.unload("a", wait_s=10.0)
    waiting = stage.acquire("a")
    stage.at(50.0)
    error = stage.refused[number]
    assert isinstance(error, ConflictError)
    assert "in use by 1" in error.message
    assert stage.status("a") is ModelStatus.LOADED
    assert stage.admitted[waiting] == "a"
    assert stage.stopped_keys == []


def test_each_of_two_unloads_has_its_own_deadline() -> None:
    stage = Stage()
    stage.with_loaded("a")
    busy = stage.acquire("a")
    soon, late = stage.unload("a", wait_s=10.0), stage.unload("a", wait_s=100.0)
    stage.at(20.0)
    assert soon in stage.refused
    assert stage.status("a") is ModelStatus.DRAINING
    stage.release(busy)
    stage.stopped("a")
    assert late in stage.done


def test_force_cuts_whoever_uses_it() -> None:
    stage = Stage()
    stage.with_loaded("a")
    users = [stage.acquire("a"), stage.acquire("a", hold=True)]
    number = stage.unload("a", force=True)
    assert sorted(stage.cut) == users
    assert stage.stopped_keys == ["a"]
    for user in users:
        stage.release(user)
    stage.stopped("a")
    assert number in stage.done


def test_a_pinned_model_goes_by_hand() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(pin=True))
    number = stage.unload("a")
    stage.stopped("a")
    assert number in stage.done


def test_an_unload_is_written_before_the_process_is_told() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.disk_waits = True
    stage.unload("a")
    assert stage.stopped_keys == []
    assert ModelDropped(key="a") in stage.writing[0].changes
    stage.disk_waits = False
    stage.write()
    assert stage.stopped_keys == ["a"]


def test_an_unload_that_cannot_be_written_does_not_happen() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    stage.disk_fails = True
    number = stage.unload("a")
    assert isinstance(stage.refused[number], StorageError)
    assert stage.status("a") is ModelStatus.LOADED
    assert stage.current() == "a"
    assert stage.stopped_keys == []
    assert set(stage.scheduler.kept) == {"a", "b"}
    assert stage.acquire("a") in stage.admitted


def test_unloading_the_current_model_moves_to_the_one_used_last() -> None:
    stage = Stage()
    stage.with_loaded("a", "b", "c")
    stage.release(stage.acquire("b"))
    stage.unload("a")
    stage.stopped("a")
    assert stage.current() == "b"
    assert stage.events_of("model-switched")[-1].data["current_model"] == "b"
    assert AliasPointed(name="current", key="b", previous="a", reason="the current model was unloaded") in stage.written


def test_unloading_the_last_model_leaves_nothing_current() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.unload("a")
    stage.stopped("a")
    assert stage.current() is None
    stage.with_loaded("a")
    assert stage.current() == "a"


def test_what_is_not_loaded_cannot_be_unloaded() -> None:
    stage = Stage()
    stage.known("a")
    assert isinstance(stage.refused[stage.unload("a")], ModelNotLoadedError)
    assert isinstance(stage.refused[stage.unload("nowhere")], ModelNotFoundError)


def test_a_model_can_be_unloaded_while_it_loads() -> None:
    stage = Stage()
    stage.known("a")
    load = stage.load("a")
    unload = stage.unload("a")
    assert isinstance(stage.refused[load], ConflictError)
    assert stage.stopped_keys == ["a"]
    stage.started("a")
    stage.stopped("a")
    assert unload in stage.done
    assert stage.status("a") is ModelStatus.UNLOADED
    assert not stage.scheduler.kept


def test_unloading_what_is_restored_just_now_keeps_it_from_coming_back_again() -> None:
    stage = Stage()
    stage.step(m.Restored(aliases={"current": "a"}, kept={"a": LoadOptions()}))
    stage.known("a")
    stage.load("a")
    number = stage.unload("a")
    stage.stopped("a")
    assert number in stage.done
    assert ModelDropped(key="a") in stage.written
    assert stage.current() is None


def test_unloading_what_is_kept_but_failed_to_load_forgets_it() -> None:
    stage = Stage()
    stage.step(m.Restored(aliases={}, kept={"a": LoadOptions()}))
    stage.known("a")
    stage.load("a")
    stage.start_failed("a")
    number = stage.unload("a")
    assert number in stage.done
    assert not stage.scheduler.kept


def test_a_crash_while_an_unload_is_written_ends_the_unload_well() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.disk_waits = True
    number = stage.unload("a")
    stage.crashed("a")
    assert number not in stage.done
    stage.disk_waits = False
    stage.write()
    assert number in stage.done
    assert stage.status("a") is ModelStatus.UNLOADED
    assert stage.current() is None
    stage.at(100.0)
    assert stage.started_keys == ["a"]


def test_a_crash_while_it_drains_for_an_unload_is_written_before_it_is_acknowledged() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.acquire("a")
    number = stage.unload("a")
    stage.disk_waits = True
    stage.crashed("a")
    assert number not in stage.done
    stage.disk_waits = False
    stage.write()
    assert number in stage.done
    assert not stage.scheduler.kept
    assert stage.current() is None
    stage.at(100.0)
    assert stage.started_keys == ["a"]


@pytest.mark.parametrize("force", [False, True])
def test_a_switch_that_is_being_written_is_waited_for(force: bool) -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    stage.disk_waits = True
    switch = stage.switch("b")
    unload = stage.unload("b", force=force)
    assert stage.stopped_keys == []
    stage.disk_waits = False
    stage.write()
    assert switch in stage.done
    stage.stopped("b")
    assert unload in stage.done
    assert stage.current() == "a"


def test_an_unload_by_hand_forgets_the_options() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(ttl_s=5.0))
    stage.unload("a")
    stage.stopped("a")
    stage.acquire("a")
    assert stage.starts[-1].options == LoadOptions()
