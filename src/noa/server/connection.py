"""A client's connection, as uvicorn's protocol has it: written to as seldom as can be, and it tells when it is lost.

uvicorn writes the head of an answer and its body each by itself, and a stream every piece. Each of these is a system
call that wakes whoever reads it, and they cost more than all else that is done for an answer here
(``docs/benchmarks.md``, “The hot path”). So does a task that waits for every client to leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: From this many bytes on nothing is held back, so that a slow reader is noticed as soon as without this.
MOST_HELD_BYTES: Final = 64 * 1024

#: Where a request finds its connection, if it came by one of ours.
CONNECTION: Final = "noa.connection"

Data = bytes | bytearray | memoryview


class CoalescingTransport(asyncio.Transport):
    """A transport that holds what is written until the turn is over. Closing writes it first."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[Data] = []
        self._held_bytes = 0

    def write(self, data: Data) -> None:
        """Have these bytes sent, with whatever else is written in this turn."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= MOST_HELD_BYTES:
            self._send()

    def _send(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if len(held) == 1:
            self._transport.write(held[0])
        elif held:
            self._transport.writelines(held)

    def close(self) -> None:
        """Close once everything is sent."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._held.clear()
        self._held_bytes = 0
        self._transport.abort()

    # All else is the transport's own business.

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether it is being read."""
        return self._transport.is_reading()

    def get_write_buffer_size(self) -> int:
        """How many bytes are not sent yet."""
        return self._held_bytes + self._transport.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whose the connection is."""
        return self._transport.get_protocol()


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP over such a transport. Its requests find it in their scope, under ``CONNECTION``.

    ``on_lost`` is called when the client leaves; whoever works for it puts there what ends the work.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has come."""
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None
        super().connection_made(CoalescingTransport(transport))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]  # ASGI leaves such keys to extensions

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self.is_lost = True
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Have this called when the client leaves. Its request was read whole, so nothing else keeps us reading."""
        self.on_lost = on_lost
        self.flow.resume_reading()
        if self.is_lost:
            on_lost()
