"""The client of the management API, against a real server on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import msgspec
import pytest
from aiohttp import web

from noa import errors
from noa.chat import TextDelta
from noa.cli.connection import phase_of, phases_shown
from noa.client import NoaClient, ServerUnreachableError
from noa.client_answers import ServerEvent
from noa.client_refusal import error_from_answer
from noa.errors import AIProviderError, ModelLoadError, ProviderAuthenticationError, ProviderResponseError
from scripted_server import ScriptedServer

MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AIProviderError)]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[NoaClient]:
    async with NoaClient(f"{server.url}/", "sk-noa-1") as opened:
        yield opened


def envelope(error: AIProviderError) -> bytes:
    problem = {
        "message": error.message,
        "code": error.code,
        "provider": error.provider,
        "retryable": error.retryable,
        "details": error.details,
    }
    return msgspec.json.encode({"error": problem})


@pytest.mark.parametrize("original", CLASSES)
def test_every_error_comes_back_as_what_it_was(original: type[AIProviderError]) -> None:
    provider = "openai" if original is ProviderAuthenticationError else None
    sent = original("No.", provider=provider, retryable=True, details={"line": 7})
    rebuilt = error_from_answer(original.status, envelope(sent), "12")
    assert rebuilt is not None
    # An unsupported request is told from an invalid one by its sentence alone: code and status are the same.
    assert type(rebuilt) is (errors.ValidationError if original is errors.UnsupportedError else original)
    assert (rebuilt.message, rebuilt.provider, rebuilt.retryable) == ("No.", provider, True)
    assert (rebuilt.details, rebuilt.retry_after_s) == ({"line": 7}, 12.0)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail": "Not Found"}', b'{"error": "no"}'])
def test_what_is_no_error_of_noa_is_none(body: bytes) -> None:
    assert error_from_answer(404, body) is None


async def test_a_key_with_any_character_stays_one_path(server: ScriptedServer, client: NoaClient) -> None:
    path = "/api/v1/models/openai:org/a%20b%3Fc%23d%25/capabilities"
    server.answer("GET", path, {"success": True, "key": "x", "capabilities": ["vision"]})
    assert await client.capabilities("openai:org/a b?c#d%") == ("vision",)


async def test_a_connection_that_is_cut_is_said_to_be(server: ScriptedServer, client: NoaClient) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.handle("GET", "/api/v1/models/statistics", handler)
    with pytest.raises(ServerUnreachableError, match="broke off"):
        await client.statistics()


async def test_a_question_is_not_waited_for_without_end_but_a_load_is(server: ScriptedServer) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        await server.stopping()
        return web.Response()

    server.handle("GET", "/api/v1/models/statistics", handler)
    server.handle("POST", "/api/v1/models/load", handler)
    async with NoaClient(server.url, query_timeout_s=0.05) as client:
        load = asyncio.create_task(client.load("x"))
        with pytest.raises(ServerUnreachableError, match="did not answer in time"):
            await client.statistics()
        assert not load.done()
        load.cancel()


async def test_a_chat_streams_until_it_is_whole(server: ScriptedServer, client: NoaClient) -> None:
    head = b'data: {"id":"1","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    server.stream("POST", "/v1/chat/completions", [b": waiting\n\n", head[:40], head[40:], b"data: [DONE]\n\n"])
    pieces = [event async for event in client.chat_stream([{"role": "user", "content": "Hello"}])]
    assert [event.text for event in pieces if isinstance(event, TextDelta)] == ["Hi"]
    assert server.received[0].headers["Authorization"] == "Bearer sk-noa-1"
    server.stream("POST", "/v1/chat/completions", [head])
    with pytest.raises(ProviderResponseError):
        _ = [event async for event in client.chat_stream([{"role": "user", "content": "Hello"}])]


async def test_letting_go_of_a_chat_closes_its_connection(server: ScriptedServer, client: NoaClient) -> None:
    left = asyncio.Event()
    loop = asyncio.get_running_loop()
    head = b'data: {"id":"1","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(head)
        with suppress(ConnectionError):
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.01)
        loop.call_soon_threadsafe(left.set)
        return response

    server.handle("POST", "/v1/chat/completions", handler)
    async with aclosing(client.chat_stream([{"role": "user", "content": "Hello"}])) as stream:
        await anext(stream)
    await left.wait()


def event(sequence: int, kind: str, data: dict[str, object]) -> bytes:
    body = {"type": kind, "sequence": sequence, "time": MOMENT, "data": data}
    return f"event: {kind}\nid: {sequence}\ndata: ".encode() + msgspec.json.encode(body) + b"\n\n"


async def test_events_carry_their_sequence_and_resume_by_it(server: ScriptedServer, client: NoaClient) -> None:
    server.stream("GET", "/api/v1/events", [b": hello\n\n", event(8, "model-loaded", {"key": "openai:x"})])
    happened = [each async for each in client.events(after=7)]
    assert happened == [ServerEvent(type="model-loaded", sequence=8, time=MOMENT, data={"key": "openai:x"})]
    assert server.received[0].headers["Last-Event-ID"] == "7"


async def test_a_load_shows_its_phases_while_it_lasts(
    server: ScriptedServer, client: NoaClient, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = ("starting", "loading", "verifying")
    mine = [event(n, "model-loading", {"key": "llama.cpp:x", "phase": phase}) for n, phase in enumerate(phases)]
    other = event(9, "model-loading", {"key": "llama.cpp:other", "phase": "loading"})
    server.stream("GET", "/api/v1/events", [other, *mine], hold=True)
    shown = ""
    async with phases_shown(client, "x"):
        while "verifying" not in shown:
            shown += capsys.readouterr().err
            await asyncio.sleep(0.01)
    assert shown == "x: starting\nx: loading\nx: verifying\n"


async def test_a_load_that_fails_fails_as_such_without_events(server: ScriptedServer, client: NoaClient) -> None:
    server.refuse("POST", "/api/v1/models/load", 500, "MODEL_LOAD_ERROR", "It is corrupt.", provider="llama.cpp")
    with pytest.raises(ModelLoadError, match="corrupt"):
        async with phases_shown(client, "x"):
            await client.load("x")


@pytest.mark.parametrize(
    ("requested", "shown"),
    [
        ("llama.cpp:a/b", "loading"),
        ("llama.cpp/a/b", "loading"),
        ("a/b", "loading"),
        ("b", None),
        ("openai:a/b", None),
    ],
)
def test_whose_phase_an_event_reports(requested: str, shown: str | None) -> None:
    data = {"key": "llama.cpp:a/b", "phase": "loading"}
    assert phase_of(ServerEvent(type="model-loading", sequence=1, time=MOMENT, data=data), requested) == shown
    assert phase_of(ServerEvent(type="model-loaded", sequence=1, time=MOMENT, data=data), requested) is None


async def test_nobody_listening_is_told_from_everything_else() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with NoaClient(url) as client:
            with pytest.raises(ServerUnreachableError, match="noa serve"):
                await client.health()
