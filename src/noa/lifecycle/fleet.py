"""The slots of all models, and how places are taken and given back."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from noa.errors import AIProviderError, ConflictError
from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Placement, Resident, Room, place
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.slots import RESIDENT, Slot, Waiter
from noa.lifecycle.states import Move
from noa.models import LoadOptions, ModelStatus

#: Backoff after a failed or crashed start: 1, 2, 4 … seconds, at most this.
MAX_BACKOFF_S: Final = 60.0
#: More than this many crashes within the window is given up.
MAX_CRASHES: Final = 5
CRASH_WINDOW_S: Final = 300.0
#: For so long at most those for whom a model was loaded keep it from making room for others, before they have it.
MIN_RESIDENCY_S: Final = 2.0


class Fleet:
    """Every slot, those that take a place, and those that come back by themselves.

    ``begun`` are those that were ever begun to be loaded: all others just stand by as available.
    ``kept`` is what the disk says of the models to load again after a restart. ``now`` is set before each step;
    ``changed`` says that whoever could not be served before may be now.
    """

    def __init__(self, room: Room, outbox: Outbox) -> None:
        self.now = 0.0
        self.slots: dict[str, Slot] = {}
        self.begun: dict[str, Slot] = {}
        self.resident: dict[str, Slot] = {}
        self.reviving: dict[str, Slot] = {}
        self.kept: dict[str, LoadOptions] = {}
        self.changed = False
        self._generations = itertools.count(1)
        self.room = room
        self._outbox = outbox

    # What exists.

    def known(self, message: m.Known) -> None:
        """A model exists. What is said of its size counts from its next start."""
        slot = self.slots.get(message.key)
        if slot is None:
            slot = Slot(message.key, message.owned, message.size_bytes, message.concurrency)
            self.slots[message.key] = slot
        slot.gone = False
        if slot.withdrawn and not (slot.owned or message.owned):
            self._returned(slot)
        slot.default_bytes, slot.default_threads = message.size_bytes, message.threads
        if slot.status not in RESIDENT:
            slot.owned, slot.size_bytes = message.owned, slot.size_for(slot.options)
            slot.concurrency = message.concurrency

    def sized(self, message: m.Sized) -> None:
        """A model needs so much with these options, from its next start."""
        slot = self.slots.get(message.key)
        if slot is not None:
            slot.note_size(message.options, message.size_bytes)
            if slot.status not in RESIDENT:
                slot.size_bytes = slot.size_for(slot.options)

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
            self.begun.pop(slot.key, None)
            self.reviving.pop(slot.key, None)

    def incarnation(self, key: str, generation: int) -> Slot | None:
        """The slot, if it still is the incarnation that a completion speaks of."""
        slot = self.slots.get(key)
        if slot is None or slot.generation != generation or slot.status not in RESIDENT:
            return None
        return slot if slot.retry_after is None else None

    # Coming.

    def begin_load(self, slot: Slot, options: LoadOptions) -> bool:
        """Start it if there is room. Otherwise let whoever may go make room, and say no for now.

        Its bytes are taken from here on, until its process is gone. A remote model takes none, so it never waits for a
        place; ``trim`` restores the limit afterwards.
        """
        placement = self.placement(slot, options)
        if not placement.at_once:
            for key in () if placement.busy else placement.evicts:
                self.drain(self.resident[key], "evicted")
            if slot.owned:
                return False
        slot.move(Move.LOAD)
        slot.options = options
        slot.size_bytes = slot.size_for(options)
        slot.loaded_since = self.now
        self.begun[slot.key] = self.resident[slot.key] = slot
        self._outbox.publish("model-loading", key=slot.key, phase="starting")
        self._start(slot)
        return True

    def _start(self, slot: Slot) -> None:
        slot.generation = next(self._generations)
        self._outbox.emit(m.Start(key=slot.key, generation=slot.generation, options=slot.options))

    def placement(self, slot: Slot, options: LoadOptions, *, without: Slot | None = None) -> Placement:
        """How a model that has no place gets one, with these options, and if another left."""
        return place(self.residents(without=without), self.room, slot.size_for(options))

    def residents(self, *, without: Slot | None = None) -> list[Resident]:
        """Who takes a place now."""
        return [_as_resident(slot) for slot in self.resident.values() if slot is not without]

    def is_too_large(self, slot: Slot, options: LoadOptions) -> bool:
        """Whether it would not fit even if nothing else were loaded."""
        budget = self.room.budget_bytes
        return slot.owned and budget is not None and slot.size_for(options) > budget

    def loaded(self, slot: Slot) -> None:
        """It serves from now on."""
        slot.move(Move.STARTED)
        slot.announced = True
        slot.failures = 0
        slot.error = None
        slot.revive = False
        slot.last_used = slot.loaded_since = self.now
        self._outbox.publish("model-loaded", key=slot.key, generation=slot.generation)

    def owe(self, slot: Slot, waiters: Iterable[Waiter]) -> None:
        """It was loaded for these: it does not make room for others before they had it, for ``MIN_RESIDENCY_S``."""
        for waiter in waiters:
            slot.owed.add(waiter.number)
            waiter.owed_by = slot

    def end_residencies(self) -> None:
        """Whoever was not served for so long, though it was loaded, keeps it from nobody any more."""
        for slot in self.resident.values():
            if slot.owed and slot.loaded_since + MIN_RESIDENCY_S <= self.now:
                slot.owed.clear()

    def retry(self, slot: Slot) -> bool:
        """There was not enough memory to start it: have one more idle model go, and start it once more after that.

        It keeps its place meanwhile. Says no if it was tried twice, or nobody may go.
        """
        idle = [each for each in self.resident.values() if each.evictable and each.owned]
        if slot.retried or not idle:
            return False
        victim = min(idle, key=lambda each: each.last_used)
        slot.retried = True
        slot.retry_after = (victim.key, victim.generation)
        self.drain(victim, "evicted")
        self._outbox.publish("model-loading", key=slot.key, phase="making-room")
        return True

    def restart(self) -> None:
        """Start again those for whom somebody has made room by now, or has stayed after all."""
        for slot in self.resident.values():
            if slot.retry_after is None or slot.status is not ModelStatus.LOADING:
                continue
            key, generation = slot.retry_after
            victim = self.resident.get(key)
            if victim is None or victim.generation != generation or victim.status is not ModelStatus.DRAINING:
                slot.retry_after = None
                self._start(slot)

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
            self.changed = True
        elif slot.unloaders and not slot.stopping:
            slot.stop_reason = reason

    def withdraw(self, slot: Slot) -> None:
        """Its provider is there no more: it goes once nobody uses it, and does not come back by itself."""
        slot.gone = True
        slot.revive = False
        self.reviving.pop(slot.key, None)
        if slot.status in RESIDENT:
            slot.withdrawn = True
            self.drain(slot, "withdrawn")
        self.forget_if_gone(slot)

    def _returned(self, slot: Slot) -> None:
        """It runs elsewhere, and is there again before it was let go."""
        slot.withdrawn = False
        if slot.status is ModelStatus.DRAINING and not (slot.unloaders or slot.stopping or slot.committing):
            self.resume(slot)

    def reconsider(self, message: m.Reconsidered) -> None:
        """Another provider has this name: what failed there may be tried again at once."""
        for slot in self.begun.values():
            if slot.key.partition(":")[0] == message.provider and slot.status not in RESIDENT:
                slot.failures = 0
                slot.cool_until = self.now

    def resume(self, slot: Slot) -> None:
        """It stays after all, unless there is another reason for it to go."""
        if slot.withdrawn:
            return
        slot.move(Move.RESUME)
        slot.stop_reason = ""

    def expire(self, *, spare: Collection[str]) -> None:
        """Let go whose time to live is over, but for those to ``spare``."""
        for slot in list(self.resident.values()):
            if slot.expires_at is not None and slot.expires_at <= self.now and slot.key not in spare:
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
        """Hold the limits again after a remote model was served beyond them, or one took more than it was thought to.

        What is measured to be larger than the whole budget stays while it is alone.
        """
        staying = [slot for slot in self.resident.values() if slot.status is not ModelStatus.DRAINING]
        count, used_bytes = len(staying), sum(slot.size_bytes for slot in staying)
        for slot in sorted((slot for slot in staying if slot.evictable), key=lambda slot: slot.last_used):
            too_many = count > self.room.max_models
            too_large = self.room.budget_bytes is not None and used_bytes > self.room.budget_bytes
            if not too_many and not (too_large and slot.size_bytes and count > 1):
                continue
            self.drain(slot, "evicted")
            count -= 1
            used_bytes -= slot.size_bytes

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
        self.changed = True
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
        self.changed = True
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
            elif self.is_too_large(slot, slot.options):
                del self.reviving[slot.key]
                slot.revive = False

    # Time.

    def times(self) -> Iterator[float]:
        """When something is due."""
        for slot in self.resident.values():
            if slot.expires_at is not None:
                yield slot.expires_at
            if slot.owed:
                yield slot.loaded_since + MIN_RESIDENCY_S
            yield from (deadline for deadline in slot.unloaders.values() if deadline is not None)
        for slot in self.reviving.values():
            yield slot.cool_until


def _as_resident(slot: Slot) -> Resident:
    return Resident(
        key=slot.key,
        size_bytes=slot.size_bytes,
        last_used=slot.last_used,
        evictable=slot.evictable,
        pinned=slot.options.pin,
        leaving=slot.status is ModelStatus.DRAINING,
    )


def _backoff_s(times: int) -> float:
    return float(min(2.0 ** (times - 1), MAX_BACKOFF_S))
