"""OpenAI's API: chats, completions and embeddings through the relay, and the list of models."""

from __future__ import annotations

from typing import Final

import msgspec

from noa.dialects import openai, sse
from noa.errors import AIProviderError, ModelNotFoundError
from noa.manager import ModelManager
from noa.models import ModelStatus, RegistryEntry
from noa.providers.protocol import Dialect
from noa.selection.aliases import CURRENT
from noa.server.exchange import Exchange
from noa.server.relay import Face


def error_event(error: AIProviderError) -> bytes:
    """The last event of a stream that failed; no ``[DONE]`` follows it."""
    return sse.encode(openai.encode_error(error)[1])


CHAT: Final = Face(
    dialect=Dialect.OPENAI,
    path="/chat/completions",
    operation="chat",
    encode_error=openai.encode_error,
    error_event=error_event,
    decode=openai.decode_request,
    encode=openai.encode_reply,
    encoder=openai.StreamEncoder,
)
COMPLETION: Final = Face(
    dialect=Dialect.OPENAI,
    path="/completions",
    operation="completion",
    encode_error=openai.encode_error,
    error_event=error_event,
)
EMBEDDINGS: Final = Face(
    dialect=Dialect.OPENAI,
    path="/embeddings",
    operation="embeddings",
    encode_error=openai.encode_error,
    error_event=error_event,
)

#: Who has made what is no model of a provider.
OURSELVES: Final = "noa"


async def list_models(exchange: Exchange, manager: ModelManager) -> None:
    """``GET /v1/models``: aliases first, then the loaded models, then the others."""
    await manager.engine.refresh()
    await exchange.answer(200, openai.encode_models(rows(manager)))


async def show_model(exchange: Exchange, manager: ModelManager) -> None:
    """``GET /v1/models/{id}``, by any name that requests may use."""
    name = exchange.path.removeprefix("/v1/models/")
    row = next((row for row in rows(manager) if row[0] == name), None)
    if row is None:
        key = await manager.engine.find_key(name)
        entry = manager.registry.get(key)
        if entry is None:
            raise ModelNotFoundError(f"No provider offers “{key}” now. See what there is with: noa ls")
        row = _row(entry)
    [body] = msgspec.json.decode(openai.encode_models([row]), type=_Rows).data
    await exchange.answer(200, bytes(body))


def rows(manager: ModelManager) -> list[tuple[str, int, str]]:
    """``(id, created, owned_by)`` of everything that a request may name: ``current`` always, other aliases, keys."""
    entries = manager.registry.models()
    entries.sort(key=lambda entry: entry.status is not ModelStatus.LOADED)
    aliases = manager.engine.aliases
    oldest = min((_created(entry) for entry in entries), default=0)
    named = [(name, oldest, OURSELVES) for name in dict.fromkeys((CURRENT, *sorted(aliases)))]
    return named + [_row(entry) for entry in entries]


class _Rows(msgspec.Struct):
    data: list[msgspec.Raw]


def _row(entry: RegistryEntry) -> tuple[str, int, str]:
    return entry.key, _created(entry), entry.provider


def _created(entry: RegistryEntry) -> int:
    return int(entry.registered_at.timestamp())
