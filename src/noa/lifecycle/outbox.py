"""The effects of one step, and the changes that wait to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from noa.errors import AIProviderError
from noa.lifecycle import messages as m
from noa.state import Change

#: Told ``None`` once the change is on disk, or why it is not.
AfterCommit = Callable[[AIProviderError | None], None]


class Outbox:
    """Collects effects in order. What must be durable first is applied by the ``then`` of its commit."""

    def __init__(self) -> None:
        self._effects: list[m.Effect] = []
        self._token = 0
        self._commits: dict[int, AfterCommit] = {}

    def emit(self, effect: m.Effect) -> None:
        """Have this carried out."""
        self._effects.append(effect)

    def publish(self, event_type: str, **data: object) -> None:
        """Tell whoever listens."""
        self.emit(m.Publish(type=event_type, data=data))

    def refuse(self, number: int, error: AIProviderError) -> None:
        """Tell a waiter that it does not get what it asked for."""
        self.emit(m.Refuse(waiter=number, error=error))

    def commit(self, changes: Iterable[Change], then: AfterCommit | None = None) -> None:
        """Have the changes written, all or none. Without ``then`` nobody waits for it."""
        self._token += 1
        if then is not None:
            self._commits[self._token] = then
        self.emit(m.Persist(token=self._token, changes=tuple(changes)))

    def committed(self, token: int, error: AIProviderError | None) -> None:
        """A write is over, well or not."""
        if then := self._commits.pop(token, None):
            then(error)

    def take(self) -> list[m.Effect]:
        """The effects so far; they are forgotten here."""
        effects, self._effects = self._effects, []
        return effects
