"""What the names that people give to models mean, and how that changes: written first, then applied, one at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from noa.errors import AIProviderError, ConflictError
from noa.lifecycle.outbox import Outbox
from noa.state import AliasPointed

#: The reserved alias for the model in use.
CURRENT: Final = "current"


class Aliases:
    """What each alias means now, and which of them are being changed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._keys: dict[str, str] = {}
        self._changing: set[str] = set()
        self._queued: dict[str, deque[Callable[[], None]]] = {}

    def restore(self, keys: Mapping[str, str]) -> None:
        """Take over what was written before a restart."""
        self._keys.update(keys)

    def everything(self) -> Mapping[str, str]:
        """What each alias means now."""
        return dict(self._keys)

    def get(self, name: str) -> str | None:
        """The key that an alias means, ``None`` for nothing."""
        return self._keys.get(name)

    def meaning(self, name: str) -> str | None:
        """The key that a name means: an alias's, or itself. ``current`` is never a key."""
        return self._keys.get(name) if name == CURRENT else self._keys.get(name, name)

    def is_changing(self, name: str) -> bool:
        """Whether a change of it is being written. Until that is over nobody else may begin one."""
        return name in self._changing

    def lost_race(self, name: str, expected: str | msgspec.UnsetType | None) -> ConflictError | None:
        """What to tell somebody who decided on a change while the alias meant something else than it does now."""
        present = self._keys.get(name)
        if isinstance(expected, msgspec.UnsetType) or expected == present:
            return None
        return ConflictError(f"“{name}” means {present or 'nothing'} now, not {expected or 'nothing'}.")

    def in_turn(self, name: str, change: Callable[[], None]) -> None:
        """Make a change now, or when those that are being written or queued before it are over."""
        if self.is_changing(name):
            self._queued.setdefault(name, deque()).append(change)
        else:
            change()

    def begin(self, name: str, key: str | None, reason: str) -> AliasPointed:
        """The change to write. ``end`` must follow, whatever became of it."""
        self._changing.add(name)
        return AliasPointed(name=name, key=key, previous=self._keys.get(name), reason=reason)

    def end(self, pointed: AliasPointed, error: AIProviderError | None, *, announce: bool = True) -> None:
        """The change was written, so it applies; or it was not, so nothing has happened. Then the next one begins."""
        self._changing.discard(pointed.name)
        if error is None:
            self._apply(pointed)
            if announce:
                self._announce(pointed)
        queued = self._queued.get(pointed.name)
        while queued and not self.is_changing(pointed.name):
            queued.popleft()()
        if not queued:
            self._queued.pop(pointed.name, None)

    def _apply(self, pointed: AliasPointed) -> None:
        if pointed.key is None:
            self._keys.pop(pointed.name, None)
        else:
            self._keys[pointed.name] = pointed.key

    def _announce(self, pointed: AliasPointed) -> None:
        """``current`` has the quick start's event; that there is no current model is told by the model's own event."""
        name, key, previous, reason = pointed.name, pointed.key, pointed.previous, pointed.reason
        if name != CURRENT and key is not None:
            self._outbox.publish("alias-pointed", alias=name, key=key, previous=previous, reason=reason)
        elif name != CURRENT:
            self._outbox.publish("alias-removed", alias=name, previous=previous, reason=reason)
        elif key is not None:
            self._outbox.publish(
                "model-switched", alias=name, previous_model=previous, current_model=key, reason=reason
            )
