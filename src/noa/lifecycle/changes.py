"""Loads and switches: the changes that wait for a model, and are written before they are acknowledged."""

from __future__ import annotations

from noa.errors import AIProviderError
from noa.lifecycle import messages as m
from noa.lifecycle import refusals
from noa.lifecycle.aliases import Aliases
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.line import Line
from noa.lifecycle.options import merged, mismatch
from noa.lifecycle.outbox import AfterCommit, Outbox
from noa.lifecycle.slots import RESIDENT, Slot, Waiter
from noa.lifecycle.turns import Turns
from noa.models import LoadOptions, ModelStatus
from noa.state import Change, ModelKept


class Changes:
    """Serves whoever waits for a load or a switch. ``serve`` says whether he is answered."""

    def __init__(self, fleet: Fleet, aliases: Aliases, line: Line, turns: Turns, outbox: Outbox) -> None:
        self._fleet = fleet
        self._aliases = aliases
        self._line = line
        self._turns = turns
        self._outbox = outbox

    def refusal(self, wish: m.Load | m.Switch) -> AIProviderError | None:
        """What can be said against it from the beginning."""
        slot = self._fleet.slots.get(wish.key)
        if slot is None:
            return refusals.unknown(wish.key)
        if isinstance(wish, m.Switch):
            return self._aliases.lost_race(wish.alias, wish.expected)
        return mismatch(slot, wish.options)

    def serve(self, waiter: Waiter, wish: m.Load | m.Switch) -> bool:
        """Take the next step of it that is possible now."""
        slot = self._fleet.slots.get(wish.key)
        if slot is None:
            self._refuse(waiter, refusals.unknown(wish.key))
            return True
        if slot.status is ModelStatus.LOADED:
            return self._finish(waiter, slot, wish)
        return slot.status not in RESIDENT and self._begin(waiter, slot, wish)

    def _finish(self, waiter: Waiter, slot: Slot, wish: m.Load | m.Switch) -> bool:
        if isinstance(wish, m.Load):
            return self._finish_load(waiter, slot, wish.options)
        return not self._aliases.is_changing(wish.alias) and self._point(waiter, slot, wish)

    def _begin(self, waiter: Waiter, slot: Slot, wish: m.Load | m.Switch) -> bool:
        options = wish.options
        if isinstance(wish, m.Switch) and options == LoadOptions():
            options = slot.options
        if self._fleet.is_too_large(slot, options):
            self._refuse(waiter, refusals.too_large(slot, options, self._fleet.room.budget_bytes or 0))
            return True
        if not self._fleet.begin_load(slot, options):
            if pins := self._turns.pins_before(waiter, slot, options):
                self._refuse(waiter, refusals.shut_out(slot.key, pins))
                return True
            self._turns.seek_place(waiter, slot, options)
            if isinstance(wish, m.Switch):
                self._displace(waiter, wish, slot, options)
        return False

    def _refuse(self, waiter: Waiter, error: AIProviderError) -> None:
        self.put_back(waiter)
        self._outbox.refuse(waiter.number, error)

    def _finish_load(self, waiter: Waiter, slot: Slot, asked: LoadOptions) -> bool:
        if conflict := mismatch(slot, asked):
            self._outbox.refuse(waiter.number, conflict)
            return True
        options = merged(slot.options, asked)
        if slot.options == self._fleet.kept.get(slot.key) == options:
            self._outbox.emit(m.Done(waiter=waiter.number, key=slot.key))
            return True
        generation = slot.generation

        def recorded(error: AIProviderError | None) -> None:
            if error is not None:
                self._outbox.refuse(waiter.number, error)
                return
            self._fleet.kept[slot.key] = options
            if slot.generation == generation and slot.status in RESIDENT:
                slot.options = options
            self._outbox.emit(m.Done(waiter=waiter.number, key=slot.key))

        self._commit(waiter, slot, ModelKept(key=slot.key, options=options), recorded)
        return False

    def _commit(self, waiter: Waiter, slot: Slot, change: Change, then: AfterCommit) -> None:
        """Write what a waiter asked for of a loaded model, and keep that from being evicted meanwhile."""
        waiter.committing = True
        slot.holds.add(waiter.number)

        def recorded(error: AIProviderError | None) -> None:
            self._line.leave(waiter)
            slot.holds.discard(waiter.number)
            then(error)

        self._outbox.commit([change], recorded)

    def _point(self, waiter: Waiter, slot: Slot, wish: m.Switch) -> bool:
        if conflict := self._aliases.lost_race(wish.alias, wish.expected):
            self._refuse(waiter, conflict)
            return True
        previous = self._aliases.get(wish.alias)
        if previous == wish.key:
            self._outbox.emit(m.Done(waiter=wish.waiter, key=wish.key, previous=previous))
            return True
        pointed = self._aliases.begin(wish.alias, wish.key, wish.reason)

        def recorded(error: AIProviderError | None) -> None:
            self._aliases.end(pointed, error)
            if error is not None:
                self._refuse(waiter, error)
                return
            self._outbox.emit(m.Done(waiter=wish.waiter, key=wish.key, previous=previous))

        self._commit(waiter, slot, pointed, recorded)
        return False

    def _displace(self, waiter: Waiter, wish: m.Switch, newcomer: Slot, options: LoadOptions) -> None:
        """Both do not fit: the model the alias means now drains first, and comes back if the new one fails."""
        if any(slot.status is ModelStatus.DRAINING for slot in self._fleet.resident.values()):
            return
        old = self._fleet.resident.get(self._aliases.get(wish.alias) or "")
        if old is None or old.status is not ModelStatus.LOADED or old.options.pin or old.owed:
            return
        rest = self._fleet.placement(newcomer, options, without=old)
        if rest.fits and not rest.busy:
            waiter.displaced = old.key
            self._fleet.drain(old, "switched away")

    def put_back(self, waiter: Waiter) -> None:
        """A switch will not happen: the model it was to replace comes back."""
        slot = self._fleet.slots.get(waiter.displaced) if waiter.displaced else None
        if slot is not None:
            self._fleet.bring_back(slot)
