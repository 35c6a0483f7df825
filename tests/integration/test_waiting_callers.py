"""Whoever waits for a model is told: by comments in a stream, by a status where a limit was set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from noa.errors import ModelLoadError
from noa.manager import ModelManager
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from noa.server.relay import HOLD_S
from served import Served, manager_of, serving

KEY = "local:big"
BODY: dict[str, Any] = {"model": KEY, "max_tokens": 9, "messages": [{"role": "user", "content": "one two"}]}
#: The routes that stream, and how an error looks inside each one's stream.
STREAMS = [
    ("/v1/chat/completions", {**BODY, "stream": True}, b'data: {"error":'),
    ("/v1/messages", {**BODY, "stream": True}, b"event: error"),
    ("/api/v1/inference/chat/stream", {"model": KEY, "messages": BODY["messages"]}, b'data: {"error":'),
]


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def manager(runtime: FakeRuntime) -> AsyncIterator[ModelManager]:
    provider = FakeProvider([FakeModel(id="big", owned=True)], name="local")
    async with manager_of(provider, runtime=runtime) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager, hold_s=0.05) as server:
        yield server


async def told_to_wait(response: aiohttp.ClientResponse, times: int = 2) -> None:
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    for _ in range(times):
        assert await response.content.readuntil(b"\n\n") == b": waiting\n\n"


def test_callers_hear_something_within_ten_seconds() -> None:
    assert HOLD_S < 10


@pytest.mark.parametrize(("path", "body", "_error"), STREAMS)
async def test_a_stream_has_comments_while_its_model_loads_and_then_the_answer(
    server: Served, runtime: FakeRuntime, path: str, body: object, _error: bytes
) -> None:
    hold = runtime.hold_start(KEY)
    async with server.session.post(server.url + path, json=body) as response:
        await told_to_wait(response)
        hold.set_result(None)
        rest = await response.read()
    assert b"two" in rest
    assert b"error" not in rest


@pytest.mark.parametrize(("path", "body", "error"), STREAMS)
async def test_a_load_that_fails_after_the_first_comment_ends_the_stream_with_an_error(
    server: Served, runtime: FakeRuntime, manager: ModelManager, path: str, body: object, error: bytes
) -> None:
    hold = runtime.hold_start(KEY)
    async with server.session.post(server.url + path, json=body) as response:
        await told_to_wait(response)
        hold.set_exception(ModelLoadError("big.gguf is corrupt.", provider="local"))
        rest = await response.read()
    assert error in rest
    assert b"big.gguf is corrupt." in rest
    assert b"[DONE]" not in rest
    assert b"message_stop" not in rest
    assert manager.engine.waiting == 0


@pytest.mark.parametrize(("path", "body", "_error"), STREAMS)
async def test_a_load_that_fails_before_the_first_comment_is_a_status(
    server: Served, runtime: FakeRuntime, path: str, body: object, _error: bytes
) -> None:
    runtime.fail(KEY, ModelLoadError("big.gguf is corrupt.", provider="local"))
    answer = await server.post(path, body)
    assert answer.status == 500
    assert b"big.gguf is corrupt." in answer.body


async def test_a_caller_who_does_not_stream_may_limit_its_wait(server: Served, runtime: FakeRuntime) -> None:
    hold = runtime.hold_start(KEY)
    for path in ("/v1/chat/completions", "/v1/messages", "/api/v1/inference/chat"):
        impatient = await server.post(path, BODY if path.startswith("/v1") else STREAMS[2][1], {"x-noa-wait-s": "0.01"})
        assert impatient.status == 503
        assert impatient.headers["retry-after"] == "2"
        assert b"still loading" in impatient.body
    patient = asyncio.create_task(server.post("/v1/chat/completions", BODY, {"x-noa-wait-s": "60"}))
    hold.set_result(None)
    assert (await patient).status == 200
    assert runtime.starts == {KEY: 1}, "a load belongs to nobody's request"


async def test_a_stream_whose_wait_is_over_after_the_first_comment_ends_with_an_error(
    server: Served, runtime: FakeRuntime
) -> None:
    runtime.hold_start(KEY)
    headers = {"x-noa-wait-s": "1"}
    async with server.session.post(
        f"{server.url}/v1/chat/completions", json=STREAMS[0][1], headers=headers
    ) as response:
        await told_to_wait(response, times=1)
        rest = await response.read()
    assert b"still loading" in rest
    assert b"[DONE]" not in rest
