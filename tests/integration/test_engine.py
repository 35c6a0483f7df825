"""The real engine as a process of ours: it starts, answers, is who it says, and is never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest

from noa.errors import ModelLoadError
from noa.models import Endpoint
from noa.runtime.child import ChildRuntime
from noa.runtime.launch import Launch, command
from noa.runtime.llama_server import EXIT_ORPHANED, ready_line
from noa.runtime.protocol import EngineSpec
from noa.state import ProcessGone, ProcessIntended, ProcessRecord, ProcessStarted

pytestmark = pytest.mark.engine

PARENT = Path(__file__).parents[1] / "engine_parent.py"
Entry = ProcessIntended | ProcessStarted | ProcessGone


def spec_of(path: Path, alias: str = "smol", **options: int) -> EngineSpec:
    base = EngineSpec(key=f"llama.cpp:{alias}", generation=1, path=str(path), alias=alias, context_size=512)
    return msgspec.structs.replace(base, **options)


def silent(_phase: str) -> None:
    pass


async def forget(_entry: Entry) -> None:
    pass


def engines(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


async def ask(endpoint: Endpoint, path: str, body: object) -> dict[str, object]:
    connector = aiohttp.UnixConnector(path=endpoint.socket_path or "", force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(endpoint.base_url + path, json=body) as response,
    ):
        assert response.status == 200
        return msgspec.json.decode(await response.read(), type=dict[str, object])


def until_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.005)
    return False


@pytest.fixture
def sockets(short_folder: Path) -> Path:
    return short_folder


@pytest.fixture
async def runtime(sockets: Path) -> AsyncIterator[ChildRuntime]:
    runtime = ChildRuntime(socket_dir=sockets)
    yield runtime
    await runtime.aclose()
    assert engines(sockets) == []
    assert list(sockets.iterdir()) == []


async def test_an_engine_starts_answers_and_stops(runtime: ChildRuntime, demo_model: Path, sockets: Path) -> None:
    process = await runtime.start(spec_of(demo_model, slots=2), forget, silent)
    answer = await ask(
        process.endpoint,
        "/chat/completions",
        {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4},
    )
    assert answer["model"] == "smol"
    assert answer["usage"]["completion_tokens"] == 4  # type: ignore[index]  # of the engine's JSON
    memory = process.memory_bytes()
    assert memory is not None
    assert memory > demo_model.stat().st_size
    assert any("n_ctx_slot = 512" in line or "n_ctx = 1024" in line for line in process.log_lines())

    await process.stop()
    exit_ = await process.exited
    assert (exit_.code, exit_.expected) == (-signal.SIGTERM, True)
    assert not Path(process.endpoint.socket_path or "").exists()
    assert engines(sockets) == []


async def test_no_prompt_reaches_the_log(runtime: ChildRuntime, demo_model: Path) -> None:
    process = await runtime.start(spec_of(demo_model), forget, silent)
    await ask(process.endpoint, "/completions", {"prompt": "canary-4711", "max_tokens": 1})
    await process.stop()
    assert not any("canary" in line for line in process.log_lines())


async def test_two_engines_run_at_once_on_sockets_of_their_own(runtime: ChildRuntime, demo_model: Path) -> None:
    one, two = await asyncio.gather(
        runtime.start(spec_of(demo_model, "one"), forget, silent),
        runtime.start(spec_of(demo_model, "two"), forget, silent),
    )
    assert one.pid != two.pid
    assert one.endpoint.socket_path != two.endpoint.socket_path
    body = {"prompt": "Hello", "max_tokens": 1}
    answers = [await ask(process.endpoint, "/completions", body) for process in (one, two)]
    assert [answer["model"] for answer in answers] == ["one", "two"]


async def test_a_killed_engine_is_known_to_be_gone(runtime: ChildRuntime, demo_model: Path) -> None:
    process = await runtime.start(spec_of(demo_model), forget, silent)
    os.kill(process.pid, signal.SIGKILL)
    exit_ = await asyncio.wait_for(process.exited, 5)
    assert (exit_.code, exit_.expected) == (-signal.SIGKILL, False)
    assert "killed the engine" in (exit_.error or "")


async def test_an_interrupt_of_the_terminal_does_not_reach_it(runtime: ChildRuntime, demo_model: Path) -> None:
    process = await runtime.start(spec_of(demo_model), forget, silent)
    os.kill(process.pid, signal.SIGINT)
    for _ in range(2):  # An engine on its way out may still answer once.
        await ask(process.endpoint, "/completions", {"prompt": "Hello", "max_tokens": 8})
    assert not process.exited.done()


async def test_a_start_cancelled_while_it_loads_leaves_nothing(
    runtime: ChildRuntime, demo_model: Path, sockets: Path
) -> None:
    loading = asyncio.Event()
    starting = asyncio.create_task(
        runtime.start(spec_of(demo_model), forget, lambda phase: loading.set() if phase == "loading" else None)
    )
    await loading.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert engines(sockets) == []


def cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def without_head(whole: bytes) -> bytes:
    return b"GGUF" + b"\xff" * 4096


def of_unknown_architecture(whole: bytes) -> bytes:
    place = whole.index(b"llama", whole.index(b"general.architecture"))
    return whole[:place] + b"zlama" + whole[place + 5 :]


def of_too_many_layers(whole: bytes) -> bytes:
    place = whole.index(b"llama.block_count") + len(b"llama.block_count") + 4
    return whole[:place] + (2**31).to_bytes(4, "little") + whole[place + 4 :]


def of_another_kind(whole: bytes) -> bytes:
    return b"<!DOCTYPE html>"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is corrupted or incomplete; delete it and fetch it again"),
        (without_head, "is corrupted or incomplete; delete it and fetch it again"),
        (of_unknown_architecture, "does not know the model architecture “zlama”; update the engine"),
        (of_too_many_layers, "gave up on an internal check; the file .* may be damaged"),
        (of_another_kind, "is no GGUF file"),
    ],
)
async def test_a_damaged_file_is_explained(
    runtime: ChildRuntime, demo_model: Path, tmp_path: Path, damage: Callable[[bytes], bytes], says: str
) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(damage(demo_model.read_bytes()))
    with pytest.raises(ModelLoadError, match=says) as caught:
        await runtime.start(spec_of(damaged), forget, silent)
    assert str(damaged) in caught.value.message or "architecture" in caught.value.message


async def test_more_context_than_memory_is_explained(runtime: ChildRuntime, demo_model: Path) -> None:
    enormous = spec_of(demo_model, context_size=1 << 20, slots=8)
    with pytest.raises(ModelLoadError, match=r"not enough memory|killed the engine"):
        await runtime.start(enormous, forget, silent)


async def test_what_a_manager_left_is_ended_by_the_next(runtime: ChildRuntime, demo_model: Path) -> None:
    entries: list[Entry] = []

    async def keep(entry: Entry) -> None:
        entries.append(entry)

    process = await runtime.start(spec_of(demo_model), keep, silent)
    intended, started = entries
    assert isinstance(intended, ProcessIntended)
    assert isinstance(started, ProcessStarted)
    record = ProcessRecord(
        key=intended.key,
        nonce=intended.nonce,
        socket_path=intended.socket_path,
        pid=started.pid,
        started_at=started.started_at,
    )
    successor = ChildRuntime()
    assert await successor.reap([record]) == (record,)
    assert (await process.exited).code == -signal.SIGKILL
    await successor.aclose()


def test_an_engine_ends_with_its_standard_input(demo_model: Path, sockets: Path) -> None:
    launch = Launch(spec=spec_of(demo_model), nonce="abc", socket_path=str(sockets / "abc.sock"))
    arguments = command(launch, python=sys.executable, binary=None, parent=os.getpid())
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == ready_line("abc")
        assert engine.stdin is not None
        engine.stdin.close()
        assert engine.wait(5) == EXIT_ORPHANED


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.parametrize("when", ["started", "loaded"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_engine_dies_with_its_manager(demo_model: Path, sockets: Path, loop: str, when: str) -> None:
    arguments = [sys.executable, str(PARENT), loop, str(demo_model), str(sockets)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        if when == "loaded":
            assert parent.stdout.readline() == "loaded\n"
        parent.kill()
        assert until_gone(pid, 1.0)
