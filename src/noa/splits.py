"""Aliases that are split among models: who takes part, how it goes, and how it ends.

Told are ``alias-split`` (``alias``, ``key`` of its own model, ``weights``), ``alias-split-ended`` (``alias``, ``keys``
of those who took part, ``reason``), and ``canary-rolled-back`` (``alias``, ``key``, ``own``, ``reason``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from noa.alias_book import AliasBook
from noa.engine import DEFAULT_WAIT_S, Engine
from noa.errors import AIProviderError, ModelNotFoundError, ValidationError
from noa.events import Event, EventBus
from noa.measurement.guard import Track, how_it_is_worse
from noa.models import SwitchResult, Value
from noa.selection.split import checked, newcomer_of
from noa.state import AliasSplit, Guard, RequestRecord
from noa.storage.protocol import StateStore

logger = logging.getLogger(__name__)

#: Of how many requests at once it is known which alias they were for.
MOST_ASKED: Final = 4096


class Share(Value, frozen=True, kw_only=True):
    """How one model of a split is doing since the split began or Noa was started."""

    key: str
    percent: float
    requests: int
    failures: int


class _Asked(NamedTuple):
    """What a request was for: an alias, and the newcomer that is to be asked first, until it was."""

    alias: str
    newcomer: str | None


class Splits:
    """Every split there is, and what was measured of those who take part in it."""

    def __init__(
        self,
        engine: Engine,
        book: AliasBook,
        state: StateStore,
        events: EventBus,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._engine = engine
        self._book = book
        self._state = state
        self._events = events
        self._draw = draw
        self._writing: set[asyncio.Task[None]] = set()
        self._splits: dict[str, AliasSplit] = {}
        self._tracks: dict[str, dict[str, Track]] = {}
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._promoting: set[str] = set()
        events.on("alias-pointed", self._pointed)
        events.on("alias-removed", self._removed)

    def restore(self, splits: Iterable[AliasSplit]) -> None:
        """Take over what was written before a restart, as far as the aliases are still there."""
        for split in splits:
            if split.alias in self._engine.aliases:
                self._splits[split.alias] = split

    async def settle(self) -> None:
        """Wait until everything is written."""
        await asyncio.gather(*self._writing)

    # What there is.

    def get(self, alias: str) -> AliasSplit | None:
        """The split of an alias, if it has one."""
        return self._splits.get(alias)

    def shares(self, alias: str) -> Sequence[Share]:
        """Who takes part, the alias's own model first."""
        split, own = self._splits.get(alias), self._engine.aliases.get(alias)
        if split is None or own is None:
            return ()
        percents = {own: 100 - sum(split.weights.values()), **split.weights}
        tracks = self._tracks.get(alias, {})
        return [
            Share(
                key=key,
                percent=percent,
                requests=tracks[key].requests if key in tracks else 0,
                failures=tracks[key].failures if key in tracks else 0,
            )
            for key, percent in percents.items()
        ]

    # Changes.

    async def begin(self, split: AliasSplit) -> AliasSplit:
        """Split an alias, or split it otherwise. Raises ``ValidationError`` for what makes no sense."""
        own = self._engine.aliases.get(split.alias)
        weights = {await self._engine.find_key(key): percent for key, percent in split.weights.items()}
        if len(weights) < len(split.weights):
            raise ValidationError(f"“{split.alias}” is to be split with one model named twice; name each once.")
        settled = checked(AliasSplit(alias=split.alias, weights=weights, guard=split.guard), own)
        await self._state.write(settled)
        self._splits[split.alias] = settled
        self._tracks.pop(split.alias, None)
        self._events.publish("alias-split", {"alias": split.alias, "key": own, "weights": weights})
        return settled

    async def end(self, alias: str, reason: str) -> AliasSplit:
        """Let the alias's own model have all of its requests again. Raises ``ModelNotFoundError`` if it isn't split."""
        split = self._existing(alias)
        await self._state.write(AliasSplit(alias=alias))
        self._splits.pop(alias, None)
        self._tracks.pop(alias, None)
        self._events.publish("alias-split-ended", {"alias": alias, "keys": list(split.weights), "reason": reason})
        return split

    async def promote(
        self, alias: str, key: str, reason: str = "promoted", *, wait_s: float = DEFAULT_WAIT_S
    ) -> SwitchResult:
        """Make the alias mean one of those who take part, and end the split. No request fails for it."""
        key = await self._engine.find_key(key)
        if key not in self._existing(alias).weights:
            raise ModelNotFoundError(f"{key} takes no part in “{alias}”, so there is nothing to promote.")
        self._promoting.add(alias)
        try:
            moved = await self._book.point(alias, key, reason, wait_s=wait_s)
            if alias in self._splits:
                await self.end(alias, f"{key} was promoted")
        finally:
            self._promoting.discard(alias)
        return moved

    def _pointed(self, event: Event) -> None:
        """An alias means another model now. If that took part, it does so no longer."""
        alias, key = str(event.data["alias"]), str(event.data["key"])
        split = self._splits.get(alias)
        if split is not None and key in split.weights and alias not in self._promoting:
            self._take_out(split, [key], f"“{alias}” means {key} now")

    def _removed(self, event: Event) -> None:
        """An alias is gone, and with it its split."""
        split = self._splits.get(str(event.data["alias"]))
        if split is not None:
            self._take_out(split, list(split.weights), f"“{split.alias}” was removed")

    def _take_out(self, split: AliasSplit, keys: Sequence[str], reason: str) -> None:
        """Give some who take part no more requests from this moment on; that this is written follows."""
        remaining = {each: percent for each, percent in split.weights.items() if each not in keys}
        left = AliasSplit(alias=split.alias, weights=remaining, guard=split.guard)
        if remaining:
            self._splits[split.alias] = left
        else:
            del self._splits[split.alias]
            self._tracks.pop(split.alias, None)
            data = {"alias": split.alias, "keys": list(keys), "reason": reason}
            self._events.publish("alias-split-ended", data)
        task = asyncio.get_running_loop().create_task(self._write(left))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _existing(self, alias: str) -> AliasSplit:
        if alias not in self._splits:
            raise ModelNotFoundError(f"“{alias}” is not split. Split it with: noa alias split {alias} KEY=PERCENT")
        return self._splits[alias]

    # Requests.

    def newcomer(self, alias: str, request_id: str) -> str | None:
        """The model that is tried out with this request, ``None`` if the alias's own has it or nothing is split."""
        split = self._splits.get(alias)
        if split is None or alias not in self._engine.aliases:
            return None
        newcomer = newcomer_of(split, self._draw)
        self._asked[request_id] = _Asked(alias, newcomer)
        if len(self._asked) > MOST_ASKED:
            self._asked.popitem(last=False)
        return newcomer

    def observe(self, record: RequestRecord) -> None:
        """Count an attempt for the split it was made for, and see whether a newcomer has turned out to be worse.

        A newcomer whose request went elsewhere at once, since it could not be had or its breaker is open, has failed.
        """
        asked = self._asked.get(record.request_id)
        split = None if asked is None else self._splits.get(asked.alias)
        own = None if split is None else self._engine.aliases.get(split.alias)
        if asked is None or split is None or own is None or record.key not in (own, *split.weights):
            return
        self._asked[record.request_id] = asked._replace(newcomer=None)
        tracks = self._tracks.setdefault(split.alias, {})
        passed_over = asked.newcomer if asked.newcomer in split.weights and asked.newcomer != record.key else None
        if passed_over is not None:
            tracks.setdefault(passed_over, Track()).add(0.0, success=False)
        tracks.setdefault(record.key, Track()).add(record.latency_ms, success=record.success)
        tried = passed_over or record.key
        if split.guard is not None and tried in split.weights:
            self._watch(split, split.guard, tried, own)

    def _watch(self, split: AliasSplit, guard: Guard, key: str, own: str) -> None:
        tracks = self._tracks[split.alias]
        worse = how_it_is_worse(
            tracks[key],
            tracks.get(own, Track()),
            max_error_rise=guard.max_error_rise,
            max_latency_ratio=guard.max_latency_ratio,
            min_requests=guard.min_requests,
        )
        if worse is not None:
            data = {"alias": split.alias, "key": key, "own": own, "reason": worse}
            self._events.publish("canary-rolled-back", data)
            self._take_out(split, [key], f"{key} was rolled back: {worse}")

    async def _write(self, split: AliasSplit) -> None:
        try:
            await self._state.write(split)
        except AIProviderError as error:
            logger.warning("that “%s” is split otherwise could not be written: %s", split.alias, error.message)
