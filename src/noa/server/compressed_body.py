"""The body of a request that was sent compressed, read within a bound: a few KiB may otherwise unfold to GiB."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from noa.errors import PayloadTooLargeError, UnsupportedEncodingError, ValidationError
from noa.server.exchange import Exchange

#: ``zlib``'s words for “with the header of gzip, or of zlib, whichever it has” and “without a header”.
_WITH_HEADER: Final = 32 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_READABLE: Final = frozenset({"gzip", "x-gzip", "deflate"})


async def unfold(exchange: Exchange) -> None:
    """Put what the body means in its place, if it is compressed.

    Raises ``UnsupportedEncodingError`` for what is none of gzip and deflate, ``PayloadTooLargeError`` for what would
    be larger than a body may be, ``ValidationError`` for what is damaged.
    """
    encoding = (exchange.header(b"content-encoding") or "").strip().lower()
    if encoding in ("", "identity"):
        return
    if encoding not in _READABLE:
        raise UnsupportedEncodingError(
            f"The body's Content-Encoding is “{encoding[:80]}”; Noa reads gzip and deflate, or send it as it is."
        )
    limit = exchange.max_body_bytes
    body = await exchange.body()
    exchange.replace_body(await asyncio.to_thread(unfolded, body, limit), limit)


def unfolded(body: bytes, limit: int) -> bytes:
    """What a gzip or deflate body holds, of at most ``limit`` bytes. Blocks for the time that takes."""
    pieces: list[bytes] = []
    left = limit
    while body:
        try:
            stream = zlib.decompressobj(_wrapping(body))
            piece = stream.decompress(body, left + 1)
        except zlib.error:
            raise ValidationError(
                "The body is not what its Content-Encoding says: it cannot be decompressed."
            ) from None
        left -= len(piece)
        if left < 0:
            raise PayloadTooLargeError(
                "The request's body, decompressed, is larger than this server takes (server.maxBodyBytes)."
            )
        if not stream.eof:
            raise ValidationError("The compressed body ends too early.")
        pieces.append(piece)
        body = stream.unused_data  # gzip may have several members, one after the other (RFC 1952, 2.2).
    return b"".join(pieces)


def _wrapping(body: bytes) -> int:
    """Many send “deflate” without the header that RFC 9110 asks for; a zlib header is a multiple of 31 (RFC 1950)."""
    is_gzip = body[:2] == b"\x1f\x8b"
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    return _WITH_HEADER if is_gzip or is_zlib else _RAW
