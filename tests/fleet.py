"""A server process with two real local models, ``ONE`` and ``TWO``, and its management API.

async with fleet_on(machine) as fleet:
    await fleet.do("switch", TWO)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import psutil

from machine import Machine, Server, alive

ONE, TWO = "llama.cpp:one", "llama.cpp:two"
#: Of every line of ``/events`` that holds one.
DATA = b"data: "


class Happened(msgspec.Struct):
    """An event as it came over the line."""

    type: str
    data: dict[str, Any]


class Events:
    """What has happened since somebody began to listen."""

    def __init__(self) -> None:
        self.seen: list[Happened] = []
        self._news = asyncio.Condition()

    def of(self, event_type: str, **data: object) -> list[Happened]:
        """The events of this type whose data holds this."""
        return [event for event in self.seen if event.type == event_type and data.items() <= event.data.items()]

    async def next(self, event_type: str, **data: object) -> None:
        """Wait for one more of them."""
        before = len(self.of(event_type, **data))
        async with self._news, asyncio.timeout(60):
            await self._news.wait_for(lambda: len(self.of(event_type, **data)) > before)

    async def until(self, event_type: str, times: int, **data: object) -> None:
        """Wait until there are that many of them."""
        async with self._news, asyncio.timeout(60):
            await self._news.wait_for(lambda: len(self.of(event_type, **data)) >= times)

    async def take_in(self, event: Happened) -> None:
        """Note one."""
        async with self._news:
            self.seen.append(event)
            self._news.notify_all()


class Fleet(NamedTuple):
    """The server, and somebody who manages it."""

    server: Server
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Ask the management API; its status and its JSON."""
        async with self.session.request(method, f"{self.server.url}/api/v1{path}", json=body) as answer:
            return answer.status, await answer.json()

    async def do(self, action: str, key: str, **more: object) -> None:
        """``load``, ``unload`` or ``switch``; it must succeed."""
        status, answer = await self.ask("POST", f"/models/{action}", {"key": key, **more})
        assert status == 200, answer

    async def current(self) -> str | None:
        """The model in use, if it is loaded."""
        _, answer = await self.ask("GET", "/models/current")
        return None if answer["model"] is None else str(answer["model"]["key"])

    async def loaded(self) -> dict[str, dict[str, Any]]:
        """The loaded models by key."""
        _, answer = await self.ask("GET", "/models/loaded")
        return {model["key"]: model for model in answer["models"]}

    async def pids(self) -> dict[str, int]:
        """The processes of the loaded models."""
        return {key: model["pid"] for key, model in (await self.loaded()).items()}

    def engines(self) -> list[psutil.Process]:
        """The engine processes that live; one that is about to be reaped holds nothing."""
        return [engine for engine in self.server.engines() if alive(engine)]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Events]:
        """What happens while the block runs."""
        events = Events()
        async with self.session.get(f"{self.server.url}/api/v1/events") as line:
            await line.content.readuntil(b"\n\n")
            reading = asyncio.create_task(_read(line, events))
            try:
                yield events
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def _read(line: aiohttp.ClientResponse, events: Events) -> None:
    async for piece in line.content:
        if piece.startswith(DATA):
            await events.take_in(msgspec.json.decode(piece.removeprefix(DATA), type=Happened))


def two_models(folder: Path, demo_model: Path, settings: str = "", **variables: str) -> Machine:
    """A machine whose model folder holds ``ONE`` and ``TWO``; ``settings`` are its noa.yaml."""
    machine = Machine.at(folder, **variables)
    for key in (ONE, TWO):
        (machine.models / f"{key.partition(':')[2]}.gguf").hardlink_to(demo_model)
    (folder / "noa.yaml").write_text(settings)
    return machine


@asynccontextmanager
async def fleet_on(machine: Machine) -> AsyncIterator[Fleet]:
    """A server that runs until the block ends, and then stops cleanly, unless it was killed: no engine is left."""
    engines: list[psutil.Process] = []
    with machine.serving("serve") as server:
        connector = aiohttp.TCPConnector(limit=0)  # Or else only a hundred would ask at once, and the rest wait here.
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
            fleet = Fleet(server, session)
            yield fleet
            if server.process.poll() is None:
                engines = fleet.engines()
    assert not any(alive(engine) for engine in engines)
