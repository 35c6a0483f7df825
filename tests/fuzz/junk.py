"""Damage: values and bytes as no honest peer sends them, made from honest ones by a seeded generator."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any, Final

_STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**63, -(2**70), 1.5, 1e308, "", "x", "required", "tool", "text", "\x00", "\ud83c",
    "å☔🌧", "{", "{}", "[]", "null", "data:image/png;base64,QUJD", [], {}, [None], [[]], {"type": None},
    {"type": "text"}, {"": ""}, [{"type": "image"}], {"type": "tool_use", "input": 3},
)  # fmt: skip
_BYTES: Final = (
    b"", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b":", b"data:", b"data: ", b"event: error\n", b"id: \x00\n", b"\xff",
    b"\xef\xbb\xbf", b"\xe2\x98", b"{", b"}", b"[DONE]", b"data: [DONE]\n\n", b"null", b'"', b"retry: 1\n", b"\x00",
)  # fmt: skip


def damaged(rng: Random, document: Any) -> Any:
    """A copy of a JSON document with a few of its places changed: replaced, left out, doubled, nested, exchanged."""
    copy = deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(copy))
        if not places:
            return deepcopy(rng.choice(_STRANGE))
        holder, key = rng.choice(places)
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = [holder[key]]
            case 2:
                other, other_key = rng.choice(places)
                holder[key] = deepcopy(other[other_key])
            case 3 if isinstance(holder, dict):
                holder[rng.choice(("type", "role", "x", "content", "error", "index"))] = deepcopy(rng.choice(_STRANGE))
            case _:
                holder[key] = deepcopy(rng.choice(_STRANGE))
    return copy


def _places(value: Any) -> Any:
    """Every place in a document that holds something."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def encoded(document: Any) -> bytes:
    """JSON as bytes, with lone surrogates as a careless program would write them."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def torn(rng: Random, body: bytes) -> bytes:
    """The bytes with something cut out, put in or turned."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(body))
        end = min(len(body), start + rng.choice((0, 0, 1, 2, 9, 200)))
        body = body[:start] + rng.choice(_BYTES) + body[end:]
    return body


def pieces(rng: Random, body: bytes) -> list[bytes]:
    """The same bytes as they may come over a line."""
    cut: list[bytes] = []
    while body:
        size = rng.choice((1, 1, 2, 3, 7, 50, 1000))
        cut.append(body[:size])
        body = body[size:]
    return cut
