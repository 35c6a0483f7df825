"""Web applications of other origins that the user lets in: the headers by which a browser hands them our answers.

Off unless ``server.allowedOrigins`` lists some (the protocol is Fetch's CORS: https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from __future__ import annotations

import re
from typing import Final

from noa.server.exchange import Exchange, RawHeader

_METHODS: Final = b"GET, HEAD, POST, PUT, DELETE"
#: What a script may read of our answers beyond what every script may.
_EXPOSED: Final = b"x-request-id, request-id, x-noa-model, x-noa-attempts, retry-after"
_NAMES: Final = re.compile(rb"[A-Za-z0-9_-]+( *, *[A-Za-z0-9_-]+)*")
#: How long a browser may remember the answer to its question, in seconds.
_REMEMBERED_S: Final = b"600"


def admit_origin(exchange: Exchange, origins: frozenset[str]) -> bool:
    """Add what a page of an allowed origin needs to read the answer; say whether the origin is one of those."""
    exchange.answer_headers.append((b"vary", b"Origin"))
    origin = exchange.headers.get(b"origin", b"")
    if origin.decode("latin-1").lower() not in origins:
        return False
    exchange.answer_headers += [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
    ]
    return True


def is_preflight(exchange: Exchange) -> bool:
    """Whether a browser asks if a page may send its request."""
    return exchange.scope["method"] == "OPTIONS" and b"access-control-request-method" in exchange.headers


async def answer_preflight(exchange: Exchange) -> None:
    """Say that it may. No key comes with the question; the request itself has to show it."""
    headers: list[RawHeader] = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _REMEMBERED_S)]
    wanted = exchange.headers.get(b"access-control-request-headers", b"")
    if _NAMES.fullmatch(wanted):
        headers.append((b"access-control-allow-headers", wanted))
    await exchange.answer(204, b"", headers=headers)
