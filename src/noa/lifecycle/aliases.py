"""What the names that people give to models mean, and how that changes: written first, then applied, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from noa.errors import AIProviderError
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

    def begin(self, name: str, key: str | None, reason: str) -> AliasPointed:
        """The change to write. ``end`` must follow, whatever became of it."""
        self._changing.add(name)
        return AliasPointed(name=name, key=key, previous=self._keys.get(name), reason=reason)

    def end(self, pointed: AliasPointed, error: AIProviderError | None, *, announce: bool = True) -> None:
        """The change was written, so it applies; or it was not, so nothing has happened."""
        self._changing.discard(pointed.name)
        if error is not None:
            return
        if pointed.key is None:
            self._keys.pop(pointed.name, None)
            return
        self._keys[pointed.name] = pointed.key
        if announce:
            self._outbox.publish(
                "model-switched",
                alias=pointed.name,
                previous_model=pointed.previous,
                current_model=pointed.key,
                reason=pointed.reason,
            )
