"""Splits: an alias's requests divided among several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from noa.engine import DEFAULT_WAIT_S
from noa.manager.part import Part
from noa.models import SwitchResult
from noa.splits import Share
from noa.state import AliasSplit, Guard


class Splitting(Part):
    """Tries models out on a part of an alias's requests."""

    def alias_split(self, name: str) -> AliasSplit | None:
        """How an alias is split, ``None`` if it isn't."""
        return self._open.splits.get(name)

    def alias_shares(self, name: str) -> Sequence[Share]:
        """Who takes part in a split and how each does, the alias's own model first; nobody if it isn't split."""
        return self._open.splits.shares(name)

    async def split_alias(self, name: str, weights: Mapping[str, float], *, guard: Guard | None = None) -> AliasSplit:
        """Send part of an alias's requests to other models: ``{"openai:gpt-4o": 10}`` is ten percent of them.

        With a ``guard`` whoever turns out to be measurably worse is taken out again by itself. Raises
        ``ValidationError`` for what makes no sense.
        """
        return await self._open.splits.begin(AliasSplit(alias=name, weights=dict(weights), guard=guard))

    async def unsplit_alias(self, name: str, reason: str = "asked for") -> AliasSplit:
        """Send all of them to its own model again, and return how it was split. Raises ``ModelNotFoundError``."""
        return await self._open.splits.end(name, reason)

    async def promote_alias(
        self, name: str, key: str, reason: str = "promoted", *, wait_s: float = DEFAULT_WAIT_S
    ) -> SwitchResult:
        """Make an alias mean one of the models that take part, for all of its requests. No request fails for it."""
        return await self._open.splits.promote(name, key, reason, wait_s=wait_s)
