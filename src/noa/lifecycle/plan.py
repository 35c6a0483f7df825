"""What a load would take, and whom it would cost their place, without doing it."""

from __future__ import annotations

from collections.abc import Iterable

from noa.lifecycle.eviction import Resident, Room, place
from noa.models import LoadPlan


def plan_load(
    key: str, needed_bytes: int | None, threads: int | None, residents: Iterable[Resident], room: Room
) -> LoadPlan:
    """The plan of a load among these residents, by the decision that a real load takes."""
    present = {each.key: each for each in residents}
    own = present.get(key)
    placement = place(present.values(), room, needed_bytes or 0)
    evicts, waits_for = placement.evicts, (*placement.busy, *placement.leaving)
    fits = placement.fits
    if own is not None and own.leaving:
        waits_for = waits_for if key in waits_for else (*waits_for, key)
    elif own is not None:
        fits, evicts, waits_for = True, (), ()
    elif needed_bytes is None:
        fits, waits_for = True, ()  # A remote model waits for no place; who is idle goes if there are too many now.
    return LoadPlan(
        key=key,
        fits=fits,
        needed_bytes=needed_bytes,
        budget_bytes=room.budget_bytes,
        used_bytes=sum(each.size_bytes for each in present.values()),
        evicts=evicts,
        waits_for=waits_for,
        threads=threads,
    )
