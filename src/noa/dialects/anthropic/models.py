"""The list of models, read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from noa.dialects.upstream import decode_answer
from noa.errors import ValidationError


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


def encode_models(rows: Sequence[ModelRow], *, has_more: bool = False) -> bytes:
    """Write a page of the list. A model without a known day of release has the epoch for it, as the dialect says."""
    ends = {"first_id": rows[0].id, "last_id": rows[-1].id} if rows else {"first_id": None, "last_id": None}
    return msgspec.json.encode({"data": [_wire(row) for row in rows], "has_more": has_more, **ends})


def encode_model(row: ModelRow) -> bytes:
    """Write one model."""
    return msgspec.json.encode(_wire(row))


def page_of(ids: Sequence[str], query: Mapping[str, str]) -> tuple[Sequence[str], bool]:
    """The ids that a query asks for (``limit``, and ``after_id`` or ``before_id``), and whether there are more.

    Without a limit there is one page, for these are the models of one house. Raises ``ValidationError`` for a limit
    that is none; an id that is not listed (any more) is the beginning, or the end, of the list.
    """
    after, before, limit = query.get("after_id"), query.get("before_id"), len(ids)
    if "limit" in query:
        if not query["limit"].isdecimal() or int(query["limit"]) < 1:
            raise ValidationError("limit must be a whole number, 1 or more.", details={"param": "limit"})
        limit = int(query["limit"])
    if before is not None:
        earlier = ids[: ids.index(before)] if before in ids else ids
        return earlier[-limit:], len(earlier) > limit
    later = ids[ids.index(after) + 1 :] if after in ids else ids
    return later[:limit], len(later) > limit


def _wire(row: ModelRow) -> dict[str, object]:
    return {
        "type": "model",
        "id": row.id,
        "display_name": row.display_name or row.id,
        "created_at": row.created_at or datetime.fromtimestamp(0, UTC),
        "lifecycle": "active",
        "max_input_tokens": row.max_input_tokens,
        "max_tokens": row.max_tokens,
    }
