"""What may be asked for, listed for clients of either dialect: ``/v1/models`` and ``/v1/models/{id}``.

Which dialect a client speaks is told by the header ``anthropic-version``, which Anthropic's clients always send.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from noa.dialects import anthropic, openai
from noa.manager import ModelManager
from noa.model_index import Conditions
from noa.models import ModelStatus
from noa.selection.aliases import CURRENT
from noa.server.exchange import Exchange

#: Who has made what is no model of a provider.
OURSELVES: Final = "noa"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A name that requests may use. An alias has the figures of the model it points to, as long as it does."""

    name: str
    owner: str
    since: datetime | None
    context_window: int | None = None
    max_tokens: int | None = None


async def list_models(exchange: Exchange, manager: ModelManager) -> None:
    """``GET /v1/models``: aliases first, then the loaded models, then the others."""
    await manager.engine.refresh()
    names, rows = names_of(manager), Rows(manager)
    if not exchange.is_anthropic:
        await exchange.answer(200, openai.encode_models(_openai_row(rows.of(name)) for name in names))
        return
    query = dict(parse_qsl(exchange.scope.get("query_string", b"").decode("latin-1")))
    page, has_more = anthropic.page_of(names, query)
    shown = [_anthropic_row(rows.of(name)) for name in page]
    await exchange.answer(200, anthropic.encode_models(shown, has_more=has_more))


async def show_model(exchange: Exchange, manager: ModelManager) -> None:
    """``GET /v1/models/{id}``, by any name that requests may use."""
    name, rows = exchange.path.removeprefix("/v1/models/"), Rows(manager)
    if not rows.has(name):
        name = await manager.engine.find_key(name)
        manager.registry.offer(name)
    row = rows.of(name)
    if exchange.is_anthropic:
        await exchange.answer(200, anthropic.encode_model(_anthropic_row(row)))
    else:
        await exchange.answer(200, openai.encode_model(_openai_row(row)))


def names_of(manager: ModelManager) -> Sequence[str]:
    """Everything that a request may name: ``current`` always, other aliases, keys."""
    registry = manager.registry
    loaded = [entry.key for entry in registry.page(Conditions(status=ModelStatus.LOADED)).entries]
    # Each name once, where it comes first.
    return [*dict.fromkeys((CURRENT, *sorted(manager.engine.aliases))), *dict.fromkeys((*loaded, *registry))]


class Rows:
    """What is listed of each name."""

    def __init__(self, manager: ModelManager) -> None:
        self._registry = manager.registry
        self._aliases = manager.engine.aliases

    def has(self, name: str) -> bool:
        """Whether it is listed."""
        return name in self._registry or name in self._aliases or name == CURRENT

    def of(self, name: str) -> Listed:
        """The row of a name that is listed."""
        if name == CURRENT or name in self._aliases:
            return self._alias(name)
        model = self._registry.offer(name).model
        return Listed(
            name=name,
            owner=model.provider,
            since=self._registry.registered_at(name),
            context_window=model.context_window,
            max_tokens=model.max_tokens,
        )

    def _alias(self, name: str) -> Listed:
        target, since = self._aliases.get(name, ""), self._registry.oldest
        if target not in self._registry:
            return Listed(name=name, owner=OURSELVES, since=since)
        return msgspec.structs.replace(self.of(target), name=name, owner=OURSELVES, since=since)


def _openai_row(row: Listed) -> tuple[str, int, str]:
    return row.name, int(row.since.timestamp()) if row.since else 0, row.owner


def _anthropic_row(row: Listed) -> anthropic.ModelRow:
    return anthropic.ModelRow(
        id=row.name, created_at=row.since, max_input_tokens=row.context_window, max_tokens=row.max_tokens
    )
