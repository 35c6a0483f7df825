"""The list of models, read and written."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from noa.dialects.upstream import decode_answer


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model as Anthropic lists it. ``max_input_tokens`` is its window and ``max_tokens`` its longest answer."""

    id: str
    display_name: str | None = None
    created_at: datetime | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class _Page(msgspec.Struct):
    data: list[ModelRow]
    has_more: bool = False
    last_id: str | None = None


_page = msgspec.json.Decoder(_Page)


def decode_models(body: bytes, *, provider: str | None = None) -> list[ModelRow]:
    """Read a page of the list. Raises ``ProviderResponseError`` for anything else."""
    return decode_answer(_page, body, "list of models", provider).data


def next_page(body: bytes) -> str | None:
    """The ``after_id`` that asks for the page after this one, ``None`` on the last."""
    page = decode_answer(_page, body, "list of models", None)
    return page.last_id if page.has_more else None


def encode_models(entries: Iterable[tuple[str, int, str]]) -> bytes:
    """Write the whole list: ``(id, created, owned_by)`` of each model, ``created`` in Unix seconds."""
    rows = [
        {
            "type": "model",
            "id": model_id,
            "display_name": model_id,
            "created_at": datetime.fromtimestamp(created, UTC),
        }
        for model_id, created, _ in entries
    ]
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": None, "last_id": None}
    return msgspec.json.encode({"data": rows, "has_more": False, **ends})
