"""The slots of all models, and how places are taken and given back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from noa.errors import AIProviderError, ConflictError
from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Resident, Room, victims
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.slots import RESIDENT, Slot
from noa.lifecycle.states import Move
from noa.models import LoadOptions, ModelStatus

#: Backoff after a failed or crashed start: 1, 2, 4 … seconds, at most this.
MAX_BACKOFF_S: Final = 60.0
#: More than this many crashes within the window is given up.
MAX_CRASHES: Final = 5
CRASH_WINDOW_S: Final = 300.0


class Fleet:
    """Every slot, those that take a place, and those that come back by themselves.

    ``kept`` is what the disk says of the models to load again after a restart. ``now`` is set before each step.
    """

    def __init__(self, room: Room, outbox: Outbox) -> None:
        self.now = 0.0
        self.slots: dict[str, Slot] = {}
        self.resident: dict[str, Slot] = {}
        self.reviving: dict[str, Slot] = {}
        self.kept: dict[str, LoadOptions] = {}
        self._generations = itertools.count(1)
        self._room = room
        self._outbox = outbox

    # What exists.

    def known(self, message: m.Known) -> None:
        """A model exists. What is said of its size counts from its next start."""
        slot = self.slots.get(message.key)
        if slot is None:
            self.slots[message.key] = Slot(message.key, message.owned, message.size_bytes, message.concurrency)
            return
        slot.gone = False
        if slot.status not in RESIDENT:
            slot.owned, slot.size_bytes = message.owned, message.size_bytes
            slot.concurrency = message.concurrency

    def gone(self, message: m.Gone) -> None:
        """A model is offered no longer; it is forgotten as soon as it is not in use."""
        slot = self.slots.get(message.key)
        if slot is not None:
            slot.gone = True
            self.forget_if_gone(slot)

    def forget_if_gone(self, slot: Slot) -> None:
        """Drop the slot of a model that is neither offered nor in use."""
        if slot.gone and slot.status not in RESIDENT:
            self.slots.pop(slot.key, None)
            self.reviving.pop(slot.key, None)

    def incarnation(self, key: str, generation: int) -> Slot | None:
        """The slot, if it still is the incarnation that a completion speaks of."""
        slot = self.slots.get(key)
        return slot if slot is not None and slot.generation == generation and slot.status in RESIDENT else None

    # Coming.

    def begin_load(self, slot: Slot, options: LoadOptions) -> bool:
        """Start it if there is room. Otherwise let whoever may go make room, and say no for now.

        A remote model takes no memory, so it never waits for a place; ``trim`` restores the limit afterwards.
        """
        present = list(self.resident.values())
        staying = [each for each in present if each.status is not ModelStatus.DRAINING]
        fits_now = self._victims(present, slot) == ()
        if not fits_now:
            for key in self._victims(staying, slot) or ():
                self.drain(self.resident[key], "evicted")
            if slot.owned:
                return False
        slot.move(Move.LOAD)
        slot.generation = next(self._generations)
        slot.options = options
        slot.loaded_since = self.now
        self.resident[slot.key] = slot
        self._outbox.publish("model-loading", key=slot.key, phase="starting")
        self._outbox.emit(m.Start(key=slot.key, generation=slot.generation, options=options))
        return True

    def would_fit(self, newcomer: Slot, *, without: Slot) -> bool:
        """Whether there would be room for one model if another left, and whoever may go went too."""
        staying = [slot for slot in self.resident.values() if slot is not without]
        return self._victims(staying, newcomer) is not None

    def _victims(self, residents: list[Slot], newcomer: Slot) -> tuple[str, ...] | None:
        return victims(map(_as_resident, residents), self._room, newcomer.size_bytes)

    def loaded(self, slot: Slot) -> None:
        """It serves from now on."""
        slot.move(Move.STARTED)
        slot.announced = True
        slot.failures = 0
        slot.error = None
        slot.revive = False
        slot.last_used = slot.loaded_since = self.now
        self._outbox.publish("model-loaded", key=slot.key, generation=slot.generation)

    def failed(self, slot: Slot, error: AIProviderError) -> None:
        """It did not start. It may be asked for again after a while; one that should have come back tries again."""
        slot.move(Move.START_FAILED)
        self._vacate(slot)
        slot.failures += 1
        slot.error = error
        slot.cool_until = self.now + _backoff_s(slot.failures)
        self._outbox.publish("model-load-error", key=slot.key, error=error.message, code=error.code)
        if slot.revive and not self._ended_too_often(slot):
            self.reviving[slot.key] = slot
        else:
            slot.revive = False
            slot.options = self.kept.get(slot.key, LoadOptions())
        self.forget_if_gone(slot)

    # Going.

    def drain(self, slot: Slot, reason: str) -> None:
        """Let it go once nobody uses it. A wish by hand outweighs the reason it drains for already."""
        if slot.status is not ModelStatus.DRAINING:
            slot.move(Move.DRAIN)
            slot.stop_reason = reason
        elif slot.unloaders and not slot.stopping:
            slot.stop_reason = reason

    def resume(self, slot: Slot) -> None:
        """It stays after all."""
        slot.move(Move.RESUME)
        slot.stop_reason = ""

    def expire(self) -> None:
        """Let go whose time to live is over."""
        for slot in list(self.resident.values()):
            if slot.expires_at is not None and slot.expires_at <= self.now:
                self.drain(slot, "ttl")

    def give_up_unloads(self) -> None:
        """Refuse those who unload by hand what was in use for too long."""
        for slot in list(self.resident.values()):
            if slot.unloaders and not (slot.idle or slot.stopping or slot.committing):
                self._give_up_unloads(slot)

    def _give_up_unloads(self, slot: Slot) -> None:
        overdue = [number for number, at in slot.unloaders.items() if at is not None and at <= self.now]
        busy = len(slot.serving) + len(slot.holds)
        for number in overdue:
            del slot.unloaders[number]
            sentence = f"{slot.key} is still in use by {busy} requests or leases; it stays loaded."
            self._outbox.refuse(number, ConflictError(sentence))
        if not slot.unloaders:
            self.resume(slot)

    def refuse_unloaders(self, slot: Slot, error: AIProviderError) -> None:
        """Tell whoever unloads it by hand that it stays."""
        for number in slot.unloaders:
            self._outbox.refuse(number, error)
        slot.unloaders.clear()

    def trim(self) -> None:
        """Hold the limit again after a remote model was served beyond it."""
        staying = [slot for slot in self.resident.values() if slot.status is not ModelStatus.DRAINING]
        excess = max(len(staying) - self._room.max_models, 0)
        idle = sorted((slot for slot in staying if slot.evictable), key=lambda slot: slot.last_used)
        for slot in idle[:excess]:
            self.drain(slot, "evicted")

    def drained(self) -> Iterator[Slot]:
        """The slots that drain, are idle, and have not been told to stop."""
        for slot in list(self.resident.values()):
            if slot.status is ModelStatus.DRAINING and slot.idle and not slot.stopping and not slot.committing:
                yield slot

    def order_stop(self, slot: Slot) -> None:
        """Have it stopped."""
        slot.stopping = True
        self._outbox.emit(m.Stop(key=slot.key, generation=slot.generation, reason=slot.stop_reason))

    def stopped(self, slot: Slot) -> None:
        """Its process is gone and its memory is free."""
        reason = slot.stop_reason
        slot.move(Move.STOPPED)
        self._vacate(slot)
        if reason in {"evicted", "ttl"}:
            self._outbox.publish("model-evicted", key=slot.key, reason=reason)
        self._outbox.publish("model-unloaded", key=slot.key, reason=reason)
        self.forget_if_gone(slot)

    def crashed(self, slot: Slot, error: AIProviderError, *, wanted: bool) -> None:
        """It ended by itself. If it is ``wanted`` it comes back after 1, 2, 4 … s, unless it ended too often."""
        slot.move(Move.CRASHED)
        self._vacate(slot)
        slot.error = error
        self._outbox.publish("model-crashed", key=slot.key, error=error.message, code=error.code)
        slot.revive = not self._ended_too_often(slot)
        if not slot.revive:
            slot.move(Move.GAVE_UP)
        elif wanted:
            self.reviving[slot.key] = slot
        self.forget_if_gone(slot)

    def _ended_too_often(self, slot: Slot) -> bool:
        """Count one more end, and cool down for as long as there were such ends lately."""
        slot.crashes.append(self.now)
        while slot.crashes[0] < self.now - CRASH_WINDOW_S:
            slot.crashes.popleft()
        gave_up = len(slot.crashes) > MAX_CRASHES
        slot.cool_until = self.now + (MAX_BACKOFF_S if gave_up else _backoff_s(len(slot.crashes)))
        return gave_up

    def _vacate(self, slot: Slot) -> None:
        del self.resident[slot.key]
        slot.emptied()

    # Coming back.

    def renounce(self, key: str) -> None:
        """Somebody unloaded it by hand: it does not come back by itself, and forgets how it was loaded."""
        self.reviving.pop(key, None)
        if slot := self.slots.get(key):
            slot.revive = False
            slot.options = LoadOptions()

    def bring_back(self, slot: Slot) -> None:
        """Undo a drain, or load it again as it was."""
        if slot.unloaders or slot.status in {ModelStatus.LOADING, ModelStatus.LOADED}:
            return
        if slot.status is ModelStatus.DRAINING and not slot.stopping:
            self.resume(slot)
            return
        slot.revive = True
        slot.cool_until = self.now
        self.reviving[slot.key] = slot

    def revive(self) -> None:
        """Start again what has cooled down."""
        for slot in list(self.reviving.values()):
            if slot.status is ModelStatus.DRAINING or (slot.status not in RESIDENT and slot.cool_until > self.now):
                continue
            if slot.status in RESIDENT or self.begin_load(slot, slot.options):
                del self.reviving[slot.key]


def _as_resident(slot: Slot) -> Resident:
    return Resident(key=slot.key, size_bytes=slot.size_bytes, last_used=slot.last_used, evictable=slot.evictable)


def _backoff_s(times: int) -> float:
    return float(min(2.0 ** (times - 1), MAX_BACKOFF_S))
