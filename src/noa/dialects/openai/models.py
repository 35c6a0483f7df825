"""The list of models, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from noa.dialects.openai.declarations import Declared, read_declarations
from noa.dialects.upstream import decode_answer
from noa.errors import ProviderResponseError
from noa.models import ModelCapability


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a service lists it. ``context`` is its window and ``max_tokens`` its longest answer, in tokens.

    ``declared`` is what the service says that it can do (true) and cannot (false).
    """

    id: str
    name: str | None = None
    created: int | None = None
    owned_by: str | None = None
    context: int | None = None
    max_tokens: int | None = None
    declared: Mapping[ModelCapability, bool] = {}


class _Wire(Declared):
    """A row with the fields that services add; an odd one must not cost the whole list, so few have a type here.

    The context is in a field of its own with vLLM, OpenRouter, Groq, Mistral, GitHub and llama.cpp each; the latter
    also says the one that the model was trained for.
    """

    id: str | None = None
    name: str | None = None
    created: Any = None
    owned_by: Any = None
    max_model_len: Any = None
    context_length: Any = None
    context_window: Any = None
    max_context_length: Any = None
    max_completion_tokens: Any = None
    meta: Any = None
    limits: Any = None
    top_provider: Any = None


class _List(msgspec.Struct):
    """``data`` is OpenAI's, ``models`` Cohere's; Ollama's ``data`` is null when it has no model."""

    data: list[_Wire] | msgspec.UnsetType | None = msgspec.UNSET
    models: list[_Wire] | msgspec.UnsetType = msgspec.UNSET


_list = msgspec.json.Decoder(_List | list[_Wire])


def decode_models(body: bytes, *, provider: str | None = None) -> list[ModelRow]:
    """Read a list of models: bare, or under ``data`` or ``models``. Raises ``ProviderResponseError`` for others."""
    answer = decode_answer(_list, body, "list of models", provider)
    wires = answer
    if isinstance(answer, _List):
        wires = answer.models if answer.data is msgspec.UNSET else answer.data or []
    if not isinstance(wires, list) or not all(wire.id or wire.name for wire in wires):
        raise ProviderResponseError(
            f"{provider or 'The provider'} answered with something that is no list of models.", provider=provider
        )
    return [_row(wire) for wire in wires]


def encode_models(entries: Iterable[tuple[str, int, str]]) -> bytes:
    """Write the list: ``(id, created, owned_by)`` of each model, ``created`` in Unix seconds."""
    return msgspec.json.encode({"object": "list", "data": [_written(entry) for entry in entries]})


def encode_model(entry: tuple[str, int, str]) -> bytes:
    """Write one model."""
    return msgspec.json.encode(_written(entry))


def _written(entry: tuple[str, int, str]) -> dict[str, object]:
    model_id, created, owned_by = entry
    return {"id": model_id, "object": "model", "created": created, "owned_by": owned_by}


def _row(wire: _Wire) -> ModelRow:
    meta, limits, top = _fields(wire.meta), _fields(wire.limits), _fields(wire.top_provider)
    context = (
        wire.max_model_len,
        wire.context_length,
        wire.context_window,
        wire.max_context_length,
        limits.get("max_input_tokens"),
        meta.get("n_ctx"),
        meta.get("n_ctx_train"),
    )
    longest = (wire.max_completion_tokens, limits.get("max_output_tokens"), top.get("max_completion_tokens"))
    return ModelRow(
        id=wire.id or wire.name or "",
        name=wire.name,
        created=int(wire.created) if isinstance(wire.created, int | float) else None,
        owned_by=wire.owned_by if isinstance(wire.owned_by, str) else None,
        context=_first_count(context),
        max_tokens=_first_count(longest),
        declared=read_declarations(wire),
    )


def _fields(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_count(values: Iterable[object]) -> int | None:
    """The first of these that is a number of tokens."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
