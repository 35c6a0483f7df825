"""``GET /events``: what happens, as server-sent events that a listener may resume."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from noa.dialects import sse
from noa.errors import ValidationError
from noa.events import Event, EventBus
from noa.manager import ModelManager
from noa.server.exchange import exchange_of

#: How long the line may be silent, in seconds.
KEEP_ALIVE_S: Final = 15.0


class EventRoute:
    """Streams the manager's events to whoever listens, until they leave or ``end`` is called."""

    def __init__(self, manager: ModelManager, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._manager = manager
        self._keep_alive_s = keep_alive_s
        self._ending: set[asyncio.Event] = set()

    def end(self) -> None:
        """End every stream: the server is about to."""
        for ending in self._ending:
            ending.set()

    async def listen(self, request: Request) -> Response:
        """What happens, as it happens; after ``Last-Event-ID`` first what is remembered since."""
        bus = self._manager.events
        after = last_event_id(request.headers.get("last-event-id"), bus)
        ending = asyncio.Event()
        self._ending.add(ending)
        try:
            async with aclosing(with_pauses(bus.listen(after), ending, self._keep_alive_s)) as events:
                return await self._send(request, events)
        finally:
            self._ending.discard(ending)

    async def _send(self, request: Request, events: AsyncIterator[Event | None]) -> Response:
        exchange = exchange_of(request)
        headers = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
        async with exchange.while_connected():
            await exchange.start(200, "text/event-stream; charset=utf-8", headers)
            await exchange.write(sse.comment("listening"))
            async for event in events:
                await exchange.write(sse.comment("nothing new") if event is None else encode_event(event))
            await exchange.end()
        return AlreadySent()


class AlreadySent(Response):
    """A response for a framework that wants one, when everything was sent already."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def with_pauses(
    events: AsyncIterator[Event], ending: asyncio.Event, pause_s: float
) -> AsyncGenerator[Event | None, None]:
    """The events, and ``None`` after each pause without one; until ``ending`` is set."""
    end = asyncio.ensure_future(ending.wait())
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            await asyncio.wait({upcoming, end}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                event = upcoming.result()
                if event is None:
                    return
                yield event
                upcoming = asyncio.ensure_future(anext(events, None))
            elif end.done():
                return
            else:
                yield None
    finally:
        upcoming.cancel()
        end.cancel()
        await asyncio.gather(upcoming, end, return_exceptions=True)


def encode_event(event: Event) -> bytes:
    """One event on the wire: its sequence as id, its data with camelCase names."""
    body = {"type": event.type, "sequence": event.sequence, "time": event.time, "data": camel_case(event.data)}
    return sse.encode(msgspec.json.encode(body), event=event.type, id=str(event.sequence))


def camel_case(data: Mapping[str, object]) -> dict[str, Any]:
    """The outermost names in camelCase; values rename their own fields, and what lies deeper may be keys."""
    return {_camel(name): value for name, value in data.items()}


def last_event_id(header: str | None, bus: EventBus) -> int:
    """After which event to go on. An id beyond the newest is a former server's, so everything remembered is new."""
    if header is None or not header.strip():
        return bus.sequence
    if not (header.isascii() and header.isdigit() and len(header) < 19):
        raise ValidationError("Last-Event-ID must be the id of an event, a whole number.")
    return int(header) if int(header) <= bus.sequence else 0


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
