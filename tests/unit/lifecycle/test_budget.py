"""Memory as a budget: what a load takes, from when until when, and what happens where there is not enough."""

from __future__ import annotations

import pytest

from noa.errors import ModelLoadError, ModelUnavailableError
from noa.lifecycle import messages as m
from noa.models import CacheType, LoadOptions, ModelStatus
from simulation.stage import Stage

GIB = 1024**3
LONG = LoadOptions(context_size=32_768)
SMALL_CACHE = LoadOptions(context_size=32_768, cache_type=CacheType.Q4_0)


def test_a_load_takes_what_its_own_options_need() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", size_bytes=4)
    stage.sized("b", LONG, 7)
    stage.load("a")
    stage.started("a")
    stage.load("b", LONG)
    assert stage.stopped_keys == ["a"]
    stage.stopped("a")
    assert stage.view("b").size_bytes == 7


def test_options_that_need_less_fit_beside_the_other() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", size_bytes=4)
    stage.sized("b", LONG, 7)
    stage.sized("b", SMALL_CACHE, 6)
    stage.load("a")
    stage.started("a")
    stage.load("b", SMALL_CACHE)
    assert stage.started_keys == ["a", "b"]


def test_what_shapes_no_memory_needs_no_size_of_its_own() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", size_bytes=4)
    stage.load("a", LoadOptions(threads=3, ttl_s=9.0, pin=True, priority=2, warmup=True))
    assert stage.view("a").size_bytes == 4


def test_a_model_that_loads_is_counted_from_the_order_on() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", size_bytes=6)
    stage.load("a")
    stage.load("b")
    assert stage.started_keys == ["a"]


def test_bytes_are_free_when_the_process_is_gone_whether_it_was_stopped_or_crashed() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", "c", size_bytes=6)
    stage.load("a")
    stage.started("a")
    stage.acquire("b")
    assert stage.stopped_keys == ["a"]
    assert stage.started_keys == ["a"]
    stage.stopped("a")
    assert stage.started_keys == ["a", "b"]
    stage.started("b")
    stage.acquire("c", wait_s=5000.0)
    stage.crashed("b")
    assert stage.started_keys == ["a", "b", "c"]


def test_bytes_of_a_start_that_failed_are_free_again() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", size_bytes=6)
    stage.load("a")
    stage.start_failed("a")
    stage.load("b")
    assert stage.started_keys == ["a", "b"]


def test_what_was_measured_counts_at_the_next_start_in_the_same_shape_only() -> None:
    stage = Stage(budget_bytes=100)
    stage.known("a", size_bytes=5)
    stage.sized("a", LONG, 7)
    stage.load("a", LONG)
    stage.started("a", size_bytes=30)
    stage.unload("a")
    stage.stopped("a")
    stage.load("a", LONG)
    assert stage.view("a").size_bytes == 30
    stage.started("a")
    stage.unload("a")
    stage.stopped("a")
    stage.load("a")
    assert stage.view("a").size_bytes == 5


def test_a_model_that_took_more_than_was_thought_makes_an_idle_one_go() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", size_bytes=5)
    stage.load("a")
    stage.started("a")
    stage.now += 10
    stage.load("b")
    stage.started("b", size_bytes=8)
    assert stage.stopped_keys == ["a"]


def test_a_busy_one_goes_as_soon_as_its_request_is_over() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", "b", size_bytes=5)
    stage.load("a")
    stage.started("a")
    request = stage.acquire("a")
    stage.acquire("b")
    stage.started("b", size_bytes=8)
    assert stage.stopped_keys == []
    stage.release(request)
    assert stage.stopped_keys == ["a"]


def test_a_model_measured_to_exceed_the_budget_stays_while_it_is_alone() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", size_bytes=9)
    stage.load("a")
    stage.started("a", size_bytes=11)
    stage.at(100.0)
    assert stage.status("a") is ModelStatus.LOADED


def test_a_load_that_can_never_fit_is_refused_at_once_with_both_numbers_and_a_way_out() -> None:
    stage = Stage(budget_bytes=8 * GIB)
    stage.known("small", size_bytes=1 * GIB)
    stage.known("big", size_bytes=12 * GIB)
    stage.load("small")
    stage.started("small")
    error = stage.refused[stage.load("big")]
    assert isinstance(error, ModelLoadError)
    assert error.status == 500
    assert not error.retryable
    for part in ("big needs 12.0 GiB", "may take 8.0 GiB", "smaller context", "cache type", "memory budget"):
        assert part in error.message
    assert error.details == {"neededBytes": 12 * GIB, "budgetBytes": 8 * GIB}
    assert stage.stopped_keys == []
    assert isinstance(stage.refused[stage.switch("big")], ModelLoadError)
    assert stage.current() == "small"


def test_a_request_for_what_can_never_fit_does_not_wait() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("big", size_bytes=11)
    error = stage.refused[stage.acquire("big")]
    assert isinstance(error, ModelUnavailableError)
    assert "big needs" in error.message


def test_what_can_never_fit_any_more_is_not_revived_for_ever() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", size_bytes=9)
    stage.load("a")
    stage.started("a", size_bytes=11)
    stage.crashed("a")
    stage.at(1000.0)
    assert stage.started_keys == ["a"]
    assert stage.rings_at() is None


# Out of memory.


def test_a_load_that_ran_out_of_memory_lets_one_idle_model_go_and_is_tried_once_more() -> None:
    stage = Stage()
    stage.with_loaded("old", "new")
    stage.known("big")
    load = stage.load("big")
    stage.start_failed("big", out_of_memory=True)
    assert stage.stopped_keys == ["old"]
    assert stage.stops[0].reason == "evicted"
    assert stage.started_keys.count("big") == 1
    assert stage.status("big") is ModelStatus.LOADING
    stage.stopped("old")
    assert stage.started_keys.count("big") == 2
    stage.started("big")
    assert load in stage.done
    assert load not in stage.refused


def test_the_second_failure_is_told_and_nobody_else_goes_for_it() -> None:
    stage = Stage()
    stage.with_loaded("old", "new")
    stage.known("big")
    load = stage.load("big")
    stage.start_failed("big", out_of_memory=True)
    stage.stopped("old")
    error = ModelLoadError("big could not be loaded: there is not enough memory for it.")
    stage.start_failed("big", error, out_of_memory=True)
    assert stage.refused[load] is error
    assert stage.stopped_keys == ["old"]
    assert stage.status("new") is ModelStatus.LOADED


@pytest.mark.parametrize("use", ["request", "lease", "pin", "nobody there"])
def test_without_an_idle_model_there_is_no_second_try(use: str) -> None:
    stage = Stage()
    if use != "nobody there":
        stage.with_loaded("a", options=LoadOptions(pin=use == "pin"))
    if use in {"request", "lease"}:
        stage.acquire("a", hold=use == "lease")
    stage.known("big")
    load = stage.load("big")
    stage.start_failed("big", out_of_memory=True)
    assert load in stage.refused
    assert stage.stopped_keys == []


def test_a_failure_of_another_kind_costs_nobody_their_place() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("broken")
    assert stage.load("broken") not in stage.refused
    stage.start_failed("broken")
    assert stage.stopped_keys == []


def test_a_load_that_waits_for_its_second_try_can_be_unloaded() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("big")
    stage.load("big")
    stage.start_failed("big", out_of_memory=True)
    unload = stage.unload("big")
    assert unload in stage.done
    assert stage.status("big") is ModelStatus.UNLOADED
    stage.stopped("a")
    assert stage.started_keys == ["a", "big"]


def test_whoever_waits_gets_the_place_of_a_load_that_was_unloaded_before_its_second_try() -> None:
    stage = Stage(room=2)
    stage.with_loaded("a")
    stage.known("big")
    stage.known("next")
    stage.load("big")
    stage.start_failed("big", out_of_memory=True)
    stage.load("next")
    assert "next" not in stage.started_keys
    stage.unload("big")
    assert "next" in stage.started_keys


def test_late_news_of_the_first_try_does_not_touch_the_second() -> None:
    stage = Stage()
    stage.with_loaded("a")
    stage.known("big")
    load = stage.load("big")
    first = stage.view("big").generation
    stage.start_failed("big", out_of_memory=True)
    late = m.StartFailed(key="big", generation=first, error=ModelLoadError("late"), out_of_memory=True)
    stage.step(late)
    stage.stopped("a")
    stage.step(late)
    assert load not in stage.refused
    assert stage.status("big") is ModelStatus.LOADING
