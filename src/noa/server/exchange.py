"""One HTTP exchange, as plain ASGI: the request, what is sent back, and whether the client is still there."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from noa.errors import PayloadTooLargeError, ValidationError
from noa.inference import new_request_id
from noa.server.connection import CONNECTION, Connection
from noa.server.security import OWNER, Caller

#: A request id of the caller's that may stand in logs and headers as it is.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")

#: Where a routed request finds its exchange.
_SCOPE_KEY: Final = "noa.exchange"

RawHeader = tuple[bytes, bytes]


class ClientGoneError(Exception):
    """The client left before its request was complete; there is nobody to answer."""


class Exchange:
    """A request and its answer.

    ``path`` is that below where the application is mounted. ``request_id`` is the caller's, if it is sane, else a new
    one; every answer carries it (in the header of either dialect), and whatever is added to ``answer_headers`` before
    it starts. ``started`` and ``finished`` say how far the answer is. ``caller`` is who asks, once that is known.
    """

    __slots__ = (
        "_receive",
        "_send",
        "answer_headers",
        "caller",
        "finished",
        "headers",
        "max_body_bytes",
        "path",
        "request_id",
        "scope",
        "started",
    )

    def __init__(self, scope: Scope, path: str, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.scope = scope
        self.path = path
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.max_body_bytes = max_body_bytes
        self.request_id = request_id(self.headers.get(b"x-request-id"))
        self.answer_headers: list[RawHeader] = [(b"x-request-id", self.request_id.encode())]
        if self.is_anthropic:
            self.answer_headers.append((b"request-id", self.request_id.encode()))
        self.caller: Caller = OWNER
        self.started = False
        self.finished = False
        self._receive = receive
        self._send = send

    @property
    def is_anthropic(self) -> bool:
        """Whether the caller speaks Anthropic's dialect, by the path or by the header that its clients always send."""
        below = self.path.removeprefix("/v1/messages")
        return below == "" or (below != self.path and below.startswith("/")) or b"anthropic-version" in self.headers

    def header(self, name: bytes) -> str | None:
        """A header of the request (``name`` in lower case)."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def check_length(self) -> None:
        """Refuse a body that announces itself as too large, before reading it."""
        announced = self.headers.get(b"content-length", b"0")
        if not announced.isdigit():
            raise ValidationError("The Content-Length header must be a number.")
        if int(announced) > self.max_body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next message of the request; raises ``PayloadTooLargeError`` where its body outgrows the limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.max_body_bytes -= len(message.get("body", b""))
            if self.max_body_bytes < 0:
                raise self._too_large()
        return message

    async def body(self) -> bytes:
        """The whole body. Raises ``ClientGoneError`` if it ends too early."""
        pieces: list[bytes] = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def replace_body(self, body: bytes, max_body_bytes: int) -> None:
        """Have the request read as if this were its body, within this limit. Its own must have been read."""
        receive, pending = self._receive, [body]

        async def replaced() -> Message:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": False}
            return await receive()

        self._receive = replaced
        self.max_body_bytes = max_body_bytes

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError("The request's body is larger than this server takes (server.maxBodyBytes).")

    # The answer.

    async def send(self, message: Message) -> None:
        """Send a message as it is, with the headers that every answer carries."""
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", ()), *self.answer_headers]}
        elif not message.get("more_body", False):
            self.finished = True
        await self._send(message)

    async def answer(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Iterable[RawHeader] = ()
    ) -> None:
        """Answer at once and whole."""
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, content_type, (length, *headers))
        await self.send({"type": "http.response.body", "body": body})

    async def start(self, status: int, content_type: str, headers: Iterable[RawHeader] = ()) -> None:
        """Send the status line and the headers."""
        fields = [(b"content-type", content_type.encode("latin-1")), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, chunk: bytes) -> None:
        """Send more of the body. Waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        """End the body."""
        await self.send({"type": "http.response.body", "body": b""})

    def scope_for(self, path: str) -> Scope:
        """The scope with which to route the request as one for ``path``."""
        return {**self.scope, "path": path, _SCOPE_KEY: self}

    def while_connected(self) -> ClientWatch:
        """``async with`` this, after the body was read: the work inside is cancelled as soon as the client leaves."""
        return ClientWatch(self)


class ClientWatch:
    """Cancels the work inside when the client leaves, and ends there quietly; ``gone`` says that it happened.

    A connection of ours tells by itself. Behind any other server, a task waits for the message that says so.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.gone = False
        self._exchange = exchange
        self._worker: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._connection: Connection | None = exchange.scope.get(CONNECTION)

    async def __aenter__(self) -> Self:
        self._worker = asyncio.current_task()
        if self._connection is not None:
            self._connection.watch(self._left)
        else:
            self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._worker is not None
        if self._connection is not None:
            self._connection.on_lost = None
        if self._watcher is not None:
            self._watcher.cancel()
        if not self.gone:
            return False
        if not isinstance(error, asyncio.CancelledError):
            # The work ended by itself in the very moment; the cancellation is still to arrive, here.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return self._worker.uncancel() == 0

    async def _watch(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        # After a finished answer the server says “disconnect” too, connected or not.
        if not self._exchange.finished and self._worker is not None:
            self.gone = True
            self._worker.cancel()


def exchange_of(request: Request) -> Exchange:
    """The exchange that a routed request belongs to."""
    exchange = request.scope[_SCOPE_KEY]
    assert isinstance(exchange, Exchange)
    return exchange


def request_id(given: bytes | None) -> str:
    """The caller's id for its request if it is short and harmless, else a new one."""
    text = (given or b"").decode("latin-1")
    return text if _SANE_ID.fullmatch(text) else new_request_id()
