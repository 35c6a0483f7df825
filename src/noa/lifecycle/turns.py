"""Whose turn it is, where several want what there is not enough of: the processors, or the place of another model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from noa.lifecycle import messages as m
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.slots import Slot, Waiter
from noa.models import LoadOptions, ModelStatus

#: Whoever waits for so long for a place is no longer passed by requests for the model that has it.
PATIENCE_S: Final = 5.0
#: Whoever has nothing but pinned models in its way is refused after so long: nobody but a person frees their places.
PINNED_PATIENCE_S: Final = 5.0


class Turns:
    """Decides, while the line is gone through in order, who must let another go first.

    Engines that compute with several threads at once ruin each other when they have more threads than there are
    processors: two on two of them fall to a tenth of their speed. So engines of more than one thread are busy together
    only while all busy threads have a processor. One that is alone is never kept waiting. Who is kept waiting is next:
    nobody who came later gets processors that it needs.

    A request for a loaded model would keep it busy for ever where requests overlap. So whoever waits for a place that
    busy models have is passed only for ``PATIENCE_S``; then those models finish what they do, and go. And whoever could
    not be placed even if every model went that is not pinned is shut out, and waits no longer than
    ``PINNED_PATIENCE_S``.
    """

    def __init__(self, fleet: Fleet, cores: int | None) -> None:
        self._fleet = fleet
        self._cores = cores
        self._next: dict[str, Slot] = {}
        self._sought: set[str] = set()
        self._shut_out: dict[int, float] = {}
        self._found_shut_out: dict[int, float] = {}

    def begin(self) -> None:
        """The line is gone through from its beginning."""
        self._next.clear()
        self._sought.clear()
        self._found_shut_out = {}

    def end(self) -> None:
        """The line was gone through to its end: whoever was not found shut out this time is so no longer."""
        self._shut_out = self._found_shut_out

    @property
    def kept_waiting(self) -> frozenset[str]:
        """The loaded models that somebody waits for because the processors are busy."""
        return frozenset(self._next)

    def may_have(self, slot: Slot, wish: m.Acquire) -> bool:
        """Whether it is this one's turn for a model that has a place for it. A lease already held goes before all."""
        if slot.key in self._sought and wish.within not in slot.holds:
            return False
        return wish.hold or self._may_run(slot)

    def _may_run(self, slot: Slot) -> bool:
        if self._cores is None or not slot.threads:
            return True
        busy = [each for each in self._fleet.resident.values() if each.serving and each.threads]
        company = {each.key: each.threads for each in (*busy, *self._next.values(), slot)}
        if len(company) == 1 or max(company.values()) == 1 or sum(company.values()) <= self._cores:
            return True
        self._next[slot.key] = slot
        return False

    def seek_place(self, waiter: Waiter, newcomer: Slot, options: LoadOptions) -> None:
        """There is no room for it. Whoever has waited long enough gets the next place that becomes free."""
        if self._fleet.now - waiter.since < PATIENCE_S:
            return
        busy = self._fleet.placement(newcomer, options).busy
        if all(self._can_finish(self._fleet.resident[key]) for key in busy):
            self._sought.update(busy)

    def pins_before(self, waiter: Waiter, newcomer: Slot, options: LoadOptions) -> tuple[str, ...]:
        """The pinned models that alone shut it out, once they have done so for ``PINNED_PATIENCE_S``; none before.

        To be asked whenever there is no room for it while the line is gone through.
        """
        if not self.pins or self._fleet.placement(newcomer, options).fits:
            return ()
        now = self._fleet.now
        since = self._found_shut_out[waiter.number] = self._shut_out.get(waiter.number, now)
        return self.pins if since + PINNED_PATIENCE_S <= now else ()

    @property
    def pins(self) -> tuple[str, ...]:
        """The pinned models that have a place, but for those that are leaving it."""
        residents = self._fleet.resident.values()
        return tuple(each.key for each in residents if each.options.pin and each.status is not ModelStatus.DRAINING)

    def pins_that_shut_out(self, waiter: Waiter) -> tuple[str, ...]:
        """The pinned models that were all that was in its way when the line was last gone through, and still are."""
        return self.pins if waiter.number in self._shut_out else ()

    def times(self) -> Iterator[float]:
        """When the patience of those who are shut out ends."""
        return (since + PINNED_PATIENCE_S for since in self._shut_out.values())

    def _can_finish(self, slot: Slot) -> bool:
        """Whether it comes to an end with its requests. One that is leased does not, nor one still owed to somebody;
        and a request for a remote model never waits for a place.
        """
        return slot.owned and slot.status is ModelStatus.LOADED and not (slot.holds or slot.owed or slot.committing)
