"""How ``serve`` starts and ends: in a process of its own where that matters."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from machine import Machine
from noa.client import NoaClient
from noa.client_answers import ServerEvent
from noa.config import Configuration, ProviderConfig, Secret
from noa.errors import ConfigurationError
from noa.server.app import check_addresses, serve
from noa.server.http_server import bind, port_of
from scripted_upstream import ScriptedUpstream, events_answer

CHILD = Path(__file__).parents[1] / "server_child.py"
CHUNK = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
BODY = {"model": "openai:gpt-4", "messages": [{"role": "user", "content": "x"}], "stream": True}

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def start(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ``server_child.py`` with these settings; what still runs is killed."""
    children: list[asyncio.subprocess.Process] = []

    async def start(**settings: Any) -> asyncio.subprocess.Process:
        given = json.dumps({"upstream": f"{upstream.url}/v1", **settings})
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), str(tmp_path), given, stdout=asyncio.subprocess.PIPE
        )
        children.append(child)
        return child

    yield start
    for child in children:
        if child.returncode is None:
            child.kill()
        await child.wait()
        # The transport is closed by its last byte, not by the exit.
        assert child.stdout is not None
        await child.stdout.read()


async def told(child: asyncio.subprocess.Process) -> tuple[str, str]:
    assert child.stdout is not None
    async with asyncio.timeout(20):
        word, _, rest = (await child.stdout.readline()).decode().strip().partition(" ")
    return word, rest


async def ended(child: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(20):
        return await child.wait()


async def test_it_is_ready_when_it_is_prepared(start: Start) -> None:
    child = await start(prepare_s=1.0)
    word, url = await told(child)
    assert word == "preparing"
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/api/v1/status/ready") as early:
            assert (early.status, early.headers["retry-after"]) == (503, "1")
        async with session.get("/api/v1/status/live") as live:
            assert live.status == 200
        assert await told(child) == ("ready", url)
        async with session.get("/api/v1/status/ready") as late:
            assert late.status == 200
    child.terminate()
    assert await ended(child) == 0


async def test_a_preparation_that_fails_ends_it(start: Start) -> None:
    child = await start(fail=True)
    assert (await told(child))[0] == "preparing"
    assert await told(child) == ("refused", "the model is broken")
    assert await ended(child) == 6


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_requests_that_run_may_finish(start: Start, upstream: ScriptedUpstream, sign: signal.Signals) -> None:
    upstream.script("/v1/chat/completions", events_answer(*[CHUNK] * 5, "[DONE]", chunk_delay_s=0.2))
    child = await start()
    _, url = await told(child)
    async with aiohttp.ClientSession(url) as session, session.post("/v1/chat/completions", json=BODY) as response:
        await response.content.readuntil(b"\n\n")
        child.send_signal(sign)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession(url) as other:
                await other.get("/api/v1/status/live")
    assert await ended(child) == 0


async def test_a_second_signal_does_not_wait(start: Start, upstream: ScriptedUpstream) -> None:
    upstream.script("/v1/chat/completions", events_answer(CHUNK, hang=True))
    child = await start()
    _, url = await told(child)
    async with aiohttp.ClientSession(url) as session, session.post("/v1/chat/completions", json=BODY) as response:
        await response.content.readuntil(b"\n\n")
        child.terminate()
        await asyncio.sleep(0.5)
        assert child.returncode is None
        child.terminate()
        assert await ended(child) == 130


async def test_a_second_server_is_told_where_the_first_one_is(start: Start) -> None:
    first = await start()
    _, url = await told(first)
    assert await told(first) == ("ready", url)
    word, message = await told(await start())
    assert word == "refused"
    assert url in message


# What is refused before a process would be worth it, and where it listens.


async def test_sighup_has_the_configuration_read_anew(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    machine = Machine.at(tmp_path, NOA_PORT="3999")
    with machine.serving("serve", "--host", "127.0.0.1") as server:
        provider = f"{{type: openai, name: work, baseURL: '{upstream.url}/v1', apiKey: sk-a}}"
        (tmp_path / "noa.yaml").write_text(f"providers: [{provider}]\n")
        async with NoaClient(server.url) as client, aclosing(client.events(0)) as events:
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(20):
                told = [event async for event in until_one(events, "configuration-reloaded")][-1]
                assert told.data["providersAdded"] == ["work"]
                assert told.data["needsRestart"] == [], "arguments and variables go before the file"
                (tmp_path / "noa.yaml").write_text("providers: 3\n")
                server.process.send_signal(signal.SIGHUP)
                told = [event async for event in until_one(events, "configuration-rejected")][-1]
            assert "noa.yaml:1" in told.data["error"]
            assert (await client.model("work:gpt-4")).provider == "work"


async def until_one(events: AsyncGenerator[ServerEvent], event_type: str) -> AsyncIterator[ServerEvent]:
    """The events up to one of this type."""
    async for event in events:
        yield event
        if event.type == event_type:
            return


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    [taken] = bind("127.0.0.1", 0)
    with taken, pytest.raises(ConfigurationError, match=r"is taken by another program. Choose another: noa serve"):
        serve(Configuration(home=tmp_path, port=port_of([taken])))
    assert not (tmp_path / "state.db").exists()


def test_beyond_the_loopback_it_refuses_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="NOA_API_KEY"):
        serve(Configuration(home=tmp_path, host="0.0.0.0", port=0))


def test_localhost_is_both_loopbacks() -> None:
    sockets = bind("localhost", 0)
    try:
        assert {each.getsockname()[0] for each in sockets} in ({"127.0.0.1", "::1"}, {"127.0.0.1"})
        assert len({each.getsockname()[1] for each in sockets}) == 1
        # Only on sockets that say so does asyncio send without delay.
        assert {each.proto for each in sockets} == {socket.IPPROTO_TCP}
    finally:
        for each in sockets:
            each.close()


def test_a_provider_that_is_ourselves_is_refused() -> None:
    openai = ProviderConfig(type="openai", api_key=Secret("x"), base_url="http://127.0.0.1:3001/v1")
    with pytest.raises(ConfigurationError, match="this server itself"):
        check_addresses(Configuration(providers=(openai,)))
    check_addresses(Configuration(providers=(openai,), port=3002))
