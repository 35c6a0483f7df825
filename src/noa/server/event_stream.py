"""``GET /events``: what happens, as server-sent events that a listener may resume."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from noa.dialects import sse
from noa.errors import ValidationError
from noa.events import Event, EventBus
from noa.manager import ModelManager
from noa.server.live_stream import LiveStreams

#: How many events are kept as they were written.
KEPT_EVENTS: Final = 32


class EventRoute:
    """Tells the manager's events to whoever listens."""

    def __init__(self, manager: ModelManager, streams: LiveStreams) -> None:
        self._manager = manager
        self._streams = streams
        self._latest: dict[int, bytes] = {}

    async def listen(self, request: Request) -> Response:
        """What happens, as it happens; after ``Last-Event-ID`` first what is remembered since."""
        bus = self._manager.events
        after = last_event_id(request.headers.get("last-event-id"), bus)
        return await self._streams.send(request, self._encoded(bus, after))

    async def _encoded(self, bus: EventBus, after: int) -> AsyncGenerator[bytes, None]:
        async for event in bus.listen(after):
            yield self._told(event)

    def _told(self, event: Event) -> bytes:
        """All who listen are told the same, mostly at about the same time, so it is written once for them."""
        told = self._latest.get(event.sequence)
        if told is None:
            told = self._latest[event.sequence] = encode_event(event)
            if len(self._latest) > KEPT_EVENTS:
                del self._latest[next(iter(self._latest))]
        return told


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
