"""What names mean: ``current`` and every other alias."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from noa.alias_book import Expected
from noa.engine import DEFAULT_WAIT_S
from noa.errors import ModelNotFoundError
from noa.manager.questions import Questions
from noa.models import ModelCapability, SwitchResult
from noa.selection.aliases import CURRENT
from noa.selection.rank import best
from noa.state import AliasRecord


class Pointing(Questions):
    """Switches models, and points aliases."""

    async def switch_model(
        self,
        key: str,
        reason: str = "asked for",
        *,
        expected: Expected = msgspec.UNSET,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> SwitchResult:
        """Make another model the current one, loading it first. Requests that run finish on the old one.

        Raises ``ConflictError`` if another model than ``expected`` (``None``: any model) is current then.
        """
        return await self.point_alias(CURRENT, key, reason, expected=expected, wait_s=wait_s)

    async def point_alias(
        self,
        name: str,
        key: str,
        reason: str = "asked for",
        *,
        expected: Expected = msgspec.UNSET,
        load: bool = True,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> SwitchResult:
        """Make an alias (``prod``, ``fast``) mean a model, as ``switch_model`` does with ``current``.

        Requests for the alias follow it without one failing. With ``load=False`` the model is loaded when it is used.
        Raises ``ValidationError`` for a name that can be no alias, and ``ConflictError`` if it means another model
        than ``expected`` (``None``: any model).
        """
        book = self._open.aliases
        return await book.point(name, key, reason, expected=expected, load=load, wait_s=wait_s)

    async def rollback_alias(
        self, name: str, reason: str | None = None, *, wait_s: float = DEFAULT_WAIT_S
    ) -> SwitchResult:
        """Make an alias mean what it meant before its latest change, loading that first; again is back again.

        An alias that was removed comes back. Raises ``ModelNotFoundError`` if there never was such an alias, and
        ``ConflictError`` if it meant nothing before.
        """
        return await self._open.aliases.roll_back(name, reason, wait_s=wait_s)

    async def remove_alias(self, name: str, reason: str = "asked for") -> str:
        """Drop an alias and return the key it meant. The model stays as it is. Raises ``ModelNotFoundError``."""
        return await self._open.aliases.remove(name, reason)

    async def aliases(self) -> Sequence[AliasRecord]:
        """What each alias means, since when and why, by name; ``current`` is one of them if a model is in use."""
        return await self._open.aliases.entries()

    async def alias_history(self, name: str) -> Sequence[AliasRecord]:
        """What an alias has meant, newest first. Raises ``ModelNotFoundError``."""
        return await self._open.aliases.history(name)

    async def auto_switch_to_best_model(self, capability: ModelCapability | str) -> SwitchResult:
        """Switch to the best measured model that can do it. Raises ``ModelNotFoundError`` if none was measured."""
        capability = ModelCapability(capability)
        found = best(self.registry.used(capability))
        if found is None:
            raise ModelNotFoundError(f"No model that can do {capability} was measured yet; profile one first.")
        entry, score = found
        return await self.switch_model(entry.key, f"best measured for {capability} ({score:.2f})")
