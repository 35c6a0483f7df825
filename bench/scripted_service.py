"""An OpenAI service that costs next to nothing: fixed answers, so that what stands before it is what is measured.

``python -m bench.scripted_service [MODELS]`` listens on a free loopback port, writes that port to standard output and
serves until it is told to end. It lists ``MODELS`` more models than it needs. One whose name has ``paced`` in it
streams 50 events a second, every other as fast as it can, each event in a segment of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final, cast

import httptools
import uvloop

#: What every chat answers, whole or streamed, so that an answer can be checked through any gateway.
MARKER: Final = "lighthouse"
#: The models that it lists and answers for.
CHAT_MODEL: Final = "bench-chat"
PACED_MODEL: Final = "bench-paced"
EMBEDDING_MODEL: Final = "bench-embedding"
#: How many events of a stream hold text.
EVENTS: Final = 200
#: How many inputs a request for embeddings has.
INPUTS: Final = 100
DIMENSIONS: Final = 384
PACE_S: Final = 1 / 50

_USAGE: Final = {"prompt_tokens": 200, "completion_tokens": EVENTS, "total_tokens": 200 + EVENTS}


def _head(content_type: str, length: int | None) -> bytes:
    size = "Transfer-Encoding: chunked\r\nX-Accel-Buffering: no" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{size}\r\n\r\n".encode()


def _whole(body: object) -> bytes:
    encoded = json.dumps(body, separators=(",", ":")).encode()
    return _head("application/json", len(encoded)) + encoded


def _event(data: object) -> bytes:
    text = f"data: {data if isinstance(data, str) else json.dumps(data, separators=(',', ':'))}\n\n".encode()
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


def _chunk(delta: object, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    shared = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": CHAT_MODEL}
    return _event({**shared, "choices": [choice]})


def _chat() -> bytes:
    message = {"role": "assistant", "content": f"{MARKER} " + "x" * 700}
    return _whole(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": CHAT_MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    )


def _embeddings() -> bytes:
    vector = [round((place % 97) / 97 - 0.5, 6) for place in range(DIMENSIONS)]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(INPUTS)]
    usage = {"prompt_tokens": 800, "total_tokens": 800}
    return _whole({"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage})


def _listing(more: int) -> bytes:
    names = (CHAT_MODEL, PACED_MODEL, EMBEDDING_MODEL, *(f"bench-model-{index:06}" for index in range(more)))
    return _whole({"object": "list", "data": [{"id": each, "object": "model"} for each in names]})


_CHAT: Final = _chat()
_EMBEDDINGS: Final = _embeddings()
_USAGE_EVENT: Final = _event(
    {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "model": CHAT_MODEL, "choices": [], "usage": _USAGE}
)
_STREAM: Final = (
    _head("text/event-stream", None) + _chunk({"role": "assistant", "content": ""}),
    *(_chunk({"content": f"{MARKER} {index} "}) for index in range(EVENTS)),
    _chunk({}, "stop"),
)


class _Connection(asyncio.Protocol):
    """One client, served one request after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listing: bytes) -> None:
        self._loop = loop
        self._listing = listing
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, but not the class.

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Called by the parser. The envelope may stand at either end of a large body."""
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        """Called by the parser: answer."""
        assert self._transport is not None
        if self._url.endswith(b"/embeddings"):
            self._transport.write(_EMBEDDINGS)
        elif self._url.endswith(b"/models"):
            self._transport.write(self._listing)
        elif b'"stream":true' in self._body or b'"stream": true' in self._body:
            pace_s = PACE_S if PACED_MODEL.encode() in self._body else 0.0
            wants_usage = b'"include_usage"' in self._body
            self._send(0, pace_s, (*_STREAM, *((_USAGE_EVENT,) if wants_usage else ()), _event("[DONE]")))
        else:
            self._transport.write(_CHAT)

    def _send(self, index: int, pace_s: float, pieces: tuple[bytes, ...]) -> None:
        """Send a piece, and the next one in the next turn of the loop, so that none shares its segment."""
        if self._transport is None:
            return
        self._transport.write(pieces[index])
        if index + 1 == len(pieces):
            self._transport.write(b"0\r\n\r\n")
        elif pace_s:
            self._loop.call_later(pace_s, self._send, index + 1, pace_s, pieces)
        else:
            self._loop.call_soon(self._send, index + 1, pace_s, pieces)


async def _serve(more: int) -> None:
    loop = asyncio.get_running_loop()
    listing = _listing(more)
    server = await loop.create_server(lambda: _Connection(loop, listing), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]) if sys.argv[1:] else 0))
