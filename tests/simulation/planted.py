"""Bugs that others have had, put into the scheduler on purpose: the simulation must find each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

import msgspec

from noa.errors import AIProviderError
from noa.lifecycle import messages as m
from noa.lifecycle.aliases import Aliases
from noa.lifecycle.departures import Departures
from noa.lifecycle.eviction import Resident
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.line import Line
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.scheduler import Scheduler
from noa.lifecycle.slots import RESIDENT, Slot, Waiter
from noa.lifecycle.turns import Turns
from noa.models import ModelStatus
from noa.state import AliasPointed


@contextmanager
def evicts_the_busy() -> Iterator[None]:
    """A model that generates is stopped to make room."""
    evictable = property(lambda slot: slot.status is ModelStatus.LOADED and not slot.options.pin)
    idle = property(lambda _slot: True)
    with patch.object(Slot, "evictable", evictable), patch.object(Slot, "idle", idle):
        yield


@contextmanager
def evicts_the_pinned() -> Iterator[None]:
    def evictable(slot: Slot) -> bool:
        return slot.status is ModelStatus.LOADED and slot.idle and not slot.committing

    with patch.object(Slot, "evictable", property(evictable)):
        yield


@contextmanager
def starts_twice() -> Iterator[None]:
    """What is loading already is started once more for the next one who asks."""
    original = Scheduler._serve_acquire

    def serve_acquire(self: Scheduler, waiter: Waiter, wish: m.Acquire) -> bool:
        key = self._aliases.meaning(wish.name)
        slot = self._fleet.slots.get(key or "")
        if slot is not None and slot.status is ModelStatus.LOADING and not slot.started:
            self._outbox.emit(m.Start(key=slot.key, generation=slot.generation, options=slot.options))
        return original(self, waiter, wish)

    with patch.object(Scheduler, "_serve_acquire", serve_acquire):
        yield


@contextmanager
def loses_a_waiter() -> Iterator[None]:
    """When a start fails, only the first of those who wait is told."""
    original = Scheduler._refuse_each

    def refuse_each(self: Scheduler, waiters: list[Waiter], error: AIProviderError) -> None:
        for waiter in waiters[1:]:
            self._line.leave(waiter)
        original(self, waiters[:1], error)

    with patch.object(Scheduler, "_refuse_each", refuse_each):
        yield


@contextmanager
def believes_late_news() -> Iterator[None]:
    """What is said of an older incarnation is taken for the present one."""

    def incarnation(self: Fleet, key: str, _generation: int) -> Slot | None:
        slot = self.slots.get(key)
        return slot if slot is not None and slot.status in RESIDENT else None

    with patch.object(Fleet, "incarnation", incarnation):
        yield


@contextmanager
def counts_idle_time_from_the_load() -> Iterator[None]:
    def expires_at(slot: Slot) -> float | None:
        if slot.options.ttl_s is None or not slot.evictable:
            return None
        return slot.loaded_since + slot.options.ttl_s

    with patch.object(Slot, "expires_at", property(expires_at)):
        yield


@contextmanager
def switches_before_it_is_written() -> Iterator[None]:
    original = Aliases.begin

    def begin(self: Aliases, name: str, key: str | None, reason: str) -> AliasPointed:
        pointed = original(self, name, key, reason)
        if key is not None:
            self._keys[name] = key
        return pointed

    with patch.object(Aliases, "begin", begin):
        yield


@contextmanager
def two_switches_at_once() -> Iterator[None]:
    with patch.object(Aliases, "is_changing", lambda _self, _name: False):
        yield


@contextmanager
def forgets_changes_of_an_alias_that_queue() -> Iterator[None]:
    def in_turn(self: Aliases, name: str, change: Callable[[], None]) -> None:
        if not self.is_changing(name):
            change()

    with patch.object(Aliases, "in_turn", in_turn):
        yield


@contextmanager
def frees_memory_too_early() -> Iterator[None]:
    """The place counts as free as soon as the process was told to go."""
    original = Fleet.order_stop

    def order_stop(self: Fleet, slot: Slot) -> None:
        original(self, slot)
        del self.resident[slot.key]

    def vacate(self: Fleet, slot: Slot) -> None:
        self.resident.pop(slot.key, None)
        slot.emptied()

    with patch.object(Fleet, "order_stop", order_stop), patch.object(Fleet, "_vacate", vacate):
        yield


@contextmanager
def forgets_the_lease() -> Iterator[None]:
    """Whoever a model was loaded for has to hurry: it may be evicted before the first request."""
    original = Scheduler._loaded

    def loaded(self: Scheduler, slot: Slot, error: AIProviderError | None) -> None:
        with patch.object(Line, "waiting_for", lambda _line, _key, *_kinds: []):
            original(self, slot, error)

    with patch.object(Scheduler, "_loaded", loaded):
        yield


@contextmanager
def forgets_the_limit() -> Iterator[None]:
    with patch.object(Slot, "has_place", property(lambda _slot: True)):
        yield


@contextmanager
def serves_the_last_first() -> Iterator[None]:
    with patch.object(Waiter, "rank", property(lambda waiter: (0, -waiter.order))):
        yield


@contextmanager
def acknowledges_what_is_not_written() -> Iterator[None]:
    """A load says so before it is on disk, and a failed write is not noticed."""
    original = Outbox.committed

    def committed(self: Outbox, token: int, _error: AIProviderError | None) -> None:
        original(self, token, None)

    with patch.object(Outbox, "committed", committed):
        yield


@contextmanager
def leaves_what_was_unloaded_noted() -> Iterator[None]:
    with patch.object(Departures, "_drop", lambda _self, _key: None):
        yield


@contextmanager
def sleeps_through_deadlines() -> Iterator[None]:
    """The timer thinks of models only."""
    original = Scheduler._times

    def times(self: Scheduler) -> list[float]:
        with patch.object(Line, "__iter__", lambda _line: iter(())):
            return list(original(self))

    with patch.object(Scheduler, "_times", times):
        yield


@contextmanager
def overbooks_while_loading() -> Iterator[None]:
    """What still loads is not counted yet."""

    def residents(self: Fleet, *, without: Slot | None = None) -> list[Resident]:
        loading = {slot.key for slot in self.resident.values() if slot.status is ModelStatus.LOADING}
        return [each for each in original(self, without=without) if each.key not in loading]

    original = Fleet.residents
    with patch.object(Fleet, "residents", residents):
        yield


@contextmanager
def leaks_a_reservation() -> Iterator[None]:
    """The bytes of a start that failed are never given back."""
    original = Fleet.failed

    def failed(self: Fleet, slot: Slot, error: AIProviderError) -> None:
        size_bytes = slot.size_bytes
        original(self, slot, error)
        if self.room.budget_bytes is not None:
            self.room = msgspec.structs.replace(self.room, budget_bytes=self.room.budget_bytes - size_bytes)

    with patch.object(Fleet, "failed", failed):
        yield


@contextmanager
def frees_bytes_before_the_process_is_gone() -> Iterator[None]:
    original = Fleet.order_stop

    def order_stop(self: Fleet, slot: Slot) -> None:
        original(self, slot)
        slot.size_bytes = 0

    with patch.object(Fleet, "order_stop", order_stop):
        yield


@contextmanager
def starts_in_another_shape_than_was_reckoned() -> Iterator[None]:
    with patch.object(Slot, "size_for", lambda slot, _options: slot.default_bytes):
        yield


@contextmanager
def ignores_the_processors() -> Iterator[None]:
    with patch.object(Turns, "_may_run", lambda _turns, _slot: True):
        yield


@contextmanager
def passes_those_who_wait_for_processors() -> Iterator[None]:
    original = Turns._may_run

    def may_run(self: Turns, slot: Slot) -> bool:
        self._next.clear()
        return original(self, slot)

    with patch.object(Turns, "_may_run", may_run):
        yield


@contextmanager
def keeps_the_place_for_ever() -> Iterator[None]:
    """Requests that overlap keep a model busy, and whoever waits for its place never gets it."""
    with patch.object(Turns, "seek_place", lambda _turns, _waiter, _newcomer, _options: None):
        yield


@contextmanager
def waits_for_pins_for_ever() -> Iterator[None]:
    """Only a person can free the place, and whoever needs it is not told so."""
    with patch.object(Turns, "pins_before", lambda _turns, _waiter, _newcomer, _options: ()):
        yield


@contextmanager
def has_no_patience_with_pins() -> Iterator[None]:
    """Whoever finds pinned models in its way is refused at once, though somebody may be about to unload one."""
    with patch("noa.lifecycle.turns.PINNED_PATIENCE_S", 0.0):
        yield


@contextmanager
def swaps_before_anybody_was_served() -> Iterator[None]:
    with patch.object(Fleet, "owe", lambda _fleet, _slot, _waiters: None):
        yield


#: Every one of them.
PLANTED: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    plant.__name__: plant
    for plant in (
        evicts_the_busy,
        evicts_the_pinned,
        starts_twice,
        loses_a_waiter,
        believes_late_news,
        counts_idle_time_from_the_load,
        switches_before_it_is_written,
        two_switches_at_once,
        forgets_changes_of_an_alias_that_queue,
        frees_memory_too_early,
        forgets_the_lease,
        forgets_the_limit,
        serves_the_last_first,
        acknowledges_what_is_not_written,
        leaves_what_was_unloaded_noted,
        sleeps_through_deadlines,
        overbooks_while_loading,
        leaks_a_reservation,
        frees_bytes_before_the_process_is_gone,
        starts_in_another_shape_than_was_reckoned,
        ignores_the_processors,
        passes_those_who_wait_for_processors,
        keeps_the_place_for_ever,
        waits_for_pins_for_ever,
        has_no_patience_with_pins,
        swaps_before_anybody_was_served,
    )
}
