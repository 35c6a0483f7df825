"""Who must go so that a model fits."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A model that takes a place now. ``evictable`` means loaded, idle, unleased and unpinned.

    ``last_used`` is on the scheduler's clock, in seconds; ``size_bytes`` is what stopping it gives back.
    """

    key: str
    size_bytes: int
    last_used: float
    evictable: bool


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is: at most ``max_models`` at once, and ``budget_bytes`` in all (``None``: no limit)."""

    max_models: int
    budget_bytes: int | None = None


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
