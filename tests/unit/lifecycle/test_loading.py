"""How models come: once, however many ask, each noted on disk, and for whoever waits."""

from __future__ import annotations

from noa.errors import ConflictError, ModelLoadError, ModelNotFoundError, ModelUnavailableError, StorageError
from noa.lifecycle import messages as m
from noa.lifecycle.scheduler import MAX_WAITING
from noa.models import LoadOptions, ModelStatus
from noa.state import AliasPointed, ModelKept
from simulation.stage import Stage


def test_one_model_is_started_once_however_many_ask() -> None:
    stage = Stage()
    stage.known("a")
    asked = [stage.acquire("a") for _ in range(5)]
    loads = [stage.load("a") for _ in range(5)]
    assert stage.started_keys == ["a"]
    stage.started("a")
    assert all(stage.admitted[number] == "a" for number in asked)
    assert all(number in stage.done for number in loads)
    assert stage.started_keys == ["a"]


def test_the_lease_of_a_waiter_passes_from_the_load_to_its_request() -> None:
    """Somebody of higher priority wants the place, but not before the model was used by whom it was loaded for."""
    stage = Stage(room=1)
    stage.known("a", "b")
    first = stage.acquire("a")
    urgent = stage.acquire("b", priority=9)
    stage.started("a")
    assert stage.admitted[first] == "a"
    assert urgent not in stage.admitted
    stage.release(first)
    stage.stopped("a")
    stage.started("b")
    assert stage.admitted[urgent] == "b"


def test_a_load_is_acknowledged_only_when_it_is_written() -> None:
    stage = Stage()
    stage.known("a")
    stage.disk_waits = True
    number = stage.load("a", LoadOptions(ttl_s=9.0))
    stage.started("a")
    assert number not in stage.done
    assert stage.status("a") is ModelStatus.LOADING
    stage.disk_waits = False
    stage.write()
    assert stage.done[number].key == "a"
    assert ModelKept(key="a", options=LoadOptions(ttl_s=9.0)) in stage.written


def test_a_load_that_cannot_be_written_is_refused_and_undone() -> None:
    stage = Stage()
    stage.known("a")
    stage.disk_fails = True
    number = stage.load("a")
    stage.started("a")
    assert isinstance(stage.refused[number], StorageError)
    assert stage.stopped_keys == ["a"]
    assert stage.current() is None
    assert not stage.scheduler.kept


def test_requests_are_served_though_the_disk_is_full() -> None:
    stage = Stage()
    stage.known("a")
    stage.disk_fails = True
    number = stage.acquire("a")
    stage.started("a")
    assert stage.admitted[number] == "a"
    assert not stage.scheduler.kept


def test_the_first_model_loaded_becomes_current() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    assert stage.current() == "a"
    assert [each for each in stage.written if isinstance(each, AliasPointed)] == [
        AliasPointed(name="current", key="a", previous=None, reason="first model loaded")
    ]


def test_of_two_first_loads_one_becomes_current() -> None:
    stage = Stage()
    stage.known("a", "b")
    stage.load("a")
    stage.load("b")
    stage.disk_waits = True
    stage.started("b")
    stage.started("a")
    stage.disk_waits = False
    stage.write()
    assert stage.current() == "b"
    assert len([each for each in stage.written if isinstance(each, AliasPointed)]) == 1


def test_a_first_load_does_not_overtake_a_switch_that_is_being_written() -> None:
    stage = Stage()
    stage.with_loaded("b")
    stage.unload("b")
    stage.stopped("b")
    stage.with_loaded("a")
    stage.unload("a")
    stage.stopped("a")
    assert stage.current() is None
    stage.load("a")
    stage.disk_waits = True
    stage.started("a")
    stage.switch("b")
    stage.disk_waits = False
    stage.write()
    stage.started("b")
    pointed = [each for each in stage.written if isinstance(each, AliasPointed)]
    assert stage.current() == pointed[-1].key == "b"
    assert pointed[-1].previous == "a"


def test_who_asks_for_current_before_anything_is_loaded_waits_for_the_first() -> None:
    stage = Stage()
    stage.known("a")
    assert isinstance(stage.refused[stage.acquire("current")], ModelUnavailableError)
    stage.load("a")
    number = stage.acquire("current")
    stage.started("a")
    assert stage.admitted[number] == "a"


def test_a_failed_load_cools_down_for_requests_but_not_for_explicit_loads() -> None:
    stage = Stage()
    stage.known("a")
    first = stage.acquire("a")
    stage.start_failed("a")
    assert isinstance(stage.refused[first], ModelLoadError)
    assert stage.status("a") is ModelStatus.FAILED
    second = stage.acquire("a")
    error = stage.refused[second]
    assert isinstance(error, ModelUnavailableError)
    assert error.retry_after_s == 1.0
    assert "a does not start." in error.message
    stage.load("a")
    assert stage.started_keys == ["a", "a"]
    stage.start_failed("a")
    again = stage.refused[stage.acquire("a")]
    assert again.retry_after_s == 2.0


def test_everybody_who_waits_for_a_start_that_fails_is_told() -> None:
    stage = Stage()
    stage.known("a")
    waiting = [stage.acquire("a"), stage.load("a"), stage.acquire("a", hold=True), stage.switch("a"), stage.load("a")]
    stage.start_failed("a", ModelLoadError("a is corrupt."))
    assert [stage.refused[number].message for number in waiting] == ["a is corrupt."] * len(waiting)


def test_after_the_cooldown_a_request_loads_it_again() -> None:
    stage = Stage()
    stage.known("a")
    stage.acquire("a")
    stage.start_failed("a")
    stage.at(1.0)
    stage.acquire("a")
    assert stage.started_keys == ["a", "a"]


def test_options_of_a_failed_attempt_are_not_used_by_requests() -> None:
    stage = Stage()
    stage.known("a")
    stage.load("a", LoadOptions(gpu_layers=99))
    stage.start_failed("a")
    stage.at(5.0)
    stage.acquire("a")
    assert stage.starts[-1].options == LoadOptions()


def test_a_second_load_with_another_shape_is_refused() -> None:
    stage = Stage()
    stage.known("a")
    stage.load("a", LoadOptions(context_size=1024))
    assert isinstance(stage.refused[stage.load("a", LoadOptions(context_size=4096))], ConflictError)
    stage.started("a")
    assert isinstance(stage.refused[stage.load("a", LoadOptions(slots=4))], ConflictError)


def test_loads_of_two_shapes_that_waited_for_room_do_not_pass_for_each_other() -> None:
    stage = Stage(room=1)
    stage.with_loaded("b")
    busy = stage.acquire("b")
    stage.known("a")
    first = stage.load("a", LoadOptions(context_size=1024))
    second = stage.load("a", LoadOptions(context_size=4096))
    stage.release(busy)
    stage.stopped("b")
    stage.started("a")
    assert first in stage.done
    assert isinstance(stage.refused[second], ConflictError)


def test_a_second_load_pins_and_sets_the_time_to_live() -> None:
    stage = Stage()
    stage.with_loaded("a")
    number = stage.load("a", LoadOptions(pin=True, ttl_s=5.0))
    assert number in stage.done
    assert stage.view("a").options == LoadOptions(pin=True, ttl_s=5.0)
    assert stage.scheduler.kept["a"] == LoadOptions(pin=True, ttl_s=5.0)


def test_nothing_evicts_a_model_while_its_pin_is_being_written() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.known("b")
    stage.disk_waits = True
    stage.load("a", LoadOptions(pin=True))
    stage.acquire("b")
    stage.disk_waits = False
    stage.write()
    assert stage.status("a") is ModelStatus.LOADED
    assert stage.stopped_keys == []


def test_an_unknown_model_is_not_found() -> None:
    stage = Stage()
    for number in (stage.acquire("a"), stage.load("a"), stage.switch("a")):
        assert isinstance(stage.refused[number], ModelNotFoundError)


def test_whoever_leaves_while_a_model_loads_does_not_stop_the_load() -> None:
    stage = Stage()
    stage.known("a")
    request, load = stage.acquire("a"), stage.load("a")
    stage.release(request)
    stage.release(load)
    stage.started("a")
    assert stage.status("a") is ModelStatus.LOADED
    assert request not in stage.admitted
    assert load not in stage.done


def test_a_grant_that_is_cancelled_in_the_same_tick_gives_its_lease_back() -> None:
    stage = Stage()
    stage.known("a", concurrency=1)
    first = stage.acquire("a")
    second = stage.acquire("a")
    stage.started("a")
    stage.release(first)
    assert stage.admitted == {first: "a", second: "a"}
    stage.release(second)
    stage.release(second)
    assert stage.view("a").in_flight == 0


def test_news_of_an_older_incarnation_changes_nothing() -> None:
    stage = Stage()
    stage.with_loaded("a")
    old = stage.view("a").generation
    stage.unload("a")
    stage.stopped("a")
    stage.acquire("a")
    before = stage.view("a")
    late = ModelLoadError("late")
    for message in (
        m.Started(key="a", generation=old),
        m.StartFailed(key="a", generation=old, error=late),
        m.Stopped(key="a", generation=old),
        m.Crashed(key="a", generation=old, error=late),
        m.Started(key="never", generation=1),
    ):
        assert stage.step(message) == []
    assert stage.view("a") == before
    assert before.generation > old


def test_generations_are_not_used_again_after_a_model_was_forgotten() -> None:
    stage = Stage()
    stage.with_loaded("a")
    old = stage.view("a").generation
    stage.unload("a")
    stage.stopped("a")
    stage.step(m.Gone(key="a"))
    stage.known("a")
    stage.acquire("a")
    assert stage.view("a").generation != old


def test_the_line_is_bounded() -> None:
    stage = Stage()
    stage.known("a")
    for _ in range(MAX_WAITING):
        stage.acquire("a")
    refused = stage.acquire("a")
    error = stage.refused[refused]
    assert isinstance(error, ModelUnavailableError)
    assert error.retry_after_s
    assert stage.scheduler.waiting == MAX_WAITING


def test_requests_are_served_by_priority_and_then_in_order_and_no_more_than_fit() -> None:
    stage = Stage()
    stage.known("a", concurrency=2)
    numbers = [stage.acquire("a", priority=priority) for priority in (0, 0, 1, 0, 1)]
    stage.started("a")
    order = list(stage.admitted)
    assert order == [numbers[2], numbers[4]]
    for number in (numbers[4], numbers[2], numbers[0], numbers[1]):
        assert stage.view("a").in_flight <= 2
        stage.release(number)
    assert list(stage.admitted) == [numbers[2], numbers[4], numbers[0], numbers[1], numbers[3]]


def test_a_load_with_more_slots_serves_more_at_once() -> None:
    stage = Stage()
    stage.known("a", concurrency=1)
    stage.load("a", LoadOptions(slots=3))
    stage.started("a")
    for _ in range(4):
        stage.acquire("a")
    assert stage.view("a").in_flight == 3


def test_leases_take_no_request_slot() -> None:
    stage = Stage()
    stage.known("a", concurrency=1)
    hold = stage.acquire("a", hold=True)
    stage.started("a")
    request = stage.acquire("a", within=hold)
    assert stage.admitted == {hold: "a", request: "a"}
    assert stage.view("a").leases == 1


def test_what_was_kept_is_loaded_on_demand_with_its_options() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a", options=LoadOptions(ttl_s=50.0, context_size=512))
    stage.known("b")
    number = stage.acquire("b")
    stage.stopped("a")
    stage.started("b")
    stage.release(number)
    stage.acquire("a")
    stage.stopped("b")
    assert stage.starts[-1].options == LoadOptions(ttl_s=50.0, context_size=512)
