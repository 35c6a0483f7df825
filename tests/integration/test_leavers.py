"""A caller who leaves, at whatever stage, stops the work that was done for it within a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import pytest

from fleet import ONE, Fleet, fleet_on, two_models
from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import JSON, Answer, ScriptedUpstream, events_answer
from served import Served, serving, until

OPENAI_CHUNK = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
ANTHROPIC_CHUNKS = (
    {"type": "message_start", "message": {"id": "m", "model": "claude-x", "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
)
#: How long an upstream may go on after its caller left, in seconds: what is promised.
PROMISED_S = 1.0
#: How long the engine may take to notice, in seconds: a few of its batches, each of them slow where others compute too.
REACTION_S = 3.0
#: How often that is looked at, in seconds.
STEP_S = 0.01


async def within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds, for so long at most.

    Time counts in steps, so that a machine that holds everything up holds this up too.
    """
    for _ in range(round(seconds / STEP_S)):
        if await holds():
            return
        await asyncio.sleep(STEP_S)
    raise TimeoutError(f"not within {seconds:g} s")


class Way(NamedTuple):
    """A route that callers take, and where it leads: the model, and the upstream's own path."""

    path: str
    model: str
    upstream: str

    @property
    def beginning(self) -> Answer:
        """A stream that has begun and says nothing more."""
        if self.upstream == "/v1/messages":
            names = [str(chunk["type"]) for chunk in ANTHROPIC_CHUNKS]
            return events_answer(*ANTHROPIC_CHUNKS, event_names=names, hang=True)
        return events_answer(OPENAI_CHUNK, hang=True)


WAYS = {
    "OpenAI": Way("/v1/chat/completions", "openai:gpt-4", "/v1/chat/completions"),
    "OpenAI, translated": Way("/v1/messages", "openai:gpt-4", "/v1/chat/completions"),
    "Anthropic": Way("/v1/messages", "claude:claude-x", "/v1/messages"),
    "Anthropic, translated": Way("/v1/chat/completions", "claude:claude-x", "/v1/messages"),
    "management API": Way("/api/v1/inference/chat", "claude:claude-x", "/v1/messages"),
}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("gpt-4", "claude-x")) as upstream:
        yield upstream


@pytest.fixture
async def manager(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[ModelManager]:
    providers = (
        ProviderConfig(type="openai", api_key=Secret("unused"), base_url=f"{upstream.url}/v1"),
        ProviderConfig(type="claude", api_key=Secret("unused"), base_url=upstream.url),
    )
    configuration = Configuration(home=tmp_path, providers=providers)
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager) as server:
        yield server


def body_for(path: str, model: str, content: str = "Say hello.", **more: object) -> dict[str, object]:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": content}]}
    return {**body, **more} if path.startswith("/api") else {**body, "max_tokens": 5, **more}


@asynccontextmanager
async def let_go(upstream: ScriptedUpstream, manager: ModelManager, model: str) -> AsyncIterator[None]:
    """The block ends with the caller's leaving; the upstream is left then, and the model is free."""
    assert not upstream.gone.is_set()
    yield

    async def all_gone() -> bool:
        return upstream.gone.is_set() and not any(active.in_flight for active in manager.loaded_models)

    await within(PROMISED_S, all_gone)
    assert not manager.performance_history(model), "who leaves is no failure of the model"


@pytest.mark.parametrize(
    "silence",
    [Answer(delay_s=60), Answer(body=b'{"id"', content_type=JSON, headers={"content-length": "99"}, hang=True)],
    ids=["before a byte of it", "amid it"],
)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_who_waits_for_a_whole_answer_and_leaves(
    server: Served, manager: ModelManager, upstream: ScriptedUpstream, way: Way, silence: Answer
) -> None:
    await manager.load_model(way.model)
    upstream.script(way.upstream, silence)
    async with let_go(upstream, manager, way.model):
        asking = asyncio.create_task(server.post(way.path, body_for(way.path, way.model)))
        await until(lambda: upstream.requests[-1].path == way.upstream)
        asking.cancel()


async def test_who_leaves_after_a_body_so_long_that_its_reading_paused(
    server: Served, manager: ModelManager, upstream: ScriptedUpstream
) -> None:
    way = WAYS["OpenAI"]
    await manager.load_model(way.model)
    upstream.script(way.upstream, Answer(delay_s=60))
    async with let_go(upstream, manager, way.model):
        asking = asyncio.create_task(server.post(way.path, body_for(way.path, way.model, "y" * 300_000)))
        await until(lambda: upstream.requests[-1].path == way.upstream)
        asking.cancel()


@pytest.mark.parametrize("way", [way for way in WAYS.values() if way.path.startswith("/v1")], ids=lambda way: way.path)
async def test_who_leaves_a_stream_before_its_first_byte(
    server: Served, manager: ModelManager, upstream: ScriptedUpstream, way: Way
) -> None:
    await manager.load_model(way.model)
    upstream.script(way.upstream, Answer(delay_s=60))
    async with let_go(upstream, manager, way.model):
        asking = asyncio.create_task(server.post(way.path, body_for(way.path, way.model, stream=True)))
        await until(lambda: upstream.requests[-1].path == way.upstream)
        asking.cancel()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_who_leaves_amid_a_stream(
    server: Served, manager: ModelManager, upstream: ScriptedUpstream, way: Way
) -> None:
    await manager.load_model(way.model)
    upstream.script(way.upstream, way.beginning)
    streamed = way.path.startswith("/v1")
    path = way.path if streamed else f"{way.path}/stream"
    body = body_for(path, way.model, stream=True) if streamed else body_for(path, way.model)
    async with (
        let_go(upstream, manager, way.model),
        server.session.post(server.url + path, json=body) as response,
    ):
        await response.content.readuntil(b"\n\n")
        response.close()


# The engine itself.


async def busy_slots(engine: psutil.Process) -> int:
    """How many requests the engine works on, in its own words."""
    arguments = engine.cmdline()
    connector = aiohttp.UnixConnector(arguments[arguments.index("--socket") + 1], force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://localhost/slots") as answer:
        return sum(slot["is_processing"] for slot in await answer.json())


async def until_slots(engine: psutil.Process, meets: Callable[[int], bool], within_s: float) -> None:
    async def met() -> bool:
        return meets(await busy_slots(engine))

    await within(within_s, met)


#: Its evaluation takes seconds, and no token is made before it is over.
LONG_PROMPT = "a long story " * 1000
Leave = Callable[[Fleet, psutil.Process, str], Awaitable[None]]


async def leave_while_the_prompt_is_read(fleet: Fleet, engine: psutil.Process, path: str, **more: object) -> None:
    body = body_for(path, ONE, LONG_PROMPT, **more)
    asking = asyncio.create_task(fleet.session.post(fleet.server.url + path, json=body))
    await until_slots(engine, lambda busy: busy == 1, 20)
    assert not asking.done()
    asking.cancel()


async def leave_before_the_first_byte(fleet: Fleet, engine: psutil.Process, path: str) -> None:
    await leave_while_the_prompt_is_read(fleet, engine, path, stream=True)


async def leave_amid_the_stream(fleet: Fleet, engine: psutil.Process, path: str) -> None:
    body = body_for(path, ONE, stream=True, max_tokens=3900, ignore_eos=True)
    async with fleet.session.post(fleet.server.url + path, json=body) as response:
        await response.content.readuntil(b"\n\n")
        await until_slots(engine, lambda busy: busy == 1, 20)
        response.close()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("path", "leave"),
    [
        ("/v1/chat/completions", leave_before_the_first_byte),
        ("/v1/chat/completions", leave_amid_the_stream),
        ("/v1/chat/completions", leave_while_the_prompt_is_read),
        ("/v1/messages", leave_before_the_first_byte),
        ("/v1/messages", leave_while_the_prompt_is_read),
    ],
)
async def test_who_leaves_the_local_engine_leaves_it_idle(
    tmp_path: Path, demo_model: Path, path: str, leave: Leave
) -> None:
    async with fleet_on(two_models(tmp_path, demo_model)) as fleet:
        await fleet.do("load", ONE)
        [engine] = fleet.engines()
        await leave(fleet, engine, path)

        async def let_go_of() -> bool:
            return not (await fleet.loaded())[ONE]["inFlight"]

        await within(PROMISED_S, let_go_of)
        await until_slots(engine, lambda busy: busy == 0, REACTION_S)
