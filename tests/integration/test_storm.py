"""Callers ask the model in use without pause while it is switched, loaded and unloaded: none of them notices."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from fleet import ONE, TWO, Fleet, fleet_on, two_models
from machine import alive
from storm import Storm

pytestmark = pytest.mark.engine

#: Both rooms: one where two models fit, and one where each must go for the other.
ROOM_FOR_BOTH = {"MODEL_MANAGER_MAX_LOADED": "10"}
ROOM_FOR_ONE = {"MODEL_MANAGER_MAX_LOADED": "1"}
#: Two requests at once, so that a model in use is hardly ever idle.
TWO_AT_ONCE = "engine: {slots: 2}"
rooms = pytest.mark.parametrize("room", [ROOM_FOR_BOTH, ROOM_FOR_ONE], ids=["room for both", "room for one"])
nightly = (pytest.mark.nightly, pytest.mark.timeout(600))


@rooms
@pytest.mark.parametrize("cycles", [6, pytest.param(100, marks=nightly)])
async def test_no_switch_load_or_unload_costs_a_caller_anything(
    tmp_path: Path, demo_model: Path, room: dict[str, str], cycles: int
) -> None:
    machine = two_models(tmp_path, demo_model, TWO_AT_ONCE, **room)
    alone = room is ROOM_FOR_ONE
    async with fleet_on(machine) as fleet:
        await fleet.do("load", ONE)
        async with Storm(fleet.server.url, (ONE, TWO)) as storm:
            await switch_to_and_fro(fleet, storm, cycles, alone=alone)
            # Where there is one place, whoever loads by hand waits some seconds for it: requests pass that long.
            await load_and_unload(fleet, storm, max(2, cycles // 10) if alone else cycles, alone=alone)
        assert storm.failures == []
        assert storm.refused == 0
        assert await fleet.current() == ONE
        assert set(storm.answers) == {ONE, TWO}


async def switch_to_and_fro(fleet: Fleet, storm: Storm, times: int, *, alone: bool) -> None:
    """Each switch comes while both kinds of callers are served, and whoever asks after it gets the new model.

    Where there is room for both, every other time the old one is told at once to go, amid what it still answers.
    """
    for number in range(times):
        old, new = (ONE, TWO) if number % 2 == 0 else (TWO, ONE)
        storm.expect(None)
        await fleet.do("switch", new)
        storm.expect(new)
        assert len(fleet.engines()) <= (1 if alone else 2)
        if not alone and number % 4 < 2:
            await fleet.do("unload", old)
        await storm.served(new)


async def load_and_unload(fleet: Fleet, storm: Storm, times: int, *, alone: bool) -> None:
    """The model that nobody asks for comes and goes. Where there is one place, whoever is asked for takes it back."""
    for _ in range(times):
        await fleet.do("load", TWO)
        await storm.served(ONE)
        status, answer = await fleet.ask("POST", "/models/unload", {"key": TWO})
        assert status == 200 or (alone and status == 404), answer
    assert await fleet.current() == ONE


@pytest.mark.parametrize("callers", [100, pytest.param(500, marks=nightly)])
async def test_however_many_ask_at_once_one_process_is_started(tmp_path: Path, demo_model: Path, callers: int) -> None:
    async def ask(fleet: Fleet, number: int) -> tuple[int, str | None]:
        body = {"model": ONE, "max_tokens": 1, "messages": [{"role": "user", "content": f"Say {number}."}]}
        url = f"{fleet.server.url}/v1/chat/completions"
        patience = aiohttp.ClientTimeout(total=300)
        async with fleet.session.post(url, json=body, headers={"x-noa-wait-s": "300"}, timeout=patience) as answer:
            await answer.read()
            return answer.status, answer.headers.get("x-noa-model")

    async with fleet_on(two_models(tmp_path, demo_model)) as fleet, fleet.listening() as events:
        answers = await asyncio.gather(*(ask(fleet, number) for number in range(callers)))
        assert answers == [(200, ONE)] * callers
        assert len(fleet.engines()) == 1
        await events.until("inference-complete", callers)
        assert len(events.of("model-loading", phase="starting")) == 1
        assert len(events.of("model-loaded")) == 1


async def test_a_stop_amid_a_storm_lets_what_runs_finish(tmp_path: Path, demo_model: Path) -> None:
    machine = two_models(tmp_path, demo_model)
    async with fleet_on(machine) as fleet:
        await fleet.do("load", ONE)
        async with Storm(fleet.server.url, (ONE, TWO)) as storm:
            await storm.served(times=8)
            storm.server_ends()
            before = storm.answers.total()
            running = storm.under_way
            await until_received(fleet, storm)
            engines = fleet.engines()
            fleet.server.process.send_signal(signal.SIGTERM)
        assert storm.failures == []
        assert storm.answers.total() + storm.refused == before + running
        assert fleet.server.process.wait(60) == 0
        assert [alive(engine) for engine in engines] == [False]


@pytest.mark.nightly
async def test_a_stop_cuts_what_takes_too_long_and_says_so(tmp_path: Path, demo_model: Path) -> None:
    """Whoever waits for a place is refused, and whoever is served is told that this is not the end of the answer."""
    machine = two_models(tmp_path, demo_model)
    async with fleet_on(machine) as fleet:
        await fleet.do("load", ONE)
        async with Storm(fleet.server.url, (ONE,), tokens=(3000,)) as storm:
            await until_received(fleet, storm, 8)
            storm.server_ends()
            engines = fleet.engines()
            fleet.server.process.send_signal(signal.SIGTERM)
        assert storm.failures == []
        assert storm.refused == 8
        assert fleet.server.process.wait(60) == 0
        assert [alive(engine) for engine in engines] == [False]


async def until_received(fleet: Fleet, storm: Storm, at_least: int = 0) -> None:
    """Wait until the server has every request that is under way: what it has not read when it stops, it cannot answer.

    Counted so that it is rather too few: one that goes from waiting to running in between must not count twice, nor one
    that has its answer in between count for another that has not arrived.
    """
    async with asyncio.timeout(60):
        while True:
            expected = max(storm.under_way, at_least)
            running = sum(model["inFlight"] for model in (await fleet.loaded()).values())
            _, health = await fleet.ask("GET", "/status/health")
            if running + health["waitingRequests"] >= expected:
                return
