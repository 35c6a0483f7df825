"""The slots of all models, and how places are taken and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from noa.errors import AIProviderError, ConflictError
from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Resident, Room, victims
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.slots import RESIDENT, Slot
from noa.lifecycle.states import Move
from noa.models import LoadOptions, ModelStatus
from noa.state import AliasPointed, Change, ModelDropped

#: Backoff after a failed or crashed start: 1, 2, 4 … seconds, at most this.
MAX_BACKOFF_S: Final = 60.0
#: More than this many crashes within the window is given up.
MAX_CRASHES: Final = 5
CRASH_WINDOW_S: Final = 300.0


class Fleet:
    """Every slot, and those that take a place. ``now`` is set by the scheduler before each step."""

    def __init__(self, room: Room, outbox: Outbox) -> None:
        self.now = 0.0
        self.slots: dict[str, Slot] = {}
        self.resident: dict[str, Slot] = {}
        self.reviving: dict[str, Slot] = {}
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
        slot.generation += 1
        slot.options = options
        slot.loaded_since = self.now
        self.resident[slot.key] = slot
        self._outbox.publish("model-loading", key=slot.key, phase="starting")
        self._outbox.emit(m.Start(key=slot.key, generation=slot.generation, options=options))
        return True

    def _victims(self, residents: list[Slot], newcomer: Slot) -> tuple[str, ...] | None:
        return victims(map(_as_resident, residents), self._room, newcomer.size_bytes)

    def loaded(self, slot: Slot, *, kept: bool) -> None:
        """It serves from now on."""
        slot.move(Move.STARTED)
        slot.kept = kept
        slot.failures = 0
        slot.error = None
        slot.revive = False
        slot.last_used = slot.loaded_since = self.now
        self._outbox.publish("model-loaded", key=slot.key, generation=slot.generation)

    def failed(self, slot: Slot, error: AIProviderError) -> None:
        """It did not start. It may be asked for again after a while: 1, 2, 4 … seconds."""
        slot.move(Move.START_FAILED)
        del self.resident[slot.key]
        slot.failures += 1
        slot.error = error
        slot.revive = False
        slot.cool_until = self.now + _backoff_s(slot.failures)
        self._outbox.publish("model-load-error", key=slot.key, error=error.message, code=error.code)
        self.forget_if_gone(slot)

    # Going.

    def drain(self, slot: Slot, reason: str, deadline: float | None = None) -> None:
        """Let it go once nobody uses it. A wish by hand outweighs the reason it drains for already."""
        if slot.status is not ModelStatus.DRAINING:
            slot.move(Move.DRAIN)
            slot.stop_reason = reason
        elif slot.unloaders and not slot.stopping:
            slot.stop_reason = reason
        if deadline is not None:
            slot.drain_deadline = deadline

    def resume(self, slot: Slot) -> None:
        """It stays after all."""
        slot.move(Move.RESUME)
        slot.drain_deadline = None
        slot.stop_reason = ""

    def expire(self) -> None:
        """End what is overdue: times to live, and drains that took too long."""
        for slot in list(self.resident.values()):
            if slot.expires_at is not None and slot.expires_at <= self.now:
                self.drain(slot, "ttl")
            elif slot.drain_deadline is not None and slot.drain_deadline <= self.now:
                self._give_up_drain(slot)

    def _give_up_drain(self, slot: Slot) -> None:
        if slot.stopping or slot.committing or slot.idle:
            return
        busy = len(slot.serving) + len(slot.holds)
        error = ConflictError(f"{slot.key} is still in use by {busy} requests or leases; it stays loaded.")
        self.resume(slot)
        self._refuse_unloaders(slot, error)

    def _refuse_unloaders(self, slot: Slot, error: AIProviderError) -> None:
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

    def stop(self, slot: Slot, moved: AliasPointed | None, then: Callable[[], None]) -> None:
        """Stop a drained model. What somebody asked for by hand is written first; ``then`` applies ``moved``."""
        changes: list[Change] = [ModelDropped(key=slot.key)] if slot.kept else []
        if moved is not None:
            changes.append(moved)
        if not slot.unloaders or not changes:
            if changes:
                self._outbox.commit(changes)
            self._order_stop(slot)
            return
        slot.committing = True
        generation = slot.generation

        def dropped(error: AIProviderError | None) -> None:
            if slot.generation != generation or slot.status is not ModelStatus.DRAINING:
                return
            slot.committing = False
            if error is not None:
                self.resume(slot)
                self._refuse_unloaders(slot, error)
                return
            then()
            self._order_stop(slot)

        self._outbox.commit(changes, dropped)

    def _order_stop(self, slot: Slot) -> None:
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

    def crashed(self, slot: Slot, error: AIProviderError) -> bool:
        """It ended by itself. It comes back after 1, 2, 4 … s; says whether it crashed too often for that."""
        wanted = slot.kept and not slot.unloaders
        if slot.unloaders:
            self._outbox.commit([ModelDropped(key=slot.key)])
        slot.move(Move.CRASHED)
        self._vacate(slot)
        slot.error = error
        slot.crashes.append(self.now)
        while slot.crashes[0] < self.now - CRASH_WINDOW_S:
            slot.crashes.popleft()
        slot.cool_until = self.now + _backoff_s(len(slot.crashes))
        self._outbox.publish("model-crashed", key=slot.key, error=error.message, code=error.code)
        gave_up = len(slot.crashes) > MAX_CRASHES
        slot.revive = not gave_up
        if gave_up:
            slot.move(Move.GAVE_UP)
            slot.cool_until = self.now + MAX_BACKOFF_S
        elif wanted:
            self.reviving[slot.key] = slot
        self.forget_if_gone(slot)
        return gave_up

    def _vacate(self, slot: Slot) -> None:
        del self.resident[slot.key]
        for number in slot.unloaders:
            self._outbox.emit(m.Done(waiter=number, key=slot.key))
        slot.emptied()

    # Coming back.

    def bring_back(self, slot: Slot) -> None:
        """Undo a drain, or load it again as it was."""
        if slot.status is ModelStatus.DRAINING and not slot.stopping and not slot.unloaders and not slot.committing:
            self.resume(slot)
        elif slot.status is not ModelStatus.LOADED:
            slot.revive = True
            slot.cool_until = self.now
            self.reviving[slot.key] = slot

    def revive(self) -> None:
        """Start again what has cooled down."""
        for slot in list(self.reviving.values()):
            if slot.status is ModelStatus.DRAINING or (slot.status not in RESIDENT and slot.cool_until > self.now):
                continue
            if slot.status in RESIDENT or not slot.revive or self.begin_load(slot, slot.options):
                del self.reviving[slot.key]


def _as_resident(slot: Slot) -> Resident:
    return Resident(key=slot.key, size_bytes=slot.size_bytes, last_used=slot.last_used, evictable=slot.evictable)


def _backoff_s(times: int) -> float:
    return float(min(2.0 ** (times - 1), MAX_BACKOFF_S))
