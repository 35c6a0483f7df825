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
from noa.errors import ModelNotFoundError
from noa.manager import ModelManager
from noa.models import ModelStatus, RegistryEntry
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
    rows = listed(manager)
    if not exchange.is_anthropic:
        await exchange.answer(200, openai.encode_models(map(_openai_row, rows)))
        return
    query = dict(parse_qsl(exchange.scope.get("query_string", b"").decode("latin-1")))
    page, has_more = anthropic.page_of([_anthropic_row(row) for row in rows], query)
    await exchange.answer(200, anthropic.encode_models(page, has_more=has_more))


async def show_model(exchange: Exchange, manager: ModelManager) -> None:
    """``GET /v1/models/{id}``, by any name that requests may use."""
    name = exchange.path.removeprefix("/v1/models/")
    row = next((row for row in listed(manager) if row.name == name), None)
    if row is None:
        key = await manager.engine.find_key(name)
        entry = manager.registry.get(key)
        if entry is None:
            raise ModelNotFoundError(f"No provider offers “{key}” now. See what there is with: noa ls")
        row = _row(entry)
    if exchange.is_anthropic:
        await exchange.answer(200, anthropic.encode_model(_anthropic_row(row)))
    else:
        await exchange.answer(200, openai.encode_model(_openai_row(row)))


def listed(manager: ModelManager) -> Sequence[Listed]:
    """Everything that a request may name: ``current`` always, other aliases, keys."""
    entries = manager.registry.models()
    entries.sort(key=lambda entry: entry.status is not ModelStatus.LOADED)
    by_key = {entry.key: entry for entry in entries}
    aliases = manager.engine.aliases
    oldest = min((entry.registered_at for entry in entries), default=None)
    named = [
        _alias(name, by_key.get(aliases.get(name, "")), oldest) for name in dict.fromkeys((CURRENT, *sorted(aliases)))
    ]
    return named + [_row(entry) for entry in entries]


def _alias(name: str, target: RegistryEntry | None, since: datetime | None) -> Listed:
    if target is None:
        return Listed(name=name, owner=OURSELVES, since=since)
    return Listed(
        name=name,
        owner=OURSELVES,
        since=since,
        context_window=target.context_window,
        max_tokens=target.max_tokens,
    )


def _row(entry: RegistryEntry) -> Listed:
    return Listed(
        name=entry.key,
        owner=entry.provider,
        since=entry.registered_at,
        context_window=entry.context_window,
        max_tokens=entry.max_tokens,
    )


def _openai_row(row: Listed) -> tuple[str, int, str]:
    return row.name, int(row.since.timestamp()) if row.since else 0, row.owner


def _anthropic_row(row: Listed) -> anthropic.ModelRow:
    return anthropic.ModelRow(
        id=row.name, created_at=row.since, max_input_tokens=row.context_window, max_tokens=row.max_tokens
    )
