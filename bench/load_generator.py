"""Sends a load, checks every answer and tells how long it took: ``python -m bench.load_generator '<LoadPlan>'``.

It opens its connections, warms up and writes ``ready``; it begins when it reads a line, and writes a ``LoadResult`` as
one line of JSON. Then its connections stay open, idle, until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import httptools
import msgspec
import uvloop

from bench.load_plan import LoadPlan, LoadResult, Spread

_LONGEST_S: Final = 600.0


class _Expected:
    """Whether an answer is right, and what was seen so far."""

    def __init__(self, plan: LoadPlan) -> None:
        self.marker = plan.marker.encode()
        self.markers = plan.markers
        self.ending = plan.ending.encode()

    def complaint(self, status: int, body: bytes) -> str | None:
        """What is wrong with an answer, if anything."""
        found = body.count(self.marker) if self.marker else self.markers
        if status == 200 and found == self.markers and body.rstrip().endswith(self.ending):
            return None
        times = f"“{self.marker.decode()}” {found} times where {self.markers} were expected"
        return f"status {status}, {times}: {body[:300]!r}"


class _Connection(asyncio.Protocol):
    """One kept-alive connection: sends, and tells ``done`` when the answer is whole."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._began_at = 0.0
        self._busy = False
        self.last_event_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, but not the class.

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._busy:
            self._load.fail(f"the connection broke off: {error or 'closed'}")

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, began_at: float) -> None:
        """Send the request; its time counts from ``began_at``."""
        assert self._transport is not None
        self._began_at = began_at
        self.last_event_at = 0.0
        self._busy = True
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        """Called by the parser."""
        self._pieces.append(piece)
        if self._load.streamed and (events := piece.count(self._load.expected.marker)):
            now = time.perf_counter()
            self._load.saw_events(events, now, self._began_at, self.last_event_at)
            self.last_event_at = now

    def on_message_complete(self) -> None:
        """Called by the parser: the answer is whole."""
        self._busy = False
        body = b"".join(self._pieces)
        self._pieces.clear()
        complaint = self._load.expected.complaint(self._parser.get_status_code(), body)
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        if complaint is not None:
            self._load.fail(complaint)
        else:
            self._load.answered(self, time.perf_counter() - self._began_at)


class _Load:
    """The whole of it: who sends when, and what was measured."""

    def __init__(self, plan: LoadPlan) -> None:
        lines = [
            f"POST {plan.path} HTTP/1.1",
            f"Host: 127.0.0.1:{plan.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(plan.body.encode())}",
            *(f"{name}: {value}" for name, value in plan.headers.items()),
        ]
        self.request = "\r\n".join([*lines, "", plan.body]).encode()
        self.expected = _Expected(plan)
        self.streamed = plan.streamed
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._next: Callable[[_Connection], None] = self._stop_after_warm_up
        self._connections: list[_Connection] = []
        self._idle: deque[_Connection] = deque()
        self._late: deque[float] = deque()
        self._wrong: str | None = None
        self._finished = asyncio.Event()
        self._clear()

    def _clear(self) -> None:
        self._sent = self._answered = self._events = 0
        self._latencies: list[float] = []
        self._firsts: list[float] = []
        self._gaps: list[float] = []
        self._end_at = float("inf")

    async def warm_up(self) -> None:
        """Open every connection and send what is not measured."""
        self._connections = [await self._open() for _ in range(self._plan.connections)]
        for each in self._connections:
            each.send(time.perf_counter())
        await self._wait()
        self._next = self._again
        self._clear()

    async def run(self) -> LoadResult:
        """Send the load."""
        self._finished.clear()
        began, cpu_began = time.perf_counter(), time.process_time()
        self._end_at = began + self._plan.seconds
        if self._wrong is None:
            if self._plan.rate:
                await self._send_at_rate(began)
            else:
                for connection in list(self._connections):
                    await self._send_again(connection)
            await self._wait()
        return LoadResult(
            requests=self._answered,
            seconds=time.perf_counter() - began,
            cpu_s=time.process_time() - cpu_began,
            latency=Spread.of(self._latencies),
            events=self._events,
            first=Spread.of(self._firsts),
            gap=Spread.of(self._gaps),
            wrong=self._wrong,
        )

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_S):
                await self._finished.wait()
        except TimeoutError:
            self._wrong = self._wrong or f"no end within {_LONGEST_S:.0f} s"

    async def _open(self) -> _Connection:
        _, connection = await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._plan.port)
        return connection

    # What connections tell.

    def fail(self, complaint: str) -> None:
        """An answer was wrong: nothing that was measured counts."""
        self._wrong = self._wrong or complaint
        self._finished.set()

    def saw_events(self, count: int, now: float, began_at: float, last_at: float) -> None:
        """Some events have come together. The first has no gap; those that came with another have one of nothing."""
        self._events += count
        if last_at:
            self._gaps.append(now - last_at)
        else:
            self._firsts.append(now - began_at)
        self._gaps.extend([0.0] * (count - 1))

    def answered(self, connection: _Connection, seconds: float) -> None:
        """An answer was right."""
        self._answered += 1
        self._latencies.append(seconds)
        self._next(connection)

    # Who sends next.

    def _stop_after_warm_up(self, connection: _Connection) -> None:
        if self._answered >= max(self._plan.warm_up, len(self._connections)):
            self._finished.set()
        elif self._sent < self._plan.warm_up - len(self._connections):
            self._sent += 1
            self._loop.create_task(self._send(connection))

    def _again(self, connection: _Connection) -> None:
        if self._plan.rate:
            if self._late:
                self._sent += 1
                connection.send(self._late.popleft())
            else:
                self._idle.append(connection)
            if time.perf_counter() >= self._end_at and self._answered == self._sent and not self._late:
                self._finished.set()
            return
        if time.perf_counter() >= self._end_at and self._sent >= self._plan.requests:
            if self._answered == self._sent:
                self._finished.set()
        elif connection.is_open:
            self._sent += 1
            connection.send(time.perf_counter())
        else:
            self._loop.create_task(self._send_again(connection))

    async def _send_again(self, connection: _Connection) -> None:
        self._sent += 1
        await self._send(connection)

    async def _send(self, connection: _Connection) -> None:
        if not connection.is_open:
            connection = await self._open()
        connection.send(time.perf_counter())

    async def _send_at_rate(self, began: float) -> None:
        """Send at fixed moments, whatever becomes of what was sent before; a late one counts from its moment."""
        self._idle.extend(self._connections)
        for index in range(int(self._plan.rate * self._plan.seconds)):
            due = began + index / self._plan.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self._finished.is_set():
                return
            if self._idle:
                self._sent += 1
                connection = self._idle.popleft()
                if not connection.is_open:
                    connection = await self._open()
                connection.send(max(due, time.perf_counter()))
            else:
                self._late.append(due)
        self._end_at = time.perf_counter()
        if self._answered == self._sent and not self._late:
            self._finished.set()


async def _main(plan: LoadPlan) -> None:
    load = _Load(plan)
    loop = asyncio.get_running_loop()
    await load.warm_up()
    _tell("ready")
    await loop.run_in_executor(None, sys.stdin.readline)
    _tell(msgspec.json.encode(await load.run()).decode())
    await loop.run_in_executor(None, sys.stdin.read)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main(msgspec.json.decode(sys.argv[1], type=LoadPlan)))
