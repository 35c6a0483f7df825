"""Every alias with its history: pointed, rolled back, removed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import msgspec

from noa.engine import DEFAULT_WAIT_S, Engine
from noa.errors import AIProviderError, ConflictError, ModelNotFoundError, ValidationError
from noa.lifecycle import messages as m
from noa.lifecycle import refusals
from noa.lifecycle.aliases import CURRENT
from noa.models import SwitchResult
from noa.selection.aliases import check_alias
from noa.state import AliasRecord
from noa.storage.protocol import StateStore

#: What an alias must mean for a change of it to happen: a key, ``None`` for nothing, unset for whatever.
Expected = str | msgspec.UnsetType | None


class AliasBook:
    """What names mean besides keys, as it is written. ``provider_names`` may not be aliases."""

    def __init__(self, engine: Engine, state: StateStore, provider_names: Collection[str]) -> None:
        self._engine = engine
        self._state = state
        self._provider_names = provider_names

    def know(self, provider_names: Collection[str]) -> None:
        """These may not be aliases from now on. One that is one already keeps its meaning."""
        self._provider_names = provider_names

    async def entries(self) -> Sequence[AliasRecord]:
        """The latest record of every alias that means something, by name."""
        return [record for record in (await self._state.read()).aliases if record.key is not None]

    async def history(self, name: str) -> Sequence[AliasRecord]:
        """What an alias meant, newest first. Raises ``ModelNotFoundError`` if it means nothing; ``current`` may."""
        records = await self._state.alias_history(name)
        if name != CURRENT and not records:
            raise refusals.no_such_alias(name)
        if name != CURRENT and records[0].key is None:
            raise ModelNotFoundError(f"The alias “{name}” was removed; bring it back with: noa alias rollback {name}")
        return records

    async def point(
        self,
        name: str,
        key: str,
        reason: str,
        *,
        expected: Expected = msgspec.UNSET,
        load: bool = True,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> SwitchResult:
        """Make an alias mean a model, which is loaded first unless ``load`` is false; then it is when it is used.

        Nothing changes if the load fails. ``key`` may be any name; what it means now is what the alias means then.
        Raises ``ValidationError`` for what can be no alias, ``ConflictError`` if it does not mean ``expected``.
        """
        if name != CURRENT:
            check_alias(name, self._provider_names)
        target = await self._engine.find_key(key)
        present = self.expected_key(expected)
        if load:
            done = await self._engine.switch(target, reason, alias=name, expected=present, wait_s=wait_s)
            return _result(done, reason)
        if name == CURRENT:
            raise ValidationError("“current” is the model in use, which is always loaded first; leave “load” out.")
        done = await self._engine.change(
            lambda number: m.PointAlias(waiter=number, alias=name, key=target, reason=reason, expected=present)
        )
        return _result(done, reason)

    async def roll_back(self, name: str, reason: str | None, *, wait_s: float = DEFAULT_WAIT_S) -> SwitchResult:
        """Make an alias mean what it meant before its latest change, loading that first; removed ones come back.

        Twice is back again. Raises ``ModelNotFoundError`` if there never was such an alias, ``ConflictError`` if it
        meant nothing before, or was changed by somebody else meanwhile.
        """
        records = await self._state.alias_history(name, 1)
        if not records:
            raise refusals.no_such_alias(name)
        latest = records[0]
        if latest.previous is None:
            raise ConflictError(f"“{name}” meant nothing before {latest.key}, so there is nothing to go back to.")
        reason = reason or f"rolled back from {latest.key or 'nothing'}"
        done = await self._engine.switch(latest.previous, reason, alias=name, expected=latest.key, wait_s=wait_s)
        return _result(done, reason)

    async def remove(self, name: str, reason: str) -> str:
        """Drop an alias and return the key it meant. Its history is kept. ``current`` cannot be dropped."""
        if name == CURRENT:
            raise ValidationError("“current” is the model in use and cannot be removed; unload the model instead.")
        done = await self._engine.change(lambda number: m.DropAlias(waiter=number, alias=name, reason=reason))
        return done.key

    def expected_key(self, expected: Expected) -> Expected:
        """The key of a model that somebody expects, by whatever name; what is offered no longer stays as it is."""
        if not isinstance(expected, str):
            return expected
        try:
            return self._engine.resolve_key(expected)
        except AIProviderError:
            return expected


def _result(done: m.Done, reason: str) -> SwitchResult:
    return SwitchResult(
        previous_model=done.previous, current_model=done.key, reason=reason, timestamp=datetime.now(UTC)
    )
