"""The one that decides: something happens, effects come out. Synchronous, without I/O, without a clock.

``Scheduler.step`` first lets the input change what it knows, then settles: whatever is overdue ends, whoever waits is
served if that is now possible, and whatever has drained stops. It alone owns the lifecycle state.

The rules it keeps are promises 1–4 of the project: a waiter stores the name it asked for and is bound to a model only
when it is admitted; a model in use never goes; one model is started once, however many ask; and what must be durable is
applied only when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from noa.errors import AIProviderError, ModelNotLoadedError
from noa.lifecycle import messages as m
from noa.lifecycle import refusals
from noa.lifecycle.aliases import CURRENT, Aliases
from noa.lifecycle.changes import Changes
from noa.lifecycle.departures import Departures
from noa.lifecycle.eviction import Room
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.line import Line
from noa.lifecycle.options import mismatch
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.plan import plan_load
from noa.lifecycle.pointing import Pointing
from noa.lifecycle.slots import RESIDENT, Slot, SlotView, Waiter
from noa.lifecycle.turns import Turns
from noa.models import LoadOptions, LoadPlan, ModelStatus
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
        self._turns = Turns(self._fleet, room.cores)
        self._changes = Changes(self._fleet, self._aliases, self._line, self._turns, self._outbox)
        pointing = Pointing(self._fleet, self._aliases, self._outbox)
        self._timer: float | None = None
        self._handlers: Mapping[type[m.Input], Callable[..., None]] = {
            m.Known: self._fleet.known,
            m.Sized: self._fleet.sized,
            m.Gone: self._fleet.gone,
            m.Withdrawn: self._withdrawn,
            m.Reconsidered: self._fleet.reconsider,
            m.RoomChanged: self._room_changed,
            m.Restored: self._restored,
            m.Acquire: self._wish,
            m.Load: self._wish,
            m.Switch: self._wish,
            m.Unload: self._unload,
            m.PointAlias: pointing.point,
            m.DropAlias: pointing.drop,
            m.Release: self._release,
            m.Started: self._started,
            m.StartFailed: self._start_failed,
            m.Stopped: self._stopped,
            m.Crashed: self._crashed,
            m.Left: self._left,
            m.Persisted: lambda message: self._outbox.committed(message.token, None),
            m.PersistFailed: lambda message: self._outbox.committed(message.token, message.error),
            m.Tick: self._tick,
        }

    def step(self, now: float, message: m.Input) -> list[m.Effect]:
        """Take in one input at ``now`` and answer what is to be done about it, in this order."""
        self._fleet.now = now
        if not self._is_passed(message):
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

    def view_of_begun(self, key: str) -> SlotView | None:
        """The same of a model that was ever begun to be loaded; ``None`` for one that just stands by."""
        slot = self._fleet.begun.get(key)
        return None if slot is None else SlotView.of(slot)

    @property
    def begun(self) -> Collection[str]:
        """The models that were ever begun to be loaded: all others just stand by as available."""
        return self._fleet.begun.keys()

    def residents(self) -> list[SlotView]:
        """The models that take a place now, oldest first."""
        slots = sorted(self._fleet.resident.values(), key=lambda slot: slot.loaded_since)
        return [SlotView.of(slot) for slot in slots]

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that can serve now, oldest first."""
        return tuple(view.key for view in self.residents() if view.status is ModelStatus.LOADED)

    def plan(self, key: str, options: LoadOptions, size_bytes: int) -> LoadPlan:
        """What a load with these options, for which it needs ``size_bytes``, would do now. Nothing changes.

        Raises what such a load would be refused with at once.
        """
        slot = self._fleet.slots.get(key)
        refusal = refusals.unknown(key) if slot is None else mismatch(slot, options)
        if slot is None or refusal is not None:
            raise refusal or refusals.unknown(key)
        residents, room = self._fleet.residents(), self._fleet.room
        if not slot.owned:
            return plan_load(key, None, None, residents, room)
        if slot.status in {ModelStatus.LOADING, ModelStatus.LOADED}:
            return plan_load(key, slot.size_bytes, slot.threads, residents, room)
        return plan_load(key, size_bytes, options.threads or slot.default_threads, residents, room)

    # Inputs: what there is, and what is wanted.

    def _withdrawn(self, message: m.Withdrawn) -> None:
        slot = self._fleet.slots.get(message.key)
        if slot is None:
            return
        waiting = self._line.waiting_for(slot.key, m.Acquire, m.Load, m.Switch)
        held = [each for each in waiting if isinstance(each.wish, m.Acquire) and each.wish.within in slot.holds]
        self._refuse_each((each for each in waiting if each not in held), refusals.withdrawn(slot.key))
        self._line.renounce(slot.key)
        self._fleet.withdraw(slot)

    def _room_changed(self, message: m.RoomChanged) -> None:
        self._fleet.room = message.room
        self._fleet.changed = True

    def _restored(self, message: m.Restored) -> None:
        self._aliases.restore(message.aliases)
        self._fleet.kept.update(message.kept)

    def _wish(self, message: m.Acquire | m.Load | m.Switch) -> None:
        if refusal := self._refusal(message):
            self._outbox.refuse(message.waiter, refusal)
            return
        self._line.join(message, self._fleet.now)

    def _refusal(self, message: m.Acquire | m.Load | m.Switch) -> AIProviderError | None:
        name = message.name if isinstance(message, m.Acquire) else message.key
        slot = self._fleet.slots.get(self._aliases.meaning(name) or "")
        if slot is not None and slot.withdrawn:
            leased = isinstance(message, m.Acquire) and message.within in slot.holds
            return None if leased else refusals.withdrawn(slot.key)
        if isinstance(message, m.Acquire):
            waiting = len(self._line)
            return refusals.line_too_long(message.name, waiting) if waiting >= MAX_WAITING else None
        return self._changes.refusal(message)

    def _is_passed(self, message: m.Input) -> bool:
        """Let a request come to a model, or go, where that concerns nobody else: that is most, and settles nothing.

        Says whether it was such a one, and is done with.
        """
        if self._line or self._fleet.reviving or len(self._fleet.resident) > self._fleet.room.max_models:
            return False
        if isinstance(message, m.Acquire):
            slot = self._fleet.slots.get(self._aliases.meaning(message.name) or "")
            return slot is not None and slot.is_nobody_elses and self._admit(slot, message)
        if isinstance(message, m.Release) and message.waiter in self._admitted:
            slot = self._fleet.slots.get(self._admitted[message.waiter][0])
            if slot is not None and slot.is_nobody_elses:
                self._release(message)
                return True
        return False

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
            slot.note_size(slot.options, message.size_bytes)
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
        self._fleet.owe(slot, self._line.waiting_for(slot.key, m.Acquire, m.Load, m.Switch))

    def _start_failed(self, message: m.StartFailed) -> None:
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is None or slot.started:
            return
        if slot.status is ModelStatus.DRAINING:
            self._departures.stopped(slot)
            return
        if message.out_of_memory and self._fleet.retry(slot):
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

    def _left(self, message: m.Left) -> None:
        """Whoever uses it has it loaded again there, so only one that is idle is let go here too."""
        slot = self._fleet.incarnation(message.key, message.generation)
        if slot is not None and slot.status is ModelStatus.LOADED and slot.idle:
            self._fleet.drain(slot, "unloaded elsewhere")

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
            self._fleet.end_residencies()
            self._fleet.restart()
            self._fleet.revive()
            self._fleet.changed = True
            while self._fleet.changed:
                self._serve()
                self._fleet.expire(spare=self._turns.kept_waiting)
                self._fleet.trim()
                # Whoever was served just now may be what keeps the place of one that should come back.
                self._fleet.revive()
                for slot in self._fleet.drained():
                    self._departures.leave(slot)
        self._arm_timer()

    def _expire(self) -> None:
        now = self._fleet.now
        for waiter in self._line.overdue(now):
            self._dismiss(waiter)
            key = self._line.target(waiter) or "a model"
            error = refusals.too_late(key, self._fleet.slots.get(key), now)
            if pins := self._turns.pins_that_shut_out(waiter):
                error = refusals.shut_out(key, pins)
            self._outbox.refuse(waiter.number, error)

    def _serve(self) -> None:
        """Serve in order whoever can be; from the start again when somebody else may be served than before."""
        while self._fleet.changed:
            self._fleet.changed = False
            self._turns.begin()
            self._serve_each()
        self._turns.end()

    def _serve_each(self) -> None:
        for waiter in self._line:
            if waiter.committing:
                continue
            wish = waiter.wish
            if isinstance(wish, m.Acquire):
                answered = self._serve_acquire(waiter, wish)
            else:
                answered = self._changes.serve(waiter, wish)
            if answered:
                self._line.leave(waiter)
                self._fleet.changed |= waiter.owed_by is not None and waiter.owed_by.evictable
            if self._fleet.changed:
                return

    def _serve_acquire(self, waiter: Waiter, wish: m.Acquire) -> bool:
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
        if self._fleet.is_too_large(slot, slot.options):
            error = refusals.too_large_to_serve(slot, slot.options, self._fleet.room.budget_bytes or 0)
            self._outbox.refuse(wish.waiter, error)
            return True
        if not self._fleet.begin_load(slot, slot.options):
            if pins := self._turns.pins_before(waiter, slot, slot.options):
                self._outbox.refuse(wish.waiter, refusals.shut_out(slot.key, pins))
                return True
            self._turns.seek_place(waiter, slot, slot.options)
        return False

    def _admit(self, slot: Slot, wish: m.Acquire) -> bool:
        if not (wish.hold or slot.has_place) or not self._turns.may_have(slot, wish):
            return False
        (slot.holds if wish.hold else slot.serving).add(wish.waiter)
        slot.last_used = self._fleet.now
        self._admitted[wish.waiter] = (slot.key, slot.generation)
        self._outbox.emit(m.Admit(waiter=wish.waiter, key=slot.key, generation=slot.generation))
        return True

    def _refuse_nameless(self, wish: m.Acquire, key: str | None) -> bool:
        if key is not None:
            gone = refusals.absent(wish.name, key, "no provider offers it now.", self.loaded)
            self._outbox.refuse(wish.waiter, refusals.unknown(key) if key == wish.name else gone)
            return True
        if any(slot.status is ModelStatus.LOADING for slot in self._fleet.resident.values()):
            return False  # The first model to be loaded becomes current; whoever asks for it meanwhile waits.
        self._outbox.refuse(wish.waiter, refusals.nothing_loaded())
        return True

    # The line, and the clock.

    def _refuse_each(self, waiters: Iterable[Waiter], error: AIProviderError) -> None:
        for waiter in waiters:
            if not waiter.committing:
                self._dismiss(waiter)
                self._outbox.refuse(waiter.number, error)

    def _dismiss(self, waiter: Waiter) -> None:
        self._line.leave(waiter)
        self._changes.put_back(waiter)

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
        yield from self._turns.times()
        yield from self._fleet.times()
