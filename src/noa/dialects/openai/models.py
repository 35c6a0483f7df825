"""The list of models, read and written."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from noa.dialects.upstream import decode_answer


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a service lists it. ``context`` is its window and ``max_tokens`` its longest answer, in tokens."""

    id: str
    name: str | None = None
    created: int | None = None
    owned_by: str | None = None
    context: int | None = None
    max_tokens: int | None = None


class _Meta(msgspec.Struct):
    """llama.cpp: the context the server runs the model with, and the one it was trained for."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None


class _Wire(msgspec.Struct):
    """A row with the fields that services add: vLLM, OpenRouter, Groq, Mistral and llama.cpp each say the context."""

    id: str
    name: str | None = None
    created: int | float | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    max_context_length: int | None = None
    max_completion_tokens: int | None = None
    meta: _Meta | None = None


class _List(msgspec.Struct):
    data: list[_Wire]


_list = msgspec.json.Decoder(_List | list[_Wire])


def decode_models(body: bytes, *, provider: str | None = None) -> list[ModelRow]:
    """Read a list of models, bare or under ``data``. Raises ``ProviderResponseError`` for anything else."""
    answer = decode_answer(_list, body, "list of models", provider)
    return [_row(wire) for wire in (answer.data if isinstance(answer, _List) else answer)]


def encode_models(entries: Iterable[tuple[str, int, str]]) -> bytes:
    """Write the list: ``(id, created, owned_by)`` of each model, ``created`` in Unix seconds."""
    rows = [
        {"id": model_id, "object": "model", "created": created, "owned_by": owned_by}
        for model_id, created, owned_by in entries
    ]
    return msgspec.json.encode({"object": "list", "data": rows})


def _row(wire: _Wire) -> ModelRow:
    meta = wire.meta or _Meta()
    said = (
        wire.max_model_len,
        wire.context_length,
        wire.context_window,
        wire.max_context_length,
        meta.n_ctx,
        meta.n_ctx_train,
    )
    return ModelRow(
        id=wire.id,
        name=wire.name,
        created=None if wire.created is None else int(wire.created),
        owned_by=wire.owned_by,
        context=next((tokens for tokens in said if tokens), None),
        max_tokens=wire.max_completion_tokens,
    )
