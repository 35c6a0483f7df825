"""What ends by itself comes back, later each time, until it is given up."""

from __future__ import annotations

from noa.errors import ModelLoadError, ModelUnavailableError
from noa.lifecycle.fleet import CRASH_WINDOW_S, MAX_CRASHES
from noa.models import LoadOptions, ModelStatus
from simulation.stage import Stage


def ringing(stage: Stage) -> float:
    at = stage.rings_at()
    assert at is not None
    return at


def test_a_crashed_model_comes_back_as_it_was() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(pin=True, ttl_s=7.0))
    crashed_at = stage.now
    stage.crashed("a")
    assert stage.status("a") is ModelStatus.UNLOADED
    assert stage.current() == "a"
    stage.at(crashed_at + 0.9)
    assert len(stage.starts) == 1
    stage.at(crashed_at + 1.0)
    assert stage.starts[1].options == LoadOptions(pin=True, ttl_s=7.0)
    assert stage.starts[1].generation > stage.starts[0].generation
    assert stage.events_of("model-crashed")[0].data["error"] == "a crashed."


def test_each_time_it_waits_twice_as_long_and_at_last_it_is_given_up() -> None:
    stage = Stage()
    stage.with_loaded("a")
    waits = []
    for _ in range(MAX_CRASHES):
        crashed_at = stage.now
        stage.crashed("a")
        waits.append(ringing(stage) - crashed_at)
        stage.at(ringing(stage))
        stage.started("a")
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    stage.crashed("a")
    assert stage.status("a") is ModelStatus.FAILED
    stage.at(stage.now + 1000.0)
    assert len(stage.starts) == 1 + MAX_CRASHES


def test_crashes_long_ago_do_not_count() -> None:
    stage = Stage()
    stage.with_loaded("a")
    for _ in range(3 * MAX_CRASHES):
        crashed_at = stage.now
        stage.crashed("a")
        stage.at(crashed_at + 1.0)
        stage.started("a")
        stage.at(stage.now + CRASH_WINDOW_S)
    assert stage.status("a") is ModelStatus.LOADED


def test_requests_wait_for_a_crashed_model_to_come_back() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.crashed("a")
    waiting = stage.acquire("a")
    assert waiting not in stage.refused
    stage.at(stage.now + 1.0)
    stage.started("a")
    assert stage.admitted[waiting] == "a"


def test_it_comes_back_as_soon_as_its_place_is_idle_again() -> None:
    stage = Stage(room=1)
    stage.known("a")
    stage.known("b")
    stage.load("a")
    stage.started("a")
    stage.crashed("a")
    stage.load("b")
    stage.at(stage.now + 5.0)
    stage.started("b")
    stage.stopped("b")
    assert stage.status("a") is ModelStatus.LOADING, "nothing else had to happen for it"


def test_requests_are_refused_when_it_is_given_up() -> None:
    stage = Stage()
    stage.with_loaded("a")
    for _ in range(MAX_CRASHES):
        stage.crashed("a")
        stage.at(ringing(stage))
        waiting = stage.acquire("a") if len(stage.starts) == 1 + MAX_CRASHES else 0
        if not waiting:
            stage.started("a")
    stage.crashed("a")
    assert isinstance(stage.refused[waiting], ModelLoadError)
    error = stage.refused[stage.acquire("a")]
    assert isinstance(error, ModelUnavailableError)
    assert error.retry_after_s == 60.0


def test_who_waits_in_vain_for_a_crashed_model_is_told_of_the_crash() -> None:
    stage = Stage()
    stage.with_loaded("a")
    for _ in range(3):
        stage.crashed("a")
        stage.at(ringing(stage))
        stage.started("a")
    stage.crashed("a")
    number = stage.acquire("a", wait_s=2.0)
    stage.at(stage.now + 2.0)
    assert "a crashed." in stage.refused[number].message


def test_a_start_that_fails_on_the_way_back_is_tried_again() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.crashed("a")
    stage.at(stage.now + 1.0)
    stage.start_failed("a")
    assert stage.status("a") is ModelStatus.FAILED
    stage.at(stage.now + 2.0)
    assert len(stage.starts) == 3
    stage.started("a")
    assert stage.status("a") is ModelStatus.LOADED


def test_a_crash_while_the_load_is_being_written_is_no_lost_model() -> None:
    stage = Stage()
    stage.known("a")
    stage.disk_waits = True
    waiting = stage.acquire("a")
    stage.started("a")
    stage.crashed("a")
    stage.disk_waits = False
    stage.write()
    assert waiting not in stage.admitted
    stage.at(1.0)
    stage.started("a")
    assert stage.admitted[waiting] == "a"
    assert stage.current() == "a"
    assert set(stage.scheduler.kept) == {"a"}


def test_a_process_that_crashes_while_it_is_stopped_does_not_come_back() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(ttl_s=5.0))
    stage.at(20.0)
    assert stage.stopped_keys == ["a"]
    stage.crashed("a")
    stage.stopped("a")
    stage.at(100.0)
    assert stage.status("a") is ModelStatus.UNLOADED
    assert stage.started_keys == ["a"]


def test_unloading_what_is_about_to_come_back_keeps_it_away() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.crashed("a")
    number = stage.unload("a")
    assert number in stage.done
    assert stage.current() is None
    assert not stage.scheduler.kept
    stage.at(100.0)
    assert stage.started_keys == ["a"]


def test_leases_end_with_the_process() -> None:
    stage = Stage()
    stage.with_loaded("a")
    number = stage.acquire("a")
    stage.crashed("a")
    stage.at(stage.now + 1.0)
    stage.started("a")
    stage.release(number)
    assert stage.view("a").in_flight == 0
