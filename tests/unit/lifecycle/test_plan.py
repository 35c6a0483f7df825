"""A plan says what a load would do, and does nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.errors import ConflictError, ModelNotFoundError
from noa.lifecycle.eviction import Resident, Room, place
from noa.models import LoadOptions, LoadPlan
from simulation.stage import Stage

NOTHING = LoadOptions()


def plan(stage: Stage, key: str, options: LoadOptions = NOTHING, size_bytes: int = 6) -> LoadPlan:
    before = (stage.scheduler.residents(), stage.scheduler.aliases, stage.scheduler.kept, stage.scheduler.waiting)
    found = stage.scheduler.plan(key, options, size_bytes)
    assert before == (
        stage.scheduler.residents(),
        stage.scheduler.aliases,
        stage.scheduler.kept,
        stage.scheduler.waiting,
    )
    return found


def test_a_model_that_fits_costs_nobody_anything() -> None:
    stage = Stage(budget_bytes=10)
    stage.known("a", size_bytes=6, threads=3)
    assert plan(stage, "a") == LoadPlan(
        key="a", fits=True, needed_bytes=6, budget_bytes=10, used_bytes=0, evicts=(), waits_for=(), threads=3
    )


def test_it_names_whom_it_would_evict_in_order_of_their_last_use() -> None:
    stage = Stage(budget_bytes=10)
    for key in ("a", "b", "c"):
        stage.known(key, size_bytes=3)
        stage.load(key)
        stage.started(key)
        stage.now += 1
    stage.known("new")
    found = plan(stage, "new", size_bytes=6)
    assert (found.fits, found.evicts, found.waits_for, found.used_bytes) == (True, ("a", "b"), (), 9)
    stage.sized("new", NOTHING, 6)
    stage.load("new")
    assert stage.stopped_keys == ["a", "b"]


def test_it_names_whom_it_would_wait_for() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.acquire("a")
    stage.known("b")
    found = plan(stage, "b")
    assert (found.fits, found.evicts, found.waits_for) == (True, (), ("a",))


def test_it_waits_for_what_is_leaving_already() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.unload("a")
    stage.known("b")
    assert plan(stage, "b").waits_for == ("a",)
    assert plan(stage, "a").waits_for == ("a",)


def test_there_is_no_way_past_a_pin_or_beyond_the_budget() -> None:
    stage = Stage(room=1, budget_bytes=10)
    stage.with_loaded("a", options=LoadOptions(pin=True))
    stage.known("b")
    assert not plan(stage, "b").fits
    alone = Stage(budget_bytes=10)
    alone.known("big")
    found = plan(alone, "big", size_bytes=11)
    assert (found.fits, found.needed_bytes, found.budget_bytes, found.evicts) == (False, 11, 10, ())


def test_a_model_that_is_loaded_needs_nothing_more() -> None:
    stage = Stage(room=1, budget_bytes=10)
    stage.known("a", size_bytes=7)
    stage.load("a")
    stage.started("a", size_bytes=8)
    found = plan(stage, "a")
    assert (found.fits, found.needed_bytes, found.used_bytes, found.evicts, found.waits_for) == (True, 8, 8, (), ())


def test_a_remote_model_needs_no_memory_and_waits_for_nobody() -> None:
    stage = Stage(room=1)
    stage.with_loaded("a")
    stage.acquire("a")
    stage.known("far", owned=False)
    found = plan(stage, "far")
    assert (found.fits, found.needed_bytes, found.threads, found.waits_for) == (True, None, None, ())


def test_it_is_refused_with_what_a_load_would_be_refused_with() -> None:
    stage = Stage()
    stage.with_loaded("a", options=LoadOptions(context_size=512))
    with pytest.raises(ConflictError, match="context_size"):
        plan(stage, "a", LoadOptions(context_size=1024))
    with pytest.raises(ModelNotFoundError):
        plan(stage, "nobody")


@st.composite
def residents(draw: st.DrawFn) -> list[Resident]:
    return [
        Resident(
            key=f"m{index}",
            size_bytes=draw(st.integers(0, 9)),
            last_used=float(draw(st.integers(0, 5))),
            evictable=draw(st.booleans()),
            pinned=draw(st.booleans()),
            leaving=draw(st.booleans()),
        )
        for index in range(draw(st.integers(0, 6)))
    ]


rooms = st.builds(Room, max_models=st.integers(1, 5), budget_bytes=st.none() | st.integers(0, 30))


@given(residents(), rooms, st.integers(0, 12))
def test_when_all_who_are_named_have_gone_there_is_room(present: list[Resident], room: Room, needed: int) -> None:
    present = [each if not each.pinned else _pinned(each) for each in present]
    placement = place(present, room, needed)
    gone = {*placement.evicts, *placement.busy, *placement.leaving}
    rest = [each for each in present if each.key not in gone]
    used = sum(each.size_bytes for each in rest)
    enough = len(rest) < room.max_models and (room.budget_bytes is None or used + needed <= room.budget_bytes)
    assert placement.fits <= enough
    by_key = {each.key: each for each in present}
    assert all(by_key[key].evictable and not by_key[key].leaving for key in placement.evicts)
    assert not any(by_key[key].pinned or by_key[key].evictable for key in placement.busy)


@given(residents(), rooms, st.integers(0, 12))
def test_no_way_means_that_not_even_everybody_unpinned_would_do(
    present: list[Resident], room: Room, needed: int
) -> None:
    present = [each if not each.pinned else _pinned(each) for each in present]
    if place(present, room, needed).fits:
        return
    rest = [each for each in present if each.pinned and not each.leaving]
    used = sum(each.size_bytes for each in rest)
    enough = len(rest) < room.max_models and (room.budget_bytes is None or used + needed <= room.budget_bytes)
    assert not enough


def _pinned(resident: Resident) -> Resident:
    return Resident(
        key=resident.key,
        size_bytes=resident.size_bytes,
        last_used=resident.last_used,
        evictable=False,
        pinned=True,
        leaving=resident.leaving,
    )
