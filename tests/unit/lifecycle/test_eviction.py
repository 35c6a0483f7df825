"""Who must go is the fewest, least recently used, of those that may go; and nobody if it would not help."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from noa.lifecycle.eviction import Resident, Room, victims

rooms = st.builds(Room, max_models=st.integers(1, 6), budget_bytes=st.none() | st.integers(0, 30))


@st.composite
def resident_lists(draw: st.DrawFn) -> list[Resident]:
    ages = draw(st.lists(st.integers(0, 100), max_size=7, unique=True))
    return [
        Resident(
            key=f"m{index}",
            size_bytes=draw(st.integers(0, 10)),
            last_used=float(age),
            evictable=draw(st.booleans()),
        )
        for index, age in enumerate(ages)
    ]


def fits(residents: list[Resident], room: Room, needed: int) -> bool:
    used = sum(each.size_bytes for each in residents)
    return len(residents) < room.max_models and (room.budget_bytes is None or used + needed <= room.budget_bytes)


def without(residents: list[Resident], gone: tuple[str, ...]) -> list[Resident]:
    return [each for each in residents if each.key not in gone]


@given(resident_lists(), rooms, st.integers(0, 12))
def test_what_goes_makes_room_and_was_free_to_go(residents: list[Resident], room: Room, needed: int) -> None:
    gone = victims(residents, room, needed)
    if gone is not None:
        assert fits(without(residents, gone), room, needed)
        assert all(each.evictable for each in residents if each.key in gone)


@given(resident_lists(), rooms, st.integers(0, 12))
def test_none_means_that_no_choice_would_help(residents: list[Resident], room: Room, needed: int) -> None:
    if victims(residents, room, needed) is None:
        free = [each.key for each in residents if each.evictable]
        choices = (choice for size in range(len(free) + 1) for choice in itertools.combinations(free, size))
        assert not any(fits(without(residents, choice), room, needed) for choice in choices)


@given(resident_lists(), rooms, st.integers(0, 12))
def test_they_are_the_least_recently_used_and_no_more_of_them_than_needed(
    residents: list[Resident], room: Room, needed: int
) -> None:
    gone = victims(residents, room, needed)
    if not gone:
        return
    free_by_age = [each.key for each in sorted(residents, key=lambda each: each.last_used) if each.evictable]
    assert list(gone) == free_by_age[: len(gone)]
    assert not fits(without(residents, gone[:-1]), room, needed)


@given(resident_lists(), rooms, st.integers(0, 12))
def test_nobody_goes_where_there_is_room(residents: list[Resident], room: Room, needed: int) -> None:
    assert (victims(residents, room, needed) == ()) == fits(residents, room, needed)


def test_bytes_alone_can_ask_for_several() -> None:
    residents = [Resident(key=f"m{age}", size_bytes=2, last_used=float(age), evictable=True) for age in range(4)]
    assert victims(residents, Room(max_models=9, budget_bytes=9), 4) == ("m0", "m1")
