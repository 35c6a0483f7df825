"""Inference through the server: bytes as they came, errors in the caller's dialect, and nothing done for nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic import AsyncAnthropic
from openai import APIError, AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError, RateLimitError

from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from scripted_upstream import Answer, ScriptedUpstream, events_answer, json_answer
from served import Served, manager_of, serving, until

MODEL = "openai:gpt-4"
MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]
CHAT = {"model": MODEL, "messages": MESSAGES}
UPSTREAM_CHAT = "/v1/chat/completions"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("gpt-4", "claude-x")) as upstream:
        yield upstream


@pytest.fixture
async def manager(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[ModelManager]:
    providers = (
        ProviderConfig(type="openai", api_key=Secret("sk-canary"), base_url=f"{upstream.url}/v1"),
        ProviderConfig(type="claude", api_key=Secret("sk-canary"), base_url=upstream.url),
    )
    configuration = Configuration(home=tmp_path, providers=providers)
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager, hold_s=0.1) as server:
        yield server


@pytest.fixture
async def sdk(server: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as sdk:
        yield sdk


def last_error(manager: ModelManager) -> Any:
    return manager.performance_history(MODEL)[-1]


# The SDK.


async def test_the_sdk_lists_chats_streams_and_embeds(sdk: AsyncOpenAI, manager: ModelManager) -> None:
    await manager.load_model(MODEL)
    listed = [model.id async for model in sdk.models.list()]
    assert listed[:2] == ["current", MODEL]
    assert (await sdk.models.retrieve(MODEL)).owned_by == "openai"
    assert (await sdk.models.retrieve("current")).id == "current"
    reply = await sdk.chat.completions.create(model="current", messages=MESSAGES)
    assert reply.choices[0].message.content == "Hello there, friend."
    raw = await sdk.chat.completions.with_raw_response.create(model="current", messages=MESSAGES)
    assert raw.headers["x-noa-model"] == MODEL
    stream = await sdk.chat.completions.create(
        model="current", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there, friend."
    assert chunks[-1].usage is not None
    vectors = await sdk.embeddings.create(model=MODEL, input=["a", "bb"])
    assert [vector.embedding[0] for vector in vectors.data] == [1.0, 2.0]
    completion = await sdk.completions.create(model=MODEL, prompt="Say hello.")
    assert completion.choices[0].text == "Hello there, friend."


async def test_a_model_of_another_dialect_answers_all_the_same(sdk: AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(model="claude:claude-x", messages=MESSAGES, max_tokens=9)
    assert reply.choices[0].message.content == "Hello there, friend."
    stream = await sdk.chat.completions.create(model="anthropic/claude-x", messages=MESSAGES, max_tokens=9, stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(texts) == "Hello there, friend."
    with pytest.raises(BadRequestError, match="use chat completions"):
        await sdk.completions.create(model="claude:claude-x", prompt="x")
    with pytest.raises(BadRequestError, match="embeddings"):
        await sdk.embeddings.create(model="claude:claude-x", input="x")


async def test_anthropics_sdk_is_served_too(server: Served) -> None:
    async with AsyncAnthropic(base_url=server.url, api_key="unused", max_retries=0) as sdk:
        for model in ("claude:claude-x", MODEL):
            message = await sdk.messages.create(model=model, max_tokens=9, messages=MESSAGES)
            assert message.content[0].type == "text"
            assert message.content[0].text == "Hello there, friend."
            async with sdk.messages.stream(model=model, max_tokens=9, messages=MESSAGES) as stream:
                assert await stream.get_final_text() == "Hello there, friend."
    wrong = await server.post("/v1/messages", {"model": "nope:x"})
    assert (wrong.status, wrong.json["type"], wrong.error["type"]) == (404, "error", "not_found_error")


async def test_the_sdk_recognises_errors(sdk: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    with pytest.raises(NotFoundError) as unknown:
        await sdk.chat.completions.create(model="openai:gpt-5", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(InternalServerError) as nothing:
        await sdk.chat.completions.create(model="current", messages=MESSAGES)
    assert nothing.value.code == "model_unavailable"
    upstream.script(UPSTREAM_CHAT, Answer(status=429, headers={"retry-after": "700"}))
    with pytest.raises(RateLimitError) as limited:
        await sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert limited.value.response.headers["retry-after"] == "60"


# Bytes.


async def test_a_stream_is_relayed_byte_for_byte(server: Served, upstream: ScriptedUpstream) -> None:
    events = [
        {"choices": [{"index": 0, "delta": {"content": "ä"}}], "odd": [1]},
        {"choices": [{"finish_reason": "stop"}]},
    ]
    scripted = events_answer(*events, "[DONE]")
    upstream.script(UPSTREAM_CHAT, scripted)
    answer = await server.post(
        "/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert answer.body == b"".join(scripted.chunks or ())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-noa-model"] == MODEL
    assert len(answer.headers["x-request-id"]) > 8


async def test_a_whole_answer_and_unknown_fields_pass_untouched(server: Served, upstream: ScriptedUpstream) -> None:
    said = b'{"choices": [ {"message": {"content": "x"}} ],   "novel": 1e2}'
    upstream.script(
        UPSTREAM_CHAT, Answer(body=said, headers={"openai-version": "7", "set-cookie": "a=b", "server": "x"})
    )
    answer = await server.post(
        "/v1/chat/completions", {**CHAT, "brand_new": {"deep": [1]}}, {"Authorization": "Bearer z"}
    )
    assert answer.body == said
    assert answer.headers["openai-version"] == "7"
    assert not {"set-cookie", "server"} & {name.lower() for name in answer.headers}
    received = upstream.requests[-1]
    assert (received.json["model"], received.json["brand_new"]) == ("gpt-4", {"deep": [1]})
    assert received.headers["authorization"] == "Bearer sk-canary"


async def test_the_first_token_comes_before_the_last_is_made(server: Served, upstream: ScriptedUpstream) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "now"}}]}
    upstream.script(UPSTREAM_CHAT, events_answer(chunk, hang=True))
    async with server.session.post(f"{server.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        assert b"now" in await response.content.readuntil(b"\n\n")


# Failures.


async def test_an_upstreams_refusal_passes_unchanged(server: Served, upstream: ScriptedUpstream) -> None:
    refusal = {"error": {"message": "too hot", "type": "invalid_request_error", "param": "temperature", "code": "hot"}}
    for stream in (False, True):
        upstream.script(UPSTREAM_CHAT, json_answer(refusal, 400))
        answer = await server.post("/v1/chat/completions", {**CHAT, "stream": stream})
        assert (answer.status, answer.json) == (400, refusal)
    upstream.script(UPSTREAM_CHAT, json_answer(refusal, 400))
    management = await server.post("/api/v1/inference/chat", {"model": MODEL, "messages": MESSAGES})
    assert (management.status, management.error["code"]) == (400, "VALIDATION_ERROR")
    assert management.error["provider"] == "openai"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("scripted", "status"),
    [
        (json_answer({"error": {"message": "Incorrect API key sk-canary"}}, 401), 502),
        (json_answer({"error": {"message": "forbidden"}}, 403), 502),
        (json_answer({"error": {"message": "oops"}}, 500), 502),
        (Answer(status=200, body=b"<html>", content_type="text/html"), 502),
        (Answer(reset=True, chunks=()), 502),
    ],
)
async def test_failures_before_the_first_byte_are_statuses(
    server: Served, upstream: ScriptedUpstream, scripted: Answer, status: int, stream: bool
) -> None:
    upstream.always(UPSTREAM_CHAT, scripted)
    answer = await server.post("/v1/chat/completions", {**CHAT, "stream": stream})
    assert answer.status == status
    assert answer.error.keys() == {"message", "type", "param", "code"}
    assert b"sk-canary" not in answer.body


@pytest.mark.parametrize("reset", [False, True])
async def test_a_stream_that_breaks_never_ends_clean(
    server: Served, upstream: ScriptedUpstream, sdk: AsyncOpenAI, manager: ModelManager, reset: bool
) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "half"}}]}
    broken = events_answer(chunk, truncate=not reset, reset=reset)
    upstream.script(UPSTREAM_CHAT, broken, broken)
    answer = await server.post("/v1/chat/completions", {**CHAT, "stream": True})
    assert answer.status == 200
    assert b"half" in answer.body
    assert b"[DONE]" not in answer.body
    last = answer.body.decode().strip().split("\n\n")[-1]
    assert msgspec.json.decode(last.removeprefix("data: "))["error"]["message"]
    stream = await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with pytest.raises(APIError):
        _ = [chunk async for chunk in stream]
    assert last_error(manager).success is False


async def test_a_slow_start_is_kept_alive(server: Served, upstream: ScriptedUpstream) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "late"}, "finish_reason": "stop"}]}
    upstream.script(UPSTREAM_CHAT, events_answer(chunk, "[DONE]", delay_s=0.35))
    answer = await server.post("/v1/chat/completions", {**CHAT, "stream": True})
    comments = answer.body.count(b": waiting\n\n")
    assert comments >= 2
    assert answer.body.startswith(b": waiting\n\n")
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_failure_after_the_hold_is_told_in_the_stream(server: Served, upstream: ScriptedUpstream) -> None:
    upstream.script(UPSTREAM_CHAT, json_answer({"error": {"message": "oops"}}, 500, delay_s=0.25))
    answer = await server.post("/v1/chat/completions", {**CHAT, "stream": True})
    assert answer.status == 200
    assert b'data: {"error":' in answer.body
    assert b"[DONE]" not in answer.body


@pytest.mark.parametrize("path", ["/chat/completions", "//v1/chat/completions", "/v1/v1/chat/completions"])
async def test_a_client_with_a_wrong_base_url_is_told_the_right_one(server: Served, path: str) -> None:
    answer = await server.post(path, CHAT)
    assert answer.status == 404
    assert "did you mean /v1/chat/completions?" in answer.error["message"]


async def test_a_slash_too_many_at_the_end_changes_nothing(server: Served) -> None:
    assert (await server.post("/v1/chat/completions/", CHAT)).status == 200
    assert (await server.get("/v1/models/")).json["object"] == "list"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"model": 5}', b'{"stream": "yes"}', b'{"messages": ' + b"[" * 200_000],
)
async def test_nonsense_is_refused_in_the_dialect(server: Served, body: bytes) -> None:
    answer = await server.post("/v1/chat/completions", body)
    assert answer.status == 400 or (body.startswith(b'{"messages"') and answer.status == 503)
    assert answer.error.keys() == {"message", "type", "param", "code"}


async def test_a_caller_may_limit_its_wait() -> None:
    runtime = FakeRuntime()
    provider = FakeProvider([FakeModel(id="big", owned=True)], name="local")
    async with manager_of(provider, runtime=runtime) as manager, serving(manager) as server:
        hold = runtime.hold_start("local:big")
        body = {"model": "local:big", "messages": MESSAGES}
        impatient = await server.post("/v1/chat/completions", body, {"x-noa-wait-s": "0.05"})
        assert (impatient.status, impatient.headers["retry-after"]) == (503, "2")
        assert (await server.post("/v1/chat/completions", body, {"x-noa-wait-s": "soon"})).status == 400
        hold.set_result(None)
        assert (await server.post("/v1/chat/completions", body)).status == 200


# Clients that leave.


async def test_leaving_while_the_model_loads_leaves_the_line() -> None:
    runtime = FakeRuntime()
    provider = FakeProvider([FakeModel(id="big", owned=True)], name="local")
    async with manager_of(provider, runtime=runtime) as manager, serving(manager) as server:
        hold = runtime.hold_start("local:big")
        asking = asyncio.create_task(server.post("/v1/chat/completions", {"model": "local:big", "messages": MESSAGES}))
        await until(lambda: manager.engine.waiting)
        asking.cancel()
        await until(lambda: not manager.engine.waiting, within_s=1)
        hold.set_result(None)
        await until(lambda: manager.loaded_models)
        assert provider.requests["big"] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_before_the_first_byte_closes_the_upstream(
    server: Served, upstream: ScriptedUpstream, stream: bool, manager: ModelManager
) -> None:
    upstream.script(UPSTREAM_CHAT, Answer(delay_s=60))
    asking = asyncio.create_task(server.post("/v1/chat/completions", {**CHAT, "stream": stream}))
    await upstream.answering.wait()
    upstream.answering.clear()
    await until(lambda: any(request.path == UPSTREAM_CHAT for request in upstream.requests))
    asking.cancel()
    async with asyncio.timeout(1):
        await upstream.gone.wait()
    await until(lambda: not manager.loaded_models[0].in_flight)
    assert not manager.performance_history(MODEL), "who leaves is no failure of the model"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/inference/chat/stream"])
async def test_leaving_mid_stream_closes_the_upstream(server: Served, upstream: ScriptedUpstream, path: str) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
    upstream.script(UPSTREAM_CHAT, events_answer(chunk, hang=True))
    body = CHAT if path.startswith("/api") else {**CHAT, "stream": True}
    async with server.session.post(server.url + path, json=body) as response:
        await response.content.readuntil(b"\n\n")
        response.close()
    async with asyncio.timeout(1):
        await upstream.gone.wait()


async def test_a_reader_that_does_not_read_holds_the_upstream_back(server: Served, upstream: ScriptedUpstream) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "x" * 100_000}}]}
    upstream.script(UPSTREAM_CHAT, events_answer(*[chunk] * 400, "[DONE]"))
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(lazy, (host, int(port)))
        body = msgspec.json.encode({**CHAT, "stream": True})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        await loop.sock_sendall(lazy, head.encode() + body)
        await upstream.answering.wait()
        await asyncio.sleep(0.3)
        assert upstream.connections, "the upstream still has to send, since nobody reads"
    async with asyncio.timeout(1):
        await upstream.gone.wait()


async def test_a_model_taken_away_by_force_is_told_in_the_stream(server: Served, upstream: ScriptedUpstream) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
    upstream.script(UPSTREAM_CHAT, events_answer(chunk, hang=True))
    async with server.session.post(f"{server.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        await response.content.readuntil(b"\n\n")
        assert (await server.post("/api/v1/models/unload", {"key": MODEL, "force": True})).status == 200
        rest = await response.read()
    assert b"by force" in rest
    assert b"[DONE]" not in rest


async def test_a_stream_that_the_servers_end_cuts_does_not_end_clean(
    manager: ModelManager, upstream: ScriptedUpstream
) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
    upstream.script(UPSTREAM_CHAT, events_answer(chunk, hang=True))
    async with (
        serving(manager, grace_s=0) as server,
        server.session.post(f"{server.url}/v1/chat/completions", json={**CHAT, "stream": True}) as response,
    ):
        await response.content.readuntil(b"\n\n")
        server.stop()
        rest = await response.read()
    assert b"shutting down" in rest
    assert b"[DONE]" not in rest
    async with asyncio.timeout(1):
        await upstream.gone.wait()


async def test_a_failure_after_pieces_of_a_translated_stream(server: Served, upstream: ScriptedUpstream) -> None:
    begin = {"type": "message_start", "message": {"id": "m", "model": "claude-x", "usage": {"input_tokens": 1}}}
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "half"}}
    wrong = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    names = [begin["type"], piece["type"], wrong["type"]]
    upstream.script("/v1/messages", events_answer(begin, piece, wrong, event_names=[str(name) for name in names]))
    body = {"model": "claude:claude-x", "messages": MESSAGES, "stream": True, "max_tokens": 5}
    answer = await server.post("/v1/chat/completions", body)
    assert b"half" in answer.body
    assert b'data: {"error":' in answer.body
    assert b"[DONE]" not in answer.body


# The real engine.


@pytest.mark.engine
class TestWithTheEngine:
    """A file on disk, served."""

    async def test_the_demo_model_is_loaded_and_answers(self, demo_model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        (folder / "smol.gguf").symlink_to(demo_model)
        configuration = Configuration(home=tmp_path, context_size=512)
        async with ModelManager(configuration=configuration) as manager, serving(manager) as server:
            async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as sdk:
                reply = await sdk.chat.completions.create(
                    model="llama.cpp:smol", messages=MESSAGES, max_tokens=8, temperature=0
                )
                assert reply.choices[0].message.content
                stream = await sdk.chat.completions.create(
                    model="current", messages=MESSAGES, max_tokens=8, temperature=0, stream=True
                )
                assert len([chunk async for chunk in stream]) >= 4
            profiled = await server.post("/api/v1/models/llama.cpp:smol/profile", {"testCount": 1})
            assert profiled.json["metrics"]["tokensPerSecond"] > 0
            logs = await server.get("/api/v1/models/llama.cpp:smol/logs")
            assert logs.json["lines"]
