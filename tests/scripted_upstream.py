"""A real HTTP server on loopback that plays OpenAI and Anthropic, well behaved or as badly as a test asks.

    async with ScriptedUpstream() as upstream:
        upstream.script("/v1/chat/completions", Answer(status=429, headers={"retry-after": "7"}))
        …  upstream.url …  upstream.requests[-1].json …  await upstream.gone.wait()

From a shell: ``python tests/scripted_upstream.py --port 8090``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer as it goes over the wire.

    ``chunks`` are sent one by one with ``chunk_delay_s`` between them (as HTTP chunks), ``body`` in one piece with its
    length. ``moments_s`` says instead when each chunk is sent, in seconds since the request came. ``delay_s`` passes
    before the first byte, ``end_delay_s`` between the last chunk and the end. ``go_on`` is waited for after the first
    chunk. How it ends: properly, or after ``chunks`` by saying nothing more (``hang``), by closing in the middle
    (``truncate``), or by a reset (``reset``). ``close`` ends the connection after a proper answer. ``raw`` replaces
    everything that is sent.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Sequence[bytes] | None = None
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    moments_s: Sequence[float] = ()
    end_delay_s: float = 0.0
    go_on: asyncio.Event | None = None
    hang: bool = False
    truncate: bool = False
    reset: bool = False
    close: bool = False
    raw: bytes | None = None


@dataclass(frozen=True)
class Received:
    """A request as it came; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def json_answer(value: object, status: int = 200, **more: Any) -> Answer:
    """An answer with a JSON body."""
    return Answer(status=status, body=json.dumps(value).encode(), **more)


def events_answer(*events: object, event_names: Sequence[str | None] = (), **more: Any) -> Answer:
    """A stream of events, one HTTP chunk each; text goes as it stands, anything else as JSON."""
    names = [*event_names, *([None] * (len(events) - len(event_names)))]
    chunks = []
    for name, event in zip(names, events, strict=True):
        data = event if isinstance(event, str) else json.dumps(event)
        chunks.append((f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode())
    return Answer(content_type=EVENTS, chunks=tuple(chunks), **more)


class ScriptedUpstream:
    """The server. Answers set by ``script`` are used up first, then its good behaviour returns.

    ``models`` are the ids it lists, ``reply`` is what every model says, in ``pieces`` streamed ``chunk_delay_s`` apart.
    ``key`` makes it refuse every other key. ``gone`` is set when a client leaves before its answer is complete.
    """

    def __init__(
        self,
        *,
        models: Sequence[str] = ("gpt-4", "text-embedding-3-small"),
        key: str | None = None,
        reply: str = "Hello there, friend.",
        chunk_delay_s: float = 0.0,
        port: int = 0,
        socket_path: str | None = None,
    ) -> None:
        self.models = tuple(models)
        self.key = key
        self.reply = reply
        self.chunk_delay_s = chunk_delay_s
        self.requests: list[Received] = []
        self.gone = asyncio.Event()
        self.answering = asyncio.Event()
        self.connections = 0
        self.accepted = 0
        self._port = port
        self._socket_path = socket_path
        self._scripts: dict[str, deque[Answer]] = defaultdict(deque)
        self._always: dict[str, Answer] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._socket_path:
            self._server = await loop.create_unix_server(self._connection, self._socket_path)
        else:
            self._server = await loop.create_server(self._connection, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without ``/v1``."""
        return f"http://127.0.0.1:{self._port}"

    def script(self, path: str, *answers: Answer) -> None:
        """Give these answers, in order, to the next requests for ``path``."""
        self._scripts[path].extend(answers)

    def always(self, path: str, answer: Answer) -> None:
        """Give this answer to every request for ``path`` that has no scripted one."""
        self._always[path] = answer

    def _connection(self) -> _Connection:
        reader = asyncio.StreamReader()
        return _Connection(reader, self._serve)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.accepted += 1
        connection = writer.transport.get_protocol()
        assert isinstance(connection, _Connection)
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, writer, connection):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            self.connections -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter, connection: _Connection) -> bool:
        """Send the answer unless the client leaves first; true if the connection goes on."""
        answer = self._choose(request)
        self.answering.set()
        sending = asyncio.ensure_future(_send(answer, writer))
        leaving = asyncio.ensure_future(connection.gone.wait())
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self.gone.set()
                return False
            return sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    def _choose(self, request: Received) -> Answer:
        path = request.path.partition("?")[0]
        if self._scripts[path]:
            return self._scripts[path].popleft()
        if path in self._always:
            return self._always[path]
        if self.key is not None and self.key not in (
            request.headers.get("x-api-key"),
            request.headers.get("authorization", "").removeprefix("Bearer "),
        ):
            message = f"Incorrect API key provided: {request.headers.get('authorization', '')}"
            return json_answer({"error": {"message": message, "type": "invalid_request_error"}}, 401)
        return self._play(request, path.removeprefix("/v1"))

    def _play(self, request: Received, path: str) -> Answer:
        anthropic = "anthropic-version" in request.headers
        if path == "/health":
            return json_answer({"status": "ok"})
        if path == "/models":
            return json_answer({"object": "list", "has_more": False, "data": [_row(i, anthropic) for i in self.models]})
        if path.startswith("/models/"):
            model = unquote(path.removeprefix("/models/"))
            return json_answer(_row(model, anthropic)) if model in self.models else _unknown(model)
        asked = request.json if request.body else {}
        if path in _PLAYS and asked.get("model") not in self.models:
            return _unknown(str(asked.get("model")))
        play = _PLAYS.get(path)
        if play is None:
            return json_answer({"error": {"message": f"no route {path}", "type": "not_found_error"}}, 404)
        return play(self, asked)

    @property
    def pieces(self) -> list[str]:
        """The reply as it is streamed: word by word."""
        words = self.reply.split(" ")
        return [word if index == 0 else f" {word}" for index, word in enumerate(words)]

    def _chat(self, asked: dict[str, Any]) -> Answer:
        usage = _usage(len(self.pieces))
        head = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": asked["model"]}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": self.reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return json_answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        head["object"] = "chat.completion.chunk"
        chunks: list[object] = []
        if asked.get("return_progress"):
            progress = {"total": 9, "cache": 0, "processed": 9, "time_ms": 1}
            chunks.append({**head, "choices": [_delta({"role": "assistant"})], "prompt_progress": progress})
        chunks.append({**head, "choices": [_delta({"role": "assistant", "content": ""})]})
        chunks += [{**head, "choices": [_delta({"content": piece})]} for piece in self.pieces]
        chunks.append({**head, "choices": [_delta({}, "stop")]})
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunks.append({**head, "choices": [], "usage": usage})
        return events_answer(*chunks, "[DONE]", chunk_delay_s=self.chunk_delay_s)

    def _completion(self, asked: dict[str, Any]) -> Answer:
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": asked["model"]}
        if not asked.get("stream"):
            choice = {"index": 0, "text": self.reply, "finish_reason": "stop", "logprobs": None}
            return json_answer({**head, "choices": [choice], "usage": _usage(len(self.pieces))})
        ends = [None] * len(self.pieces) + ["stop"]
        chunks: list[object] = [
            {**head, "choices": [{"index": 0, "text": text, "finish_reason": end}]}
            for text, end in zip([*self.pieces, ""], ends, strict=True)
        ]
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunks.append({**head, "choices": [], "usage": _usage(len(self.pieces))})
        return events_answer(*chunks, "[DONE]", chunk_delay_s=self.chunk_delay_s)

    def _embeddings(self, asked: dict[str, Any]) -> Answer:
        inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0, 0.5]}
            for index, text in enumerate(inputs)
        ]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return json_answer({"object": "list", "data": data, "model": asked["model"], "usage": usage})

    def _message(self, asked: dict[str, Any]) -> Answer:
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None}
        usage = {"input_tokens": 9, "output_tokens": len(self.pieces)}
        if not asked.get("stream"):
            content = [{"type": "text", "text": self.reply}]
            return json_answer({**head, "content": content, "stop_reason": "end_turn", "usage": usage})
        begin = {**head, "content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": begin},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
                for piece in self.pieces
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": len(self.pieces)},
            },
            {"type": "message_stop"},
        ]
        names = [event["type"] for event in events]
        return events_answer(*events, event_names=names, chunk_delay_s=self.chunk_delay_s)

    def _count_tokens(self, asked: dict[str, Any]) -> Answer:
        return json_answer({"input_tokens": 9})


_PLAYS = {
    "/chat/completions": ScriptedUpstream._chat,
    "/completions": ScriptedUpstream._completion,
    "/embeddings": ScriptedUpstream._embeddings,
    "/messages": ScriptedUpstream._message,
    "/messages/count_tokens": ScriptedUpstream._count_tokens,
}


class _Connection(asyncio.StreamReaderProtocol):
    """Knows at once when the client has left, without reading on."""

    def __init__(self, reader: asyncio.StreamReader, serve: Any) -> None:
        super().__init__(reader, serve)
        self.gone = asyncio.Event()

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ", 2)
    fields = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)


async def _send(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    """Write an answer; true if the connection can be used again."""
    await asyncio.sleep(answer.delay_s)
    if answer.raw is not None:
        writer.write(answer.raw)
    else:
        await _send_head_and_body(answer, writer)
    await writer.drain()
    if answer.hang:
        await asyncio.get_running_loop().create_future()
    if answer.reset:
        raw_socket: socket.socket = writer.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return not (answer.truncate or answer.reset or answer.close or answer.raw is not None)


async def _send_head_and_body(answer: Answer, writer: asyncio.StreamWriter) -> None:
    headers = {"content-type": answer.content_type, "x-request-id": "req-1", **answer.headers}
    if answer.chunks is None:
        headers.setdefault("content-length", str(len(answer.body)))
    else:
        headers["transfer-encoding"] = "chunked"
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
    clock = asyncio.get_running_loop().time
    begun = clock()
    for index, chunk in enumerate(answer.chunks or ()):
        await writer.drain()
        if answer.moments_s:
            await asyncio.sleep(begun + answer.moments_s[index] - clock())
        elif index:
            await asyncio.sleep(answer.chunk_delay_s)
        if index and answer.go_on is not None:
            await answer.go_on.wait()
        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    await asyncio.sleep(answer.end_delay_s)
    if answer.chunks is not None and not (answer.hang or answer.truncate or answer.reset):
        writer.write(b"0\r\n\r\n")


def _row(model: str, anthropic: bool) -> dict[str, object]:
    if anthropic:
        return {"type": "model", "id": model, "display_name": model.title(), "created_at": "2025-01-01T00:00:00Z"}
    return {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"}


def _unknown(model: str) -> Answer:
    error = {
        "message": f"The model '{model}' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    return json_answer({"error": error}, 404)


def _usage(completion_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": completion_tokens, "total_tokens": 9 + completion_tokens}


def _delta(delta: dict[str, object], finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Play OpenAI and Anthropic on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", help="refuse every other key")
    parser.add_argument("--model", action="append", dest="models", metavar="ID")
    parser.add_argument("--reply", default="Hello there, friend.")
    parser.add_argument("--chunk-delay", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    upstream = ScriptedUpstream(
        models=options.models or ("gpt-4", "claude-3-5-sonnet-latest", "text-embedding-3-small"),
        key=options.key,
        reply=options.reply,
        chunk_delay_s=options.chunk_delay,
        port=options.port,
    )
    async with upstream:
        print(upstream.url, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
