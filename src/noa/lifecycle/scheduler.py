"""The one that decides: something happens, effects come out. Synchronous, without I/O, without a clock.

``Scheduler.step`` first lets the input change what it knows, then settles: whatever is overdue ends, whoever waits is
served if that is now possible, and whatever has drained stops. It alone owns the lifecycle state.

The rules it keeps are promises 1–4 of the project: a waiter stores the name it asked for and is bound to a model only
when it is admitted; a model in use never goes; one model is started once, however many ask; and what must be durable is
applied only when it is written.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from noa.errors import AIProviderError, ConflictError, ModelNotLoadedError
from noa.lifecycle import messages as m
from noa.lifecycle import refusals
from noa.lifecycle.eviction import Room
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.options import merged, mismatch
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.slots import RESIDENT, Slot, SlotView, Waiter
from noa.models import LoadOptions, ModelStatus
from noa.state import AliasPointed, Change, ModelKept

#: The reserved alias for the model in use.
CURRENT: Final = "current"
#: A longer line than this is not waited in: who comes now is refused at once.
MAX_WAITING: Final = 2_000


class Scheduler:
    """Owns every slot, every waiter and every alias."""

    def __init__(self, room: Room) -> None:
        self._outbox = Outbox()
        self._fleet = Fleet(room, self._outbox)
        self._waiters: list[Waiter] = []
        self._admitted: dict[int, tuple[str, int]] = {}
        self._aliases: dict[str, str] = {}
        self._naming_current = False
        self._arrivals = 0
        self._timer: float | None = None
        self._handlers: Mapping[type[m.Input], Callable[..., None]] = {
            m.Known: self._fleet.known,
            m.Gone: self._fleet.gone,
            m.Restored: lambda message: self._aliases.update(message.aliases),
            m.Acquire: self._wish,
            m.Load: self._wish,
            m.Switch: self._wish,
            m.Unload: self._unload,
            m.Release: self._release,
            m.Started: self._started,
            m.StartFailed: self._start_failed,
            m.Stopped: self._stopped,
            m.Crashed: self._crashed,
            m.Persisted: lambda message: self._outbox.committed(message.token, None),
            m.PersistFailed: lambda message: self._outbox.committed(message.token, message.error),
            m.Tick: self._tick,
        }

    def step(self, now: float, message: m.Input) -> list[m.Effect]:
        """Take in one input at ``now`` and answer what is to be done about it, in this order."""
        self._fleet.now = now
        self._handlers[type(message)](message)
        self._settle()
        return self._outbox.take()

    # What others may see.

    @property
    def aliases(self) -> Mapping[str, str]:
        """What each alias means now."""
        return dict(self._aliases)

    @property
    def waiting(self) -> int:
        """How many wishes are unanswered."""
        return len(self._waiters)

    def view(self, key: str) -> SlotView | None:
        """A model as it stands, or ``None`` if it is unknown."""
        slot = self._fleet.slots.get(key)
        return None if slot is None else SlotView.of(slot)

    def residents(self) -> list[SlotView]:
        """The models that take a place now, oldest first."""
        slots = sorted(self._fleet.resident.values(), key=lambda slot: slot.loaded_since)
        return [SlotView.of(slot) for slot in slots]

    # Inputs: what is wanted.

    def _wish(self, message: m.Acquire | m.Load | m.Switch) -> None:
        if refusal := self._refusal(message):
            self._outbox.refuse(message.waiter, refusal)
            return
        self._arrivals += 1
        insort(self._waiters, Waiter(message, self._arrivals), key=lambda waiter: waiter.rank)

    def _refusal(self, message: m.Acquire | m.Load | m.Switch) -> AIProviderError | None:
        if isinstance(message, m.Acquire):
            crowded = len(self._waiters) >= MAX_WAITING
            return refusals.line_too_long(message.name, len(self._waiters)) if crowded else None
        if message.key not in self._fleet.slots:
            return refusals.unknown(message.key)
        if isinstance(message, m.Switch):
            return self._lost_race(message)
        return mismatch(self._fleet.slots[message.key], message.options)

    def _lost_race(self, message: m.Switch) -> ConflictError | None:
        present = self._aliases.get(message.alias)
        if isinstance(message.expected, str | None) and message.expected != present:
            return ConflictError(f"“{message.alias}” means {present or 'nothing'} now, not {message.expected}.")
        return None

    def _unload(self, message: m.Unload) -> None:
        slot = self._fleet.slots.get(message.key)
        if slot is None:
            self._outbox.refuse(message.waiter, refusals.unknown(message.key))
        elif slot.status not in RESIDENT:
            self._outbox.refuse(message.waiter, ModelNotLoadedError(f"{slot.key} is not loaded."))
        else:
            self._refuse_each(self._waiting_for(slot.key, m.Load, m.Switch), refusals.unloaded_meanwhile(slot.key))
            slot.unloaders.append(message.waiter)
            if message.force:
                self._cut(slot)
            self._fleet.drain(slot, "unloaded", message.deadline)

    def _cut(self, slot: Slot) -> None:
        if cut := tuple(slot.serving | slot.holds):
            self._outbox.emit(m.Cut(waiters=cut, key=slot.key))
        slot.serving.clear()
        slot.holds.clear()

    def _release(self, message: m.Release) -> None:
        admitted = self._admitted.pop(message.waiter, None)
        if admitted is None:
            self._withdraw(message.waiter)
            return
        slot = self._fleet.slots.get(admitted[0])
        if slot is not None and slot.generation == admitted[1]:
            slot.serving.discard(message.waiter)
            slot.holds.discard(message.waiter)
            slot.last_used = self._fleet.now

    def _withdraw(self, number: int) -> None:
        for waiter in self._waiters:
            if waiter.number == number and not waiter.committing:
                self._dismiss(waiter)
                return

    # Inputs: what became of effects.

    def _started(self, message: m.Started) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is None or slot.status is not ModelStatus.LOADING:
            return
        if message.size_bytes is not None:
            slot.size_bytes = message.size_bytes
        changes: list[Change] = [ModelKept(key=slot.key, options=slot.options)]
        names_current = CURRENT not in self._aliases and not self._naming_current
        if names_current:
            self._naming_current = True
            changes.append(AliasPointed(name=CURRENT, key=slot.key, previous=None, reason="first model loaded"))
        slot.committing = True

        def recorded(error: AIProviderError | None) -> None:
            if names_current:
                self._naming_current = False
                if error is None:
                    self._aliases.setdefault(CURRENT, message.key)
            if slot.generation == message.generation and slot.status in RESIDENT:
                self._loaded(slot, error)

        self._outbox.commit(changes, recorded)

    def _loaded(self, slot: Slot, error: AIProviderError | None) -> None:
        slot.committing = False
        if slot.status is ModelStatus.DRAINING:
            slot.kept = error is None
            return
        if error is not None:
            self._refuse_each(self._waiting_for(slot.key, m.Load), error)
            if not self._waiting_for(slot.key, m.Acquire, m.Switch):
                self._fleet.drain(slot, "it could not be recorded")
                return
        self._fleet.loaded(slot, kept=error is None)

    def _start_failed(self, message: m.StartFailed) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is None:
            return
        if slot.status is ModelStatus.DRAINING:
            self._fleet.stopped(slot)
            return
        self._fleet.failed(slot, message.error)
        self._refuse_each(self._waiting_for(slot.key, m.Acquire, m.Load, m.Switch), message.error)

    def _stopped(self, message: m.Stopped) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is not None and slot.status is ModelStatus.DRAINING:
            self._fleet.stopped(slot)

    def _crashed(self, message: m.Crashed) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is not None and self._fleet.crashed(slot, message.error):
            self._refuse_each(self._waiting_for(slot.key, m.Acquire, m.Load, m.Switch), message.error)

    def _tick(self, _: m.Tick) -> None:
        self._timer = None

    # Settling.

    def _settle(self) -> None:
        if self._waiters or self._fleet.resident or self._fleet.reviving:
            self._expire()
            self._fleet.expire()
            self._fleet.revive()
            self._serve()
            self._fleet.trim()
            for slot in self._fleet.drained():
                self._stop(slot)
        self._arm_timer()

    def _expire(self) -> None:
        now = self._fleet.now
        for waiter in [each for each in self._waiters if each.wish.deadline <= now and not each.committing]:
            self._dismiss(waiter)
            key = self._target(waiter.wish) or "a model"
            self._outbox.refuse(waiter.number, refusals.too_late(key, self._fleet.slots.get(key)))

    def _serve(self) -> None:
        for waiter in list(self._waiters):
            if waiter.committing:
                continue
            wish = waiter.wish
            if isinstance(wish, m.Acquire):
                answered = self._serve_acquire(wish)
            elif isinstance(wish, m.Load):
                answered = self._serve_load(waiter, wish)
            else:
                answered = self._serve_switch(waiter, wish)
            if answered:
                self._waiters.remove(waiter)

    def _serve_acquire(self, wish: m.Acquire) -> bool:
        key = self._meaning(wish.name)
        slot = self._fleet.slots.get(key) if key is not None else None
        if slot is None:
            return self._refuse_nameless(wish, key)
        leased = wish.within in slot.holds and not slot.stopping and not slot.committing
        if slot.status is ModelStatus.LOADED or (slot.status is ModelStatus.DRAINING and leased):
            return self._admit(slot, wish)
        if slot.status in RESIDENT or self._is_displaced(slot.key):
            return False
        if slot.cool_until > self._fleet.now:
            if slot.revive:
                return False
            self._outbox.refuse(wish.waiter, refusals.cooling_down(slot, slot.cool_until - self._fleet.now))
            return True
        self._fleet.begin_load(slot, LoadOptions(priority=wish.priority))
        return False

    def _is_displaced(self, key: str) -> bool:
        """Whether a switch waits for its place: whoever wants it by an alias will land on the new model."""
        return any(waiter.displaced == key for waiter in self._waiters)

    def _admit(self, slot: Slot, wish: m.Acquire) -> bool:
        if not (wish.hold or slot.has_place):
            return False
        (slot.holds if wish.hold else slot.serving).add(wish.waiter)
        slot.last_used = self._fleet.now
        self._admitted[wish.waiter] = (slot.key, slot.generation)
        self._outbox.emit(m.Admit(waiter=wish.waiter, key=slot.key, generation=slot.generation))
        return True

    def _refuse_nameless(self, wish: m.Acquire, key: str | None) -> bool:
        if key is not None:
            self._outbox.refuse(wish.waiter, refusals.unknown(key))
            return True
        if any(slot.status is ModelStatus.LOADING for slot in self._fleet.resident.values()):
            return False  # The first model to be loaded becomes current; whoever asks for it meanwhile waits.
        self._outbox.refuse(wish.waiter, refusals.nothing_loaded())
        return True

    def _serve_load(self, waiter: Waiter, wish: m.Load) -> bool:
        slot = self._fleet.slots.get(wish.key)
        if slot is None:
            self._outbox.refuse(wish.waiter, refusals.unknown(wish.key))
            return True
        if slot.status is ModelStatus.LOADED:
            return self._finish_load(waiter, slot, wish.options)
        if slot.status not in RESIDENT:
            self._fleet.begin_load(slot, wish.options)
        return False

    def _finish_load(self, waiter: Waiter, slot: Slot, asked: LoadOptions) -> bool:
        options = merged(slot.options, asked)
        if slot.kept and options == slot.options:
            self._outbox.emit(m.Done(waiter=waiter.number, key=slot.key))
            return True
        waiter.committing = True
        generation = slot.generation

        def recorded(error: AIProviderError | None) -> None:
            self._waiters.remove(waiter)
            if error is not None:
                self._outbox.refuse(waiter.number, error)
                return
            if slot.generation == generation and slot.status in RESIDENT:
                slot.kept, slot.options = True, options
            self._outbox.emit(m.Done(waiter=waiter.number, key=slot.key))

        self._outbox.commit([ModelKept(key=slot.key, options=options)], recorded)
        return False

    def _serve_switch(self, waiter: Waiter, wish: m.Switch) -> bool:
        slot = self._fleet.slots.get(wish.key)
        if slot is None:
            self._outbox.refuse(wish.waiter, refusals.unknown(wish.key))
            return True
        if slot.status is ModelStatus.LOADED:
            return self._point(waiter, slot, wish)
        if slot.status not in RESIDENT and not self._fleet.begin_load(slot, wish.options):
            self._displace(waiter, wish)
        return False

    def _point(self, waiter: Waiter, slot: Slot, wish: m.Switch) -> bool:
        previous = self._aliases.get(wish.alias)
        if previous == wish.key:
            self._outbox.emit(m.Done(waiter=wish.waiter, key=wish.key, previous=previous))
            return True
        waiter.committing = True
        slot.holds.add(wish.waiter)  # Nothing may evict the target while the switch is being written.
        pointed = AliasPointed(name=wish.alias, key=wish.key, previous=previous, reason=wish.reason)

        def recorded(error: AIProviderError | None) -> None:
            self._waiters.remove(waiter)
            slot.holds.discard(wish.waiter)
            if error is not None:
                self._put_back(waiter)
                self._outbox.refuse(wish.waiter, error)
                return
            self._repoint(pointed)
            self._outbox.emit(m.Done(waiter=wish.waiter, key=wish.key, previous=previous))

        self._outbox.commit([pointed], recorded)
        return False

    def _displace(self, waiter: Waiter, wish: m.Switch) -> None:
        """Both do not fit: the model the alias means now drains first, and comes back if the new one fails."""
        if any(slot.status is ModelStatus.DRAINING for slot in self._fleet.resident.values()):
            return
        old = self._fleet.resident.get(self._aliases.get(wish.alias, ""))
        if old is None or old.status is not ModelStatus.LOADED or old.options.pin or old.committing:
            return
        waiter.displaced = old.key
        self._fleet.drain(old, "switched away", wish.deadline)

    def _put_back(self, waiter: Waiter) -> None:
        """A switch will not happen: the model it was to replace comes back."""
        slot = self._fleet.slots.get(waiter.displaced) if waiter.displaced else None
        if slot is not None:
            self._fleet.bring_back(slot)

    def _stop(self, slot: Slot) -> None:
        moved = None
        if slot.unloaders and self._aliases.get(CURRENT) == slot.key:
            reason = "the current model was unloaded"
            moved = AliasPointed(name=CURRENT, key=self._heir(slot), previous=slot.key, reason=reason)

        def apply() -> None:
            if moved is not None:
                self._repoint(moved)

        self._fleet.stop(slot, moved, apply)

    def _heir(self, leaving: Slot) -> str | None:
        loaded = [
            slot for slot in self._fleet.resident.values() if slot.status is ModelStatus.LOADED and slot is not leaving
        ]
        return max(loaded, key=lambda slot: slot.last_used).key if loaded else None

    def _repoint(self, pointed: AliasPointed) -> None:
        if pointed.key is None:
            self._aliases.pop(pointed.name, None)
            return
        self._aliases[pointed.name] = pointed.key
        self._outbox.publish(
            "model-switched",
            alias=pointed.name,
            previous_model=pointed.previous,
            current_model=pointed.key,
            reason=pointed.reason,
        )

    # The line, and the clock.

    def _meaning(self, name: str) -> str | None:
        return self._aliases.get(name) if name == CURRENT else self._aliases.get(name, name)

    def _target(self, wish: m.Acquire | m.Load | m.Switch) -> str | None:
        return self._meaning(wish.name) if isinstance(wish, m.Acquire) else wish.key

    def _waiting_for(self, key: str, *kinds: type[m.Input]) -> list[Waiter]:
        return [each for each in self._waiters if isinstance(each.wish, kinds) and self._target(each.wish) == key]

    def _refuse_each(self, waiters: Iterable[Waiter], error: AIProviderError) -> None:
        for waiter in waiters:
            if not waiter.committing:
                self._dismiss(waiter)
                self._outbox.refuse(waiter.number, error)

    def _dismiss(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)
        self._put_back(waiter)

    def _arm_timer(self) -> None:
        at = min((time for time in self._times() if time > self._fleet.now), default=None)
        if at != self._timer:
            self._timer = at
            self._outbox.emit(m.SetTimer(at=at))

    def _times(self) -> Iterable[float]:
        for waiter in self._waiters:
            if not waiter.committing:
                yield waiter.wish.deadline
            if slot := self._fleet.slots.get(self._target(waiter.wish) or ""):
                yield slot.cool_until
        for slot in self._fleet.resident.values():
            yield from (at for at in (slot.expires_at, slot.drain_deadline) if at is not None)
        for slot in self._fleet.reviving.values():
            yield slot.cool_until
