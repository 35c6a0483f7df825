"""What is written in one turn of the loop leaves together, and a client that leaves is noticed in either way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Message

from noa.server.connection import MOST_HELD_BYTES, CoalescingTransport
from noa.server.exchange import Exchange


class Wire(asyncio.Transport):
    """Notes what it is told, a call at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.calls.append(b"".join(list_of_data))

    def close(self) -> None:
        self.calls.append("closed")

    def abort(self) -> None:
        self.calls.append("aborted")

    def get_write_buffer_size(self) -> int:
        return 0


async def test_what_is_written_in_a_turn_leaves_together_and_in_order() -> None:
    wire = Wire()
    transport = CoalescingTransport(wire)
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.calls == []
    assert transport.get_write_buffer_size() == 9
    await asyncio.sleep(0)
    assert wire.calls == [b"head body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.calls == [b"head body", b"more"]
    assert transport.get_write_buffer_size() == 0


async def test_much_is_not_held_back() -> None:
    wire = Wire()
    transport = CoalescingTransport(wire)
    transport.write(b"x" * (MOST_HELD_BYTES - 1))
    assert wire.calls == []
    transport.write(b"yz")
    assert wire.calls == [b"x" * (MOST_HELD_BYTES - 1) + b"yz"]
    await asyncio.sleep(0)
    assert len(wire.calls) == 1


async def test_closing_sends_first_and_aborting_does_not() -> None:
    closed, aborted = Wire(), Wire()
    transport = CoalescingTransport(closed)
    transport.write(b"last words")
    transport.close()
    transport = CoalescingTransport(aborted)
    transport.write(b"last words")
    transport.abort()
    await asyncio.sleep(0)
    assert closed.calls == [b"last words", "closed"]
    assert aborted.calls == ["aborted"]


async def test_behind_another_server_the_message_of_a_client_that_left_ends_the_work() -> None:
    left = asyncio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        raise AssertionError("nobody is there to be answered")

    exchange = Exchange({"type": "http", "headers": []}, "/", receive, send, 1024)
    watch = exchange.while_connected()
    async with asyncio.timeout(10), watch:
        left.set()
        await asyncio.Event().wait()
    assert watch.gone
