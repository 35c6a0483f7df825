"""Changes of aliases that load nothing: pointing one at a model that is loaded on demand, and dropping one."""

from __future__ import annotations

from noa.errors import AIProviderError
from noa.lifecycle import messages as m
from noa.lifecycle import refusals
from noa.lifecycle.aliases import CURRENT, Aliases
from noa.lifecycle.fleet import Fleet
from noa.lifecycle.outbox import Outbox


class Pointing:
    """Makes such a change as soon as no other one of the same alias is being written, and says so when it is written.

    ``current`` always means a model that was loaded, or nothing because none is; it is no business of this class.
    """

    def __init__(self, fleet: Fleet, aliases: Aliases, outbox: Outbox) -> None:
        self._fleet = fleet
        self._aliases = aliases
        self._outbox = outbox

    def point(self, message: m.PointAlias) -> None:
        """Let an alias mean another model."""
        assert message.alias != CURRENT
        self._aliases.in_turn(message.alias, lambda: self._point(message))

    def drop(self, message: m.DropAlias) -> None:
        """Let an alias mean nothing."""
        assert message.alias != CURRENT
        self._aliases.in_turn(message.alias, lambda: self._drop(message))

    def _point(self, message: m.PointAlias) -> None:
        if message.key not in self._fleet.slots:
            self._outbox.refuse(message.waiter, refusals.unknown(message.key))
        elif conflict := self._aliases.lost_race(message.alias, message.expected):
            self._outbox.refuse(message.waiter, conflict)
        elif self._aliases.get(message.alias) == message.key:
            self._outbox.emit(m.Done(waiter=message.waiter, key=message.key, previous=message.key))
        else:
            self._change(message, message.key)

    def _drop(self, message: m.DropAlias) -> None:
        if self._aliases.get(message.alias) is None:
            self._outbox.refuse(message.waiter, refusals.no_such_alias(message.alias))
        else:
            self._change(message, None)

    def _change(self, message: m.PointAlias | m.DropAlias, key: str | None) -> None:
        pointed = self._aliases.begin(message.alias, key, message.reason)

        def recorded(error: AIProviderError | None) -> None:
            self._aliases.end(pointed, error)
            if error is not None:
                self._outbox.refuse(message.waiter, error)
                return
            affected = key or pointed.previous or ""
            self._outbox.emit(m.Done(waiter=message.waiter, key=affected, previous=pointed.previous))

        self._outbox.commit([pointed], recorded)
