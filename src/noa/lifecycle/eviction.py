"""Who must go so that a model fits."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A model that takes a place now. ``evictable`` means loaded, idle, unleased and unpinned.

    ``last_used`` is on the scheduler's clock, in seconds; ``size_bytes`` is what stopping it gives back. ``pinned``
    ones never go, and ``leaving`` ones are about to be gone.
    """

    key: str
    size_bytes: int
    last_used: float
    evictable: bool
    pinned: bool = False
    leaving: bool = False


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is: at most ``max_models`` at once, and ``budget_bytes`` in all (``None``: no limit).

    Engines that are busy at the same time have at most ``cores`` threads together (``None``: no limit); see ``Turns``.
    """

    max_models: int
    budget_bytes: int | None = None
    cores: int | None = None


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """How a model gets a place: ``evicts`` must go, and ``busy`` and ``leaving`` be waited for.

    Without ``fits`` there is no way: it is too large, or too much of the room is pinned.
    """

    fits: bool
    evicts: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()

    @property
    def at_once(self) -> bool:
        """Whether it may start as things are."""
        return self.fits and not (self.evicts or self.busy or self.leaving)


def place(residents: Iterable[Resident], room: Room, needed_bytes: int) -> Placement:
    """How one more model that needs ``needed_bytes`` gets a place among these."""
    everyone = list(residents)
    if victims(everyone, room, needed_bytes) == ():
        return Placement(fits=True)
    staying = [each for each in everyone if not each.leaving]
    leaving = tuple(each.key for each in everyone if each.leaving)
    idle = victims(staying, room, needed_bytes)
    if idle is not None:
        return Placement(fits=True, evicts=idle, leaving=leaving)
    patient = [msgspec.structs.replace(each, evictable=not each.pinned) for each in staying]
    chosen = victims(patient, room, needed_bytes)
    if chosen is None:
        return Placement(fits=False)
    free = {each.key for each in staying if each.evictable}
    return Placement(
        fits=True,
        evicts=tuple(key for key in chosen if key in free),
        busy=tuple(key for key in chosen if key not in free),
        leaving=leaving,
    )


def victims(residents: Iterable[Resident], room: Room, needed_bytes: int) -> tuple[str, ...] | None:
    """The fewest least recently used models whose going makes room for one that needs ``needed_bytes``.

    Empty when it fits as things are; ``None`` when it would not fit even if all that may go went.
    """
    everyone = list(residents)
    count = len(everyone)
    used_bytes = sum(resident.size_bytes for resident in everyone)

    def fits() -> bool:
        enough_bytes = room.budget_bytes is None or used_bytes + needed_bytes <= room.budget_bytes
        return count < room.max_models and enough_bytes

    chosen: list[str] = []
    for resident in sorted(everyone, key=lambda each: each.last_used):
        if fits():
            break
        if resident.evictable:
            chosen.append(resident.key)
            count -= 1
            used_bytes -= resident.size_bytes
    return tuple(chosen) if fits() else None
