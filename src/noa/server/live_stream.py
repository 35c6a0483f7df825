"""Streams of server-sent events that go on for as long as somebody listens and there may be news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from noa.dialects import sse
from noa.server.exchange import exchange_of

#: How long the line may be silent, in seconds.
KEEP_ALIVE_S: Final = 15.0
_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class LiveStreams:
    """Sends such streams until their listeners leave, their pieces end, or ``end`` is called."""

    def __init__(self, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._keep_alive_s = keep_alive_s
        self._ending: set[asyncio.Event] = set()

    def end(self) -> None:
        """End every stream: the server is about to."""
        for ending in self._ending:
            ending.set()

    async def send(self, request: Request, pieces: AsyncGenerator[bytes, None]) -> Response:
        """Answer with ``pieces``, encoded events, as they come; with comments while none does."""
        ending = asyncio.Event()
        self._ending.add(ending)
        try:
            async with aclosing(pieces), aclosing(with_pauses(pieces, ending, self._keep_alive_s)) as stream:
                return await self._send(request, stream)
        finally:
            self._ending.discard(ending)

    async def _send(self, request: Request, stream: AsyncGenerator[bytes | None, None]) -> Response:
        exchange = exchange_of(request)
        async with exchange.while_connected():
            await exchange.start(200, "text/event-stream; charset=utf-8", _HEADERS)
            await exchange.write(sse.comment("listening"))
            async for piece in stream:
                await exchange.write(sse.comment("nothing new") if piece is None else piece)
            await exchange.end()
        return AlreadySent()


class AlreadySent(Response):
    """A response for a framework that wants one, when everything was sent already."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def with_pauses(
    pieces: AsyncGenerator[bytes, None], ending: asyncio.Event, pause_s: float
) -> AsyncGenerator[bytes | None, None]:
    """The pieces, and ``None`` after each pause without one; until ``ending`` is set."""
    end = asyncio.ensure_future(ending.wait())
    upcoming = asyncio.ensure_future(anext(pieces, None))
    try:
        while True:
            await asyncio.wait({upcoming, end}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                piece = upcoming.result()
                if piece is None:
                    return
                yield piece
                upcoming = asyncio.ensure_future(anext(pieces, None))
            elif end.done():
                return
            else:
                yield None
    finally:
        upcoming.cancel()
        end.cancel()
        await asyncio.gather(upcoming, end, return_exceptions=True)
