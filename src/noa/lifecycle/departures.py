"""How models leave: let go, unloaded by hand, or ended by themselves; and what is written about it, and when."""

from __future__ import annotations

from collections.abc import Iterable

from noa.errors import AIProviderError
from noa.lifecycle import messages as m
from noa.lifecycle.aliases import CURRENT, Aliases
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.outbox import Outbox
from noa.lifecycle.slots import Slot
from noa.models import ModelStatus
from noa.state import AliasPointed, Change, ModelDropped


class Departures:
    """Stops what has drained. What somebody asked for by hand is on disk before it is acknowledged."""

    def __init__(self, fleet: Fleet, aliases: Aliases, outbox: Outbox) -> None:
        self._fleet = fleet
        self._aliases = aliases
        self._outbox = outbox

    def leave(self, slot: Slot) -> None:
        """Stop a model that has drained.

        One that is unloaded by hand is written off first, and stays if that fails. One that never served has
        nothing to go back to; it is stopped at once and written off afterwards. One that waits for its second start
        has no process to stop.
        """
        if slot.retry_after is not None:
            self.stopped(slot)
            return
        if not slot.unloaders:
            self._drop(slot.key)
            self._fleet.order_stop(slot)
            return
        if not slot.announced:
            self._fleet.order_stop(slot)
            return
        if self._aliases.is_changing(CURRENT):
            return
        changes, moved = self._farewell(slot.key)
        if not changes:
            self._fleet.order_stop(slot)
            return
        slot.committing = True

        def recorded(error: AIProviderError | None) -> None:
            slot.committing = False
            self._recorded(slot.key, moved, error)
            if error is not None:
                self._stays(slot, error)
            elif slot.ended is not None:
                self.stopped(slot)
            else:
                self._fleet.order_stop(slot)

        self._outbox.commit(changes, recorded)

    def _stays(self, slot: Slot, error: AIProviderError) -> None:
        self._fleet.refuse_unloaders(slot, error)
        self._fleet.resume(slot)
        if slot.ended is not None:
            self.ended(slot, slot.ended)

    def stopped(self, slot: Slot) -> None:
        """Its process is gone, as ordered."""
        unloaders = list(slot.unloaders)
        self._fleet.stopped(slot)
        if unloaders:
            self.unloaded(slot.key, unloaders)

    def ended(self, slot: Slot, error: AIProviderError) -> None:
        """Its process ended by itself. Whoever was about to let it go has what he wanted."""
        if slot.committing:
            slot.ended = error
            return
        if slot.stopping:
            self.stopped(slot)
            return
        leaving = slot.status is ModelStatus.DRAINING
        unloaders = list(slot.unloaders)
        self._fleet.crashed(slot, error, wanted=not leaving)
        if unloaders:
            self.unloaded(slot.key, unloaders)
        elif leaving:
            self._drop(slot.key)

    def unloaded(self, key: str, numbers: Iterable[int]) -> None:
        """A model that somebody unloads by hand is not there: see that it does not come back, and say so."""
        self._fleet.renounce(key)
        changes, moved = self._farewell(key)

        def recorded(error: AIProviderError | None) -> None:
            self._recorded(key, moved, error)
            for number in numbers:
                if error is not None:
                    self._outbox.refuse(number, error)
                else:
                    self._outbox.emit(m.Done(waiter=number, key=key))

        if changes:
            self._outbox.commit(changes, recorded)
        else:
            recorded(None)

    def _farewell(self, key: str) -> tuple[list[Change], AliasPointed | None]:
        """What is to be written of a model that somebody unloads by hand."""
        changes: list[Change] = [ModelDropped(key=key)] if key in self._fleet.kept else []
        moved = None
        if self._aliases.get(CURRENT) == key and not self._aliases.is_changing(CURRENT):
            moved = self._aliases.begin(CURRENT, self._heir(key), "the current model was unloaded")
            changes.append(moved)
        return changes, moved

    def _recorded(self, key: str, moved: AliasPointed | None, error: AIProviderError | None) -> None:
        if error is None:
            self._fleet.kept.pop(key, None)
        if moved is not None:
            self._aliases.end(moved, error)

    def _heir(self, leaving: str) -> str | None:
        """Who becomes current: the loaded model that was used last."""
        loaded = [slot for slot in self._fleet.resident.values() if slot.status is ModelStatus.LOADED]
        others = [slot for slot in loaded if slot.key != leaving]
        return max(others, key=lambda slot: slot.last_used).key if others else None

    def _drop(self, key: str) -> None:
        """Nobody waits for this: a model that had to make room goes whether or not the disk takes note of it."""
        if key not in self._fleet.kept:
            return

        def recorded(error: AIProviderError | None) -> None:
            self._recorded(key, None, error)

        self._outbox.commit([ModelDropped(key=key)], recorded)
