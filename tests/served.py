"""Noa's own server on a loopback port, in the test's event loop.

async with manager_of(FakeProvider()) as manager, serving(manager) as server:
    answer = await server.get("/api/v1/models")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from starlette.types import ASGIApp

from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.providers.factory import ProviderFactory
from noa.providers.fake import FakeProvider
from noa.runtime.fake import FakeRuntime
from noa.server.app import create_app
from noa.server.http_server import GRACE_S, HttpServer, bind, port_of


class Answer(msgspec.Struct, frozen=True):
    """An answer that has arrived."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Served:
    """A client of the server that runs; ``session`` is for what streams, ``stop`` tells the server to end."""

    def __init__(self, url: str, session: aiohttp.ClientSession, server: HttpServer) -> None:
        self.url = url
        self.session = session
        self._server = server

    def stop(self) -> None:
        self._server.should_exit = True

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        given = {"Content-Type": "application/json", **(headers or {})}
        async with self.session.request(method, self.url + path, data=data, headers=given) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("POST", path, body, headers)


@asynccontextmanager
async def manager_of(
    *providers: FakeProvider, runtime: FakeRuntime | None = None, **settings: Any
) -> AsyncIterator[ModelManager]:
    """A running manager over providers that need no network."""
    factory = ProviderFactory()
    for provider in providers:
        factory.register(provider.name, partial(_given, provider))
    settings.setdefault("home", Path("/nowhere"))
    settings.setdefault(
        "providers", tuple(ProviderConfig(type=provider.name, api_key=Secret("unused")) for provider in providers)
    )
    configuration = Configuration(**settings)
    async with ModelManager(factory, configuration, runtime=runtime or FakeRuntime()) as manager:
        yield manager


def _given(provider: FakeProvider, _: ProviderConfig) -> FakeProvider:
    return provider


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for something that the test can only look at."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    manager: ModelManager, within: ASGIApp | None = None, grace_s: int = GRACE_S, **options: Any
) -> AsyncIterator[Served]:
    """The server over a running manager; ``options`` are those of ``create_app``. ``within`` is what runs instead."""
    sockets = bind("127.0.0.1", 0)
    app = create_app(manager, **options)
    server = HttpServer(within or app, on_stop=app.end_streams, grace_s=grace_s)
    running = asyncio.create_task(server.serve(sockets))
    url = f"http://127.0.0.1:{port_of(sockets)}"
    try:
        await server.listening.wait()
        async with aiohttp.ClientSession() as session:
            yield Served(url, session, server)
    finally:
        server.should_exit = True
        await running
