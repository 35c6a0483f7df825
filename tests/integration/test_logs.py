"""What a model's process says can be read while it loads, while it runs, and when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from noa.client import NoaClient, ServerUnreachableError
from noa.errors import ModelLoadError
from noa.manager import ModelManager
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from served import Served, manager_of, serving, until

KEY = "local:x"
PATH = f"/api/v1/models/{KEY}/logs"


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def manager(runtime: FakeRuntime) -> AsyncIterator[ModelManager]:
    provider = FakeProvider([FakeModel(id="x", owned=True), FakeModel(id="far")], name="local")
    async with manager_of(provider, runtime=runtime) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager, keep_alive_s=0.02) as server:
        yield server


async def test_the_log_of_a_load_that_failed_is_still_there(server: Served, runtime: FakeRuntime) -> None:
    assert (await server.get(PATH)).json == {"success": True, "key": KEY, "lines": []}
    runtime.fail(KEY, ModelLoadError("It is corrupt.", provider="local"))
    await server.post("/api/v1/models/load", {"key": KEY})
    assert (await server.get(PATH)).json["lines"] == ["loading x.gguf"]


async def test_the_log_of_a_process_that_crashed_is_there_until_the_next_one(
    server: Served, runtime: FakeRuntime, manager: ModelManager
) -> None:
    await manager.load_model(KEY)
    runtime.live(KEY)[0].log.feed(b"a\nout of memory\n")
    runtime.live(KEY)[0].crash()
    await until(lambda: not runtime.live(KEY))
    assert manager.logs(KEY) == ("loading x.gguf", "a", "out of memory")
    assert (await server.get(f"{PATH}?tail=1")).json["lines"] == ["out of memory"]
    await manager.unload_model(KEY)
    assert (await server.get(f"{PATH}?tail=2")).json["lines"] == ["a", "out of memory"]
    await manager.load_model(KEY)
    assert (await server.get(PATH)).json["lines"] == ["loading x.gguf"]


async def test_a_log_is_followed_from_the_load_to_the_end_of_the_process(
    server: Served, runtime: FakeRuntime, manager: ModelManager
) -> None:
    hold = runtime.hold_start(KEY)
    loading = asyncio.create_task(manager.load_model(KEY))
    await until(lambda: runtime.live(KEY))
    process = runtime.live(KEY)[0]
    async with NoaClient(server.url) as client, aclosing(client.follow_logs(KEY)) as lines:
        assert await anext(lines) == "loading x.gguf"
        process.log.feed(b"half a li")
        process.log.feed(b"ne\n\n")
        assert [await anext(lines), await anext(lines)] == ["half a line", ""]
        hold.set_result(None)
        await loading
        process.log.feed(b"done\n")
        assert await anext(lines) == "done"
        process.crash()
        assert [line async for line in lines] == []
        assert [line async for line in client.follow_logs(KEY, tail=2)] == ["", "done"]


async def test_a_silent_log_is_kept_alive_and_ends_with_the_server(server: Served, manager: ModelManager) -> None:
    await manager.load_model(KEY)
    async with server.session.get(f"{server.url}{PATH}?follow=true") as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        assert await told.content.readuntil(b": nothing new\n\n")
        server.stop()
        assert b"event: end" not in await told.content.read()
    async with NoaClient(server.url) as client:
        with pytest.raises(ServerUnreachableError):
            await anext(client.follow_logs(KEY))


async def test_a_follower_that_leaves_is_forgotten(server: Served, manager: ModelManager) -> None:
    await manager.load_model(KEY)
    before = len(asyncio.all_tasks())
    async with server.session.get(f"{server.url}{PATH}?follow=true") as told:
        await told.content.readuntil(b"\n\n")
        told.close()
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_model_without_a_process_has_an_empty_log_that_ends(server: Served) -> None:
    async with NoaClient(server.url) as client:
        assert [line async for line in client.follow_logs("local:far")] == []
        assert (await client.logs("local:far")).lines == ()


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [("tail=0", 400, "tail"), ("tail=x", 400, "tail"), ("follow=perhaps", 400, "follow"), ("follow=false", 200, "")],
)
async def test_what_may_be_asked_for(server: Served, query: str, status: int, word: str) -> None:
    answer = await server.get(f"{PATH}?{query}")
    assert answer.status == status
    assert word in answer.body.decode()
    assert (await server.get("/api/v1/models/local:nope/logs?follow=true")).status == 404
