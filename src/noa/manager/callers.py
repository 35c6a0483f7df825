"""Keys for single callers of the server, beside its own."""

from __future__ import annotations

from collections.abc import Sequence

from noa.caller_keys import NewCallerKey
from noa.manager.part import Part
from noa.state import CallerKey


class Callers(Part):
    """Knows who calls by the key that is shown."""

    def caller_keys(self) -> Sequence[CallerKey]:
        """Every key there is, by name; of the keys themselves nothing but a digest is known."""
        return self._open.caller_keys.all()

    async def create_caller_key(self, name: str, *, valid_s: float | None = None) -> NewCallerKey:
        """Make a key for a caller: its ``secret`` is shown this once.

        With ``valid_s`` it expires after so many seconds. Raises ``ValidationError`` for a bad name, ``ConflictError``
        if the name is taken.
        """
        return await self._open.caller_keys.create(name, valid_s)

    async def revoke_caller_key(self, name: str) -> None:
        """Have a key open nothing from now on. Raises ``CallerKeyNotFoundError``."""
        await self._open.caller_keys.revoke(name)

    def caller_of(self, presented: bytes) -> str | None:
        """The name of the key that was shown; ``None`` if it is none of ours, or has expired."""
        return None if self._house is None else self._house.caller_keys.name_of(presented)
