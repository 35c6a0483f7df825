"""Asking a freshly started engine who it is, and for one token.

A process that listens is not yet the model: another server may hold the socket, and a GPU may be dead while the health
route is fine. So an engine counts as loaded when it reports our file, name and slots, and has answered once.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec

from noa.errors import ModelLoadError
from noa.models import Endpoint
from noa.runtime.protocol import EngineSpec

#: The engine's own routes stand above those of the dialects; over a socket the host is only a word.
_ROOT = "http://localhost"
_POLL_S = 0.05
_PROMPT = "Hello"

Answer = TypeVar("Answer")


class _Props(msgspec.Struct):
    model_path: str
    model_alias: str
    total_slots: int


class _Completion(msgspec.Struct):
    content: str


class _Embedding(msgspec.Struct):
    embedding: list[object]


class Probe:
    """A client of one engine for the time of its start. ``stall_s`` is how long it may be silent, in seconds."""

    def __init__(self, endpoint: Endpoint, spec: EngineSpec, stall_s: float) -> None:
        if endpoint.socket_path is None:
            raise ValueError("an owned engine listens on a Unix socket")
        self._spec = spec
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=endpoint.socket_path, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=stall_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def until_healthy(self) -> None:
        """Return when the engine says that it has loaded. For engines that do not report on the pipe."""
        while True:
            try:
                async with self._session.get(f"{_ROOT}/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass  # It does not listen yet; whether it still lives is watched elsewhere.
            await asyncio.sleep(_POLL_S)

    async def verify(self) -> None:
        """Have it identify itself and answer once, both at the same time since the start of a model waits for it.

        That it is another engine is told before that it does not answer.
        """
        answering = asyncio.ensure_future(self.answer_once())
        try:
            await self.identify()
            await answering
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def identify(self) -> None:
        """Raise ``ModelLoadError`` unless the engine reports the file, the name and the slots it was started with."""
        async with self._session.get(f"{_ROOT}/props") as response:
            props = self._read(response.status, await response.read(), _Props)
        spec = self._spec
        expected = _Props(os.path.abspath(spec.path), spec.alias, spec.slots)  # noqa: PTH100  # As in the command.
        for field in _Props.__struct_fields__:
            if (said := getattr(props, field)) != (meant := getattr(expected, field)):
                raise ModelLoadError(
                    f"{spec.key} could not be loaded: what answers on its socket is another engine"
                    f" ({field} is {said!r} instead of {meant!r}); load the model again."
                )

    async def answer_once(self) -> None:
        """Have it generate one token, or embed one word. Raises ``ModelLoadError`` with what it said instead."""
        if self._spec.embedding:
            async with self._session.post(f"{_ROOT}/embeddings", json={"content": _PROMPT}) as response:
                self._read(response.status, await response.read(), list[_Embedding])
            return
        body = {"prompt": _PROMPT, "n_predict": 1, "cache_prompt": False}
        async with self._session.post(f"{_ROOT}/completion", json=body) as response:
            self._read(response.status, await response.read(), _Completion)

    def _read(self, status: int, body: bytes, kind: type[Answer]) -> Answer:
        try:
            if status == 200:
                return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError:
            pass
        said = body[:300].decode(errors="replace")
        raise ModelLoadError(
            f"{self._spec.key} could not be loaded: the engine started but answered its first request with"
            f" status {status}: {said}; see the model's log."
        )
