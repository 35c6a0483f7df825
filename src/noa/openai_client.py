"""OpenAI's own client, pointed at models of this process: no server, no socket, no key.

The package ``openai`` is needed by nothing else here, so it is imported when a client is asked for. Requests go as
those of the server do: bytes pass through where the provider speaks this dialect, and failover, leases and
measurement are Noa's own. What is not about chats, completions or embeddings is answered with 404.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from noa.attempt import Attempt
from noa.dialects import openai, sse
from noa.dialects.envelope import Peek, peek
from noa.errors import AIProviderError, ConfigurationError, RouteNotFoundError, UnsupportedError
from noa.inference import Serving
from noa.providers.protocol import Dialect
from noa.selection.needs import needs_of, needs_of_chat
from noa.selection.wish import Wish

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

T = TypeVar("T")

#: Admits a request: the name it gives, the operation, whether it streams, and what it needs of a model.
Admission = Callable[[str | None, str, bool, Callable[[], Wish]], Serving]

_OPERATIONS: Final = {"/chat/completions": "chat", "/completions": "completion", "/embeddings": "embeddings"}
#: Nobody is ever asked there (RFC 6761); the client wants an address.
_ADDRESS: Final = "http://noa.invalid/v1"
#: How many pieces of an answer may have come before the client took any.
_AHEAD: Final = 8


class Waiting(Protocol):
    """Waits for what runs on an event loop elsewhere."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it there and return what it returns."""
        ...

    def iterate(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        """What it yields, one after the other."""
        ...


def async_client(admit: Admission) -> AsyncOpenAI:
    """A client for programs on asyncio. Raises ``ConfigurationError`` where the package ``openai`` is missing."""
    package = _package()
    http: Any = _http_library(package)
    calls = Calls(admit)

    class Body(http.AsyncByteStream):  # type: ignore[misc]  # of the HTTP library that the client uses, httpx or httpx2
        def __init__(self, answer: Answer) -> None:
            self._answer = answer

        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            async with aclosing(self._answer.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk

        async def aclose(self) -> None:
            await self._answer.aclose()

    class Transport(http.AsyncBaseTransport):  # type: ignore[misc]  # likewise
        async def handle_async_request(self, request: Any) -> Any:
            answer = await calls.answer(request.method, request.url.path, await request.aread())
            return http.Response(answer.status, headers=answer.headers, stream=Body(answer))

    transport = http.AsyncClient(transport=Transport())
    client: AsyncOpenAI = package.AsyncOpenAI(api_key="unused", base_url=_ADDRESS, max_retries=0, http_client=transport)
    return client


def blocking_client(admit: Admission, thread: Waiting) -> OpenAI:
    """The same for programs without asyncio."""
    package = _package()
    http: Any = _http_library(package)
    calls = Calls(admit)

    class Body(http.SyncByteStream):  # type: ignore[misc]  # as above
        def __init__(self, answer: Answer) -> None:
            self._answer = answer

        def __iter__(self) -> Iterator[bytes]:
            return thread.iterate(self._answer.chunks())

        def close(self) -> None:
            thread.run(self._answer.aclose())

    class Transport(http.BaseTransport):  # type: ignore[misc]  # as above
        def handle_request(self, request: Any) -> Any:
            answer = thread.run(calls.answer(request.method, request.url.path, request.read()))
            return http.Response(answer.status, headers=answer.headers, stream=Body(answer))

    transport = http.Client(transport=Transport())
    client: OpenAI = package.OpenAI(api_key="unused", base_url=_ADDRESS, max_retries=0, http_client=transport)
    return client


def _package() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError:
        raise ConfigurationError("OpenAI's client is not installed: pip install openai") from None


def _http_library(package: Any) -> Any:
    """The HTTP library that the client uses: httpx, or httpx2 since its third version."""
    return importlib.import_module(package.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])


class Answer:
    """An answer on its way. ``aclose`` ends the work for it, wherever that stands."""

    def __init__(self, first: bytes | AIProviderError | None, rest: Pieces, work: asyncio.Task[None] | None) -> None:
        self.status, self._first = 200, first
        if isinstance(first, AIProviderError):
            self.status, self._first = openai.encode_error(first)
        self.headers = {"content-type": rest.content_type if self.status == 200 else "application/json"}
        self._rest = rest
        self._work = work

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its body."""
        piece = self._first
        while piece is not None:
            if isinstance(piece, AIProviderError):
                yield sse.encode(openai.encode_error(piece)[1])
                return
            yield piece
            piece = await self._rest.next() if self._work is not None else None

    async def aclose(self) -> None:
        """Let go of everything. Twice does nothing more."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)


class Pieces:
    """What has come of an answer and was not taken yet: bytes, what broke it off, and ``None`` at its end."""

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type
        self.begun = False
        self._queue: asyncio.Queue[bytes | AIProviderError | None] = asyncio.Queue(_AHEAD)

    async def put(self, piece: bytes | AIProviderError | None) -> None:
        """One more. Waits while nobody takes them."""
        self.begun = self.begun or isinstance(piece, bytes)
        await self._queue.put(piece)

    async def next(self) -> bytes | AIProviderError | None:
        """The next one, when it has come."""
        return await self._queue.get()


class Calls:
    """Answers the requests of a client."""

    def __init__(self, admit: Admission) -> None:
        self._admit = admit

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer, once its first piece is there: whatever fails before that is a proper status."""
        pieces = Pieces("application/json")
        route = path.removeprefix("/v1")
        try:
            if method != "POST" or route not in _OPERATIONS:
                raise RouteNotFoundError(
                    f"Within a program there is no {method} {path}, only {', '.join(_OPERATIONS)}; the server has more."
                )
            envelope = peek(body)
        except AIProviderError as error:
            return Answer(error, pieces, None)
        if envelope.stream:
            pieces.content_type = "text/event-stream"
        work = asyncio.ensure_future(self._work(route, body, envelope, pieces))
        try:
            first = await pieces.next()
        except BaseException:
            work.cancel()
            raise
        return Answer(first, pieces, work)

    async def _work(self, route: str, body: bytes, envelope: Peek, pieces: Pieces) -> None:
        operation = _OPERATIONS[route]
        try:
            serving = self._admit(envelope.model, operation, envelope.stream, partial(_needs, operation, body))
            async with serving:
                await serving.carry(partial(_serve, route, body, envelope, pieces), bound=lambda: pieces.begun)
        except AIProviderError as error:
            await pieces.put(error)
        except Exception:  # The client must hear of it, and whoever runs this must see it.
            await pieces.put(AIProviderError("Something went wrong inside Noa."))
            raise
        await pieces.put(None)


def _needs(operation: str, body: bytes) -> Wish:
    if operation == "chat":
        return needs_of_chat(openai.decode_request(body).request)
    return needs_of(operation, characters=len(body))


async def _serve(route: str, body: bytes, envelope: Peek, pieces: Pieces, attempt: Attempt) -> None:
    if not attempt.speaks(Dialect.OPENAI):
        await _translate(route, body, envelope, pieces, attempt)
        return
    answer = await attempt.open(Dialect.OPENAI, route, body, stream=envelope.stream, forces_tool=envelope.forces_tool)
    async with aclosing(answer.chunks()) as chunks:
        if envelope.stream:
            async for chunk in chunks:
                await pieces.put(chunk)
        else:
            await pieces.put(b"".join([chunk async for chunk in chunks]))


async def _translate(route: str, body: bytes, envelope: Peek, pieces: Pieces, attempt: Attempt) -> None:
    match _OPERATIONS[route]:
        case "embeddings":
            wanted = openai.decode_embedding_request(body)
            encoding = str(wanted.extra.get("encoding_format") or "float")
            await pieces.put(openai.encode_embedding_reply(await attempt.embed(wanted), encoding_format=encoding))
        case "chat" if envelope.stream:
            decoded = openai.decode_request(body)
            encoder = openai.StreamEncoder(decoded.include_usage)
            async with aclosing(attempt.stream(decoded.request)) as events:
                async for event in events:
                    if written := encoder.encode(event):
                        await pieces.put(written)
            await pieces.put(encoder.close())
        case "chat":
            await pieces.put(openai.encode_reply(await attempt.complete(openai.decode_request(body).request)))
        case _:
            raise UnsupportedError(f"{attempt.key} takes no plain completions; use chat completions.")
