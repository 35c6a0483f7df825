"""What cannot be done changes nothing: the model in use serves on, and the error says which model failed, and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import psutil
import pytest

from fleet import ONE, TWO, Events, Fleet, fleet_on, two_models
from gguf_writer import Fact, write_model
from storm import Storm

pytestmark = pytest.mark.engine

ROOM_FOR_BOTH = {"MODEL_MANAGER_MAX_LOADED": "10"}
ROOM_FOR_ONE = {"MODEL_MANAGER_MAX_LOADED": "1"}
rooms = pytest.mark.parametrize("room", [ROOM_FOR_BOTH, ROOM_FOR_ONE], ids=["room for both", "room for one"])


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return str(msgspec.json.decode(self.body)["error"]["message"])


async def chat(fleet: Fleet, model: str, wait_s: float = 60) -> Reply:
    body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "Say hello."}]}
    url = f"{fleet.server.url}/v1/chat/completions"
    async with fleet.session.post(url, json=body, headers={"x-noa-wait-s": str(wait_s)}) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status, headers, await answer.read())


@asynccontextmanager
async def in_use(fleet: Fleet, model: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream of this model that does not end before the block does."""
    body = {"model": model, "max_tokens": 3900, "ignore_eos": True, "stream": True}
    body["messages"] = [{"role": "user", "content": "Tell me everything."}]
    async with fleet.session.post(f"{fleet.server.url}/v1/chat/completions", json=body) as answer:
        await answer.content.readuntil(b"\n\n")
        yield answer
        answer.close()


# No place.


@pytest.mark.parametrize("why", ["pinned", "busy"])
async def test_who_finds_no_place_waits_and_is_refused(tmp_path: Path, demo_model: Path, why: str) -> None:
    async with fleet_on(two_models(tmp_path, demo_model, **ROOM_FOR_ONE)) as fleet:
        await fleet.do("load", ONE, pin=why == "pinned")
        before = await fleet.pids()
        use: AbstractAsyncContextManager[object] = in_use(fleet, ONE) if why == "busy" else nullcontext()
        async with use:
            began = time.monotonic()
            refused = await chat(fleet, TWO, wait_s=1)
            assert time.monotonic() - began >= 1
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert TWO in refused.message
            assert await fleet.pids() == before
            assert await fleet.current() == ONE
        assert (await chat(fleet, "current")).headers["x-noa-model"] == ONE
        assert await fleet.pids() == before


async def test_who_waits_gets_the_place_once_it_is_free(tmp_path: Path, demo_model: Path) -> None:
    async with fleet_on(two_models(tmp_path, demo_model, **ROOM_FOR_ONE)) as fleet:
        async with in_use(fleet, ONE):
            waiting = asyncio.create_task(chat(fleet, TWO))
            async with asyncio.timeout(20):
                while (await fleet.ask("GET", "/status/health"))[1]["waitingRequests"] == 0:
                    pass
            assert list(await fleet.pids()) == [ONE]
        served = await waiting
        assert (served.status, served.headers["x-noa-model"]) == (200, TWO)
        assert list(await fleet.pids()) == [TWO]


# Switches to what does not load.


@asynccontextmanager
async def unharmed(fleet: Fleet, *, alone: bool) -> AsyncIterator[None]:
    """``ONE`` is current and serves, before, during and after: as the same process, unless it had to make room."""
    await fleet.do("load", ONE)
    before = await fleet.pids()
    async with Storm(fleet.server.url, (ONE,), streaming=2, posting=2) as storm:
        await storm.served(ONE)
        yield
        await storm.served(ONE, 4)
    assert storm.failures == []
    assert storm.refused == 0
    assert await fleet.current() == ONE
    after = await fleet.pids()
    assert list(after) == [ONE]
    assert alone or after == before
    assert len(fleet.engines()) == 1


async def refused_switch(fleet: Fleet) -> str:
    """What is said of the switch to ``TWO``, which must fail."""
    status, answer = await fleet.ask("POST", "/models/switch", {"key": TWO})
    assert (status, answer["error"]["code"]) == (500, "MODEL_LOAD_ERROR")
    message = str(answer["error"]["message"])
    assert TWO in message
    return message


def cut_off(path: Path) -> None:
    """The file ends amid the weights; its header is whole, so that it counts as a model."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def blow_up(path: Path) -> None:
    """The file has 40 GiB of weights, none of which is really written."""
    path.unlink()
    facts: dict[str, Fact] = {
        "context_length": 4096,
        "embedding_length": 1024,
        "block_count": 2,
        "attention.head_count": 8,
    }
    write_model(path, "llama", facts, [("token_embd.weight", (1024, 20 * 1024 * 1024))])


@rooms
@pytest.mark.parametrize(("damage", "why"), [(cut_off, "is corrupted or incomplete"), (blow_up, "GiB")])
async def test_a_switch_to_what_cannot_be_loaded_changes_nothing(
    tmp_path: Path, demo_model: Path, room: dict[str, str], damage: Callable[[Path], None], why: str
) -> None:
    machine = two_models(tmp_path, demo_model, NOA_MEMORY_BUDGET="4GiB", **room)
    damage(machine.models / "two.gguf")
    async with fleet_on(machine) as fleet, unharmed(fleet, alone=room is ROOM_FOR_ONE):
        assert why in await refused_switch(fleet)


async def at_its_birth(fleet: Fleet, _: Events) -> psutil.Process:
    async with asyncio.timeout(20):
        while not (newcomers := processes_of(fleet, "two")):  # noqa: ASYNC110  # nothing tells of a process
            await asyncio.sleep(0.001)
    return newcomers[0]


async def amid_the_load(fleet: Fleet, events: Events) -> psutil.Process:
    await events.until("model-loading", 1, key=TWO, phase="loading")
    return processes_of(fleet, "two")[0]


def processes_of(fleet: Fleet, alias: str) -> list[psutil.Process]:
    found = []
    for engine in fleet.server.engines():
        try:
            arguments = engine.cmdline()
        except psutil.Error:
            continue
        if "--alias" in arguments and arguments[arguments.index("--alias") + 1] == alias:
            found.append(engine)
    return found


@rooms
@pytest.mark.parametrize("moment", [at_its_birth, amid_the_load])
async def test_a_switch_to_what_dies_while_it_loads_changes_nothing(
    tmp_path: Path, demo_model: Path, room: dict[str, str], moment: Callable[[Fleet, Events], Awaitable[psutil.Process]]
) -> None:
    async with (
        fleet_on(two_models(tmp_path, demo_model, **room)) as fleet,
        fleet.listening() as events,
        unharmed(fleet, alone=room is ROOM_FOR_ONE),
    ):
        refusal = asyncio.create_task(refused_switch(fleet))
        (await moment(fleet, events)).kill()
        assert "killed the engine" in await refusal
