"""A real server on the loopback that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Received(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class ScriptedServer:
    """Serves in a thread of its own, so that code which runs its own event loop can be its client."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self._answers: dict[tuple[str, str], Handler] = {}
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    def answer(self, method: str, path: str, body: object, *, status: int = 200, **headers: str) -> None:
        """Answer with JSON. Names in ``headers`` have underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(_: web.BaseRequest) -> web.StreamResponse:
            encoded = msgspec.json.encode(body)
            return web.Response(body=encoded, status=status, content_type="application/json", headers=named)

        self.handle(method, path, handler)

    def refuse(self, method: str, path: str, status: int, code: str, message: str, **fields: object) -> None:
        """Answer with an error in the management API's envelope."""
        self.answer(method, path, {"error": {"message": message, "code": code, **fields}}, status=status)

    def stream(self, method: str, path: str, chunks: Sequence[bytes], *, hold: bool = False) -> None:
        """Answer with an event stream; with ``hold``, leave it open after the last chunk."""

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if hold:
                await self.stopping()
            return response

        self.handle(method, path, handler)

    def handle(self, method: str, path: str, handler: Handler) -> None:
        """Answer as ``handler`` does; it runs on the server's own loop."""
        self._answers[method, path] = handler

    async def stopping(self) -> None:
        """Wait, within a handler, until the server ends: an answer that never comes."""
        await self._stopping.wait()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._dispatch), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        path = request.raw_path.partition("?")[0]
        self.received.append(Received(request.method, path, dict(request.query), dict(request.headers), body))
        handler = self._answers.get((request.method, path))
        if handler is None:
            return web.Response(status=404, text=f"the test scripted no answer for {request.method} {path}")
        return await handler(request)
