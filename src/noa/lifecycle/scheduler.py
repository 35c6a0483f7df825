"""The one that decides: something happens, effects come out. Synchronous, without I/O, without a clock.

``Scheduler.step`` first lets the input change what it knows, then settles: whatever is overdue ends, whoever waits is
served if that is now possible, and whatever has drained stops. It alone owns the lifecycle state.

The rules it keeps are promises 1–4 of the project: a waiter stores the name it asked for and is bound to a model only
when it is admitted; a model in use never goes; one model is started once, however many ask; and what must be durable is
applied only when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from noa.errors import AIProviderError, ConflictError, ModelNotLoadedError
from noa.lifecycle import messages as m
from noa.lifecycle import refusals
from noa.lifecycle.aliases import CURRENT, Aliases
from noa.lifecycle.departures import Departures
from noa.lifecycle.eviction import Room
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.line import Line
from noa.lifecycle.options import merged, mismatch
from noa.lifecycle.outbox import AfterCommit, Outbox
from noa.lifecycle.slots import RESIDENT, Slot, SlotView, Waiter
from noa.models import LoadOptions, ModelStatus
from noa.state import Change, ModelKept

#: A longer line than this is not waited in: who comes now is refused at once.
MAX_WAITING: Final = 2_000


class Scheduler:
    """Owns every slot, every waiter and every alias."""

    def __init__(self, room: Room) -> None:
        self._outbox = Outbox()
        self._fleet = Fleet(room, self._outbox)
        self._admitted: dict[int, tuple[str, int]] = {}
        self._aliases = Aliases(self._outbox)
        self._line = Line(self._aliases)
        self._departures = Departures(self._fleet, self._aliases, self._outbox)
        self._changed = False
        self._timer: float | None = None
        self._handlers: Mapping[type[m.Input], Callable[..., None]] = {
            m.Known: self._fleet.known,
            m.Gone: self._fleet.gone,
            m.Restored: self._restored,
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
        return self._aliases.everything()

    @property
    def kept(self) -> Mapping[str, LoadOptions]:
        """The models that are loaded again after a restart, as far as it is written."""
        return dict(self._fleet.kept)

    @property
    def waiting(self) -> int:
        """How many wishes are unanswered."""
        return len(self._line)

    def view(self, key: str) -> SlotView | None:
        """A model as it stands, or ``None`` if it is unknown."""
        slot = self._fleet.slots.get(key)
        return None if slot is None else SlotView.of(slot)

    def residents(self) -> list[SlotView]:
        """The models that take a place now, oldest first."""
        slots = sorted(self._fleet.resident.values(), key=lambda slot: slot.loaded_since)
        return [SlotView.of(slot) for slot in slots]

    # Inputs: what is wanted.

    def _restored(self, message: m.Restored) -> None:
        self._aliases.restore(message.aliases)
        self._fleet.kept.update(message.kept)

    def _wish(self, message: m.Acquire | m.Load | m.Switch) -> None:
        if refusal := self._refusal(message):
            self._outbox.refuse(message.waiter, refusal)
            return
        self._line.join(message)

    def _refusal(self, message: m.Acquire | m.Load | m.Switch) -> AIProviderError | None:
        if isinstance(message, m.Acquire):
            waiting = len(self._line)
            return refusals.line_too_long(message.name, waiting) if waiting >= MAX_WAITING else None
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
        elif slot.status in RESIDENT:
            self._refuse_each(self._line.waiting_for(slot.key, m.Load, m.Switch), refusals.unloaded_meanwhile(slot.key))
            self._line.renounce(slot.key)
            slot.unloaders[message.waiter] = None if message.force else message.deadline
            if message.force:
                self._cut(slot)
            self._fleet.drain(slot, "unloaded")
        elif slot.key in self._fleet.reviving or slot.key in self._fleet.kept:
            self._line.renounce(slot.key)
            self._departures.unloaded(slot.key, [message.waiter])
        else:
            self._outbox.refuse(message.waiter, ModelNotLoadedError(f"{slot.key} is not loaded."))

    def _cut(self, slot: Slot) -> None:
        # A hold that is not admitted belongs to a change that is being written; that takes a moment, and is waited for.
        cut = {number for number in slot.serving | slot.holds if number in self._admitted}
        if cut:
            slot.last_used = self._fleet.now
            self._outbox.emit(m.Cut(waiters=tuple(sorted(cut)), key=slot.key))
        slot.serving -= cut
        slot.holds -= cut

    def _release(self, message: m.Release) -> None:
        admitted = self._admitted.pop(message.waiter, None)
        if admitted is None:
            self._withdraw(message.waiter)
            return
        slot = self._fleet.slots.get(admitted[0])
        if slot is not None and slot.generation == admitted[1] and slot.is_used_by(message.waiter):
            slot.serving.discard(message.waiter)
            slot.holds.discard(message.waiter)
            slot.last_used = self._fleet.now

    def _withdraw(self, number: int) -> None:
        if waiter := self._line.find(number):
            self._dismiss(waiter)

    # Inputs: what became of effects.

    def _started(self, message: m.Started) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is None or slot.started or slot.status is not ModelStatus.LOADING:
            return
        slot.started = True
        if message.size_bytes is not None:
            slot.size_bytes = message.size_bytes
        options = slot.options
        changes: list[Change] = [ModelKept(key=slot.key, options=options)]
        named = None
        if self._aliases.get(CURRENT) is None and not self._aliases.is_changing(CURRENT):
            named = self._aliases.begin(CURRENT, slot.key, "first model loaded")
            changes.append(named)
        slot.committing = True

        def recorded(error: AIProviderError | None) -> None:
            slot.committing = False
            if named is not None:
                self._aliases.end(named, error, announce=False)
            if error is None:
                self._fleet.kept[slot.key] = options
            self._loaded(slot, error)

        self._outbox.commit(changes, recorded)

    def _loaded(self, slot: Slot, error: AIProviderError | None) -> None:
        """It runs, and that is noted; or it could not be, and then it serves those who wait for it all the same."""
        if slot.ended is not None:
            self._end(slot, slot.ended)
            return
        if slot.status is ModelStatus.DRAINING:
            return
        if error is not None:
            self._refuse_each(self._line.waiting_for(slot.key, m.Load), error)
            if not self._line.waiting_for(slot.key, m.Acquire, m.Switch):
                self._fleet.drain(slot, "it could not be recorded")
                return
        self._fleet.loaded(slot)
        # Whoever it was loaded for has it before anybody else may want its place.
        for waiter in self._line.waiting_for(slot.key, m.Acquire):
            if isinstance(waiter.wish, m.Acquire) and self._serve_acquire(waiter.wish):
                self._line.leave(waiter)

    def _start_failed(self, message: m.StartFailed) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is None or slot.started:
            return
        if slot.status is ModelStatus.DRAINING:
            self._departures.stopped(slot)
            return
        self._fleet.failed(slot, message.error)
        self._refuse_each(self._line.waiting_for(slot.key, m.Acquire, m.Load, m.Switch), message.error)

    def _stopped(self, message: m.Stopped) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is not None and slot.stopping:
            self._departures.stopped(slot)

    def _crashed(self, message: m.Crashed) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is not None:
            self._end(slot, message.error)

    def _end(self, slot: Slot, error: AIProviderError) -> None:
        self._departures.ended(slot, error)
        if slot.status is ModelStatus.FAILED:
            self._refuse_each(self._line.waiting_for(slot.key, m.Acquire, m.Load, m.Switch), error)

    def _tick(self, _: m.Tick) -> None:
        self._timer = None

    # Settling.

    def _settle(self) -> None:
        if self._line or self._fleet.resident or self._fleet.reviving:
            self._expire()
            self._fleet.give_up_unloads()
            self._fleet.revive()
            self._serve()
            self._fleet.expire()
            self._fleet.trim()
            for slot in self._fleet.drained():
                self._departures.leave(slot)
        self._arm_timer()

    def _expire(self) -> None:
        now = self._fleet.now
        for waiter in self._line.overdue(now):
            self._dismiss(waiter)
            key = self._line.target(waiter) or "a model"
            self._outbox.refuse(waiter.number, refusals.too_late(key, self._fleet.slots.get(key), now))

    def _serve(self) -> None:
        """Serve in order whoever can be; from the start again when a model came back meanwhile."""
        self._changed = True
        while self._changed:
            self._changed = False
            self._serve_each()

    def _serve_each(self) -> None:
        for waiter in self._line:
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
                self._line.leave(waiter)
            if self._changed:
                return

    def _serve_acquire(self, wish: m.Acquire) -> bool:
        key = self._aliases.meaning(wish.name)
        slot = self._fleet.slots.get(key) if key is not None else None
        if slot is None:
            return self._refuse_nameless(wish, key)
        leased = wish.within in slot.holds and not slot.stopping and not slot.committing
        if slot.status is ModelStatus.LOADED or (slot.status is ModelStatus.DRAINING and leased):
            return self._admit(slot, wish)
        if slot.status in RESIDENT or self._line.is_displaced(slot.key):
            return False
        if slot.cool_until > self._fleet.now:
            if slot.revive:
                return False
            self._outbox.refuse(wish.waiter, refusals.cooling_down(slot, slot.cool_until - self._fleet.now))
            return True
        self._fleet.begin_load(slot, slot.options)
        return False

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

    def _serve_switch(self, waiter: Waiter, wish: m.Switch) -> bool:
        slot = self._fleet.slots.get(wish.key)
        if slot is None:
            self._put_back(waiter)
            self._outbox.refuse(wish.waiter, refusals.unknown(wish.key))
            return True
        if slot.status is ModelStatus.LOADED:
            return not self._aliases.is_changing(wish.alias) and self._point(waiter, slot, wish)
        if slot.status not in RESIDENT:
            options = slot.options if wish.options == LoadOptions() else wish.options
            if not self._fleet.begin_load(slot, options):
                self._displace(waiter, wish, slot)
        return False

    def _point(self, waiter: Waiter, slot: Slot, wish: m.Switch) -> bool:
        if conflict := self._lost_race(wish):
            self._put_back(waiter)
            self._outbox.refuse(wish.waiter, conflict)
            return True
        previous = self._aliases.get(wish.alias)
        if previous == wish.key:
            self._outbox.emit(m.Done(waiter=wish.waiter, key=wish.key, previous=previous))
            return True
        pointed = self._aliases.begin(wish.alias, wish.key, wish.reason)

        def recorded(error: AIProviderError | None) -> None:
            self._aliases.end(pointed, error)
            if error is not None:
                self._put_back(waiter)
                self._outbox.refuse(wish.waiter, error)
                return
            self._outbox.emit(m.Done(waiter=wish.waiter, key=wish.key, previous=previous))

        self._commit(waiter, slot, pointed, recorded)
        return False

    def _displace(self, waiter: Waiter, wish: m.Switch, newcomer: Slot) -> None:
        """Both do not fit: the model the alias means now drains first, and comes back if the new one fails."""
        if any(slot.status is ModelStatus.DRAINING for slot in self._fleet.resident.values()):
            return
        old = self._fleet.resident.get(self._aliases.get(wish.alias) or "")
        if old is None or old.status is not ModelStatus.LOADED or old.options.pin:
            return
        if self._fleet.would_fit(newcomer, without=old):
            waiter.displaced = old.key
            self._fleet.drain(old, "switched away")

    def _put_back(self, waiter: Waiter) -> None:
        """A switch will not happen: the model it was to replace comes back."""
        slot = self._fleet.slots.get(waiter.displaced) if waiter.displaced else None
        if slot is not None:
            self._fleet.bring_back(slot)
            self._changed = True

    # The line, and the clock.

    def _refuse_each(self, waiters: Iterable[Waiter], error: AIProviderError) -> None:
        for waiter in waiters:
            if not waiter.committing:
                self._dismiss(waiter)
                self._outbox.refuse(waiter.number, error)

    def _dismiss(self, waiter: Waiter) -> None:
        self._line.leave(waiter)
        self._put_back(waiter)

    def _arm_timer(self) -> None:
        at = min((time for time in self._times() if time > self._fleet.now), default=None)
        if at != self._timer:
            self._timer = at
            self._outbox.emit(m.SetTimer(at=at))

    def _times(self) -> Iterable[float]:
        for waiter in self._line:
            if not waiter.committing:
                yield waiter.wish.deadline
            if slot := self._fleet.slots.get(self._line.target(waiter) or ""):
                yield slot.cool_until
        for slot in self._fleet.resident.values():
            if slot.expires_at is not None:
                yield slot.expires_at
            yield from (deadline for deadline in slot.unloaders.values() if deadline is not None)
        for slot in self._fleet.reviving.values():
            yield slot.cool_until
