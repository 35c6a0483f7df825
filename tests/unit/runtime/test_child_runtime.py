"""The runtime's conduct with engines that behave and engines that don't. The processes are real, the engine is not."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from noa.errors import ConfigurationError, ModelLoadError, ModelUnavailableError, StorageError
from noa.runtime.allocation import LOADED
from noa.runtime.child import ChildRuntime
from noa.runtime.launch import Launch, command
from noa.runtime.llama_server import EXIT_ORPHANED
from noa.runtime.protocol import EngineSpec
from noa.state import ProcessGone, ProcessIntended, ProcessStarted

Entry = ProcessIntended | ProcessStarted | ProcessGone
STAND_IN = Path(__file__).parents[2] / "stand_in_engine.py"
PARENT = Path(__file__).parents[2] / "engine_parent.py"


class Journal(list[Entry]):
    """Remembers what was written down; refuses what the test names, and is told first of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: type[Entry] | None = None
        self.before: Callable[[Entry], None] = lambda entry: None

    async def __call__(self, entry: Entry) -> None:
        self.before(entry)
        await asyncio.sleep(0)
        if self.refused is type(entry):
            raise StorageError("The disk is full.")
        self.append(entry)

    @property
    def kinds(self) -> list[type[Entry]]:
        return [type(entry) for entry in self]


def running(socket_dir: Path) -> list[psutil.Process]:
    """Processes whose arguments name a socket below this folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(socket_dir) in word for word in process.info["cmdline"] or ())
    ]


def server_of(folder: Path) -> Path:
    """A program that understands the arguments of a ``llama-server``."""
    binary = folder / "llama-server"
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" good "$@"\n')
    binary.chmod(0o700)
    return binary


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def silent(_phase: str) -> None:
    pass


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    weights = tmp_path / "m.gguf"
    weights.write_bytes(b"GGUF and more")
    return EngineSpec(key="llama.cpp:m", generation=3, path=str(weights), alias="m", context_size=512, slots=2)


@pytest.fixture
def sockets(short_folder: Path) -> Path:
    return short_folder


@pytest.fixture
async def runtime_of(tmp_path: Path, sockets: Path) -> AsyncIterator[Callable[..., ChildRuntime]]:
    """Makes a runtime whose engines behave in a given mode. Whatever the test did, nothing may be left of it."""
    made: list[ChildRuntime] = []

    def make(mode: str, **options: float | dict[str, str]) -> ChildRuntime:
        python = tmp_path / f"python-{mode}"
        python.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" "{STAND_IN}" {mode} "$@"\n')
        python.chmod(0o700)
        made.append(ChildRuntime(socket_dir=sockets, python=str(python), **options))  # type: ignore[arg-type]  # a mix
        return made[-1]

    yield make
    for runtime in made:
        await runtime.aclose()
    assert running(sockets) == []
    assert list(sockets.iterdir()) == []


async def test_a_process_is_written_down_before_it_exists_and_after_it_is_gone(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    # Told by their parent, since a process has no arguments for a moment whenever it becomes another program.
    before, running_at = set(psutil.Process().children()), dict[type[Entry], int]()
    journal.before = lambda entry: running_at.update({type(entry): len({*psutil.Process().children()} - before)})
    process = await runtime_of("good").start(spec, journal, silent)
    await process.stop()

    assert running_at == {ProcessIntended: 0, ProcessStarted: 1, ProcessGone: 0}
    intended, started, gone = journal
    assert isinstance(intended, ProcessIntended)
    assert isinstance(started, ProcessStarted)
    assert isinstance(gone, ProcessGone)
    assert (intended.key, intended.generation) == ("llama.cpp:m", 3)
    assert intended.nonce == started.nonce == gone.nonce
    assert intended.socket_path == process.endpoint.socket_path
    assert started.pid == process.pid


async def test_the_phases_of_a_start_are_told_in_order(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    phases: list[str] = []
    await runtime_of("good").start(spec, journal, phases.append)
    assert phases == ["starting", "loading", "verifying", "warming-up"]


async def test_an_intent_that_cannot_be_written_starts_nothing(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal, sockets: Path
) -> None:
    journal.refused = ProcessIntended
    with pytest.raises(StorageError):
        await runtime_of("good").start(spec, journal, silent)
    assert running(sockets) == []


async def test_a_start_that_cannot_be_written_ends_the_process(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal, sockets: Path
) -> None:
    journal.refused = ProcessStarted
    with pytest.raises(StorageError):
        await runtime_of("good").start(spec, journal, silent)
    assert running(sockets) == []
    assert journal.kinds == [ProcessIntended, ProcessGone]


async def test_a_program_that_cannot_be_run_is_told_and_settled(spec: EngineSpec, journal: Journal) -> None:
    runtime = ChildRuntime(python="/nonexistent/python")
    with pytest.raises(ModelLoadError, match="could not be run"):
        await runtime.start(spec, journal, silent)
    await runtime.aclose()
    assert journal.kinds == [ProcessIntended, ProcessGone]


async def test_that_it_is_gone_is_written_after_that_it_runs(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, sockets: Path
) -> None:
    written: list[type[Entry]] = []

    async def slow(entry: Entry) -> None:
        while isinstance(entry, ProcessStarted) and running(sockets):  # noqa: ASYNC110  # A process sets no event.
            await asyncio.sleep(0.05)
        written.append(type(entry))

    with pytest.raises(ModelLoadError):
        await runtime_of("out-of-memory").start(spec, slow, silent)
    assert written == [ProcessIntended, ProcessStarted, ProcessGone]


def test_a_child_whose_manager_is_gone_never_begins(spec: EngineSpec) -> None:
    launch = Launch(spec=spec, nonce="abc", socket_path="/nonexistent/abc.sock")
    arguments = command(launch, python=sys.executable, binary=None, parent=os.getppid())
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.wait(20) == EXIT_ORPHANED


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_users_own_server_dies_with_its_manager(spec: EngineSpec, sockets: Path, tmp_path: Path, loop: str) -> None:
    arguments = [sys.executable, str(PARENT), loop, spec.path, str(sockets), str(server_of(tmp_path))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline().split()[1]))
        assert parent.stdout.readline() == "loaded\n"
        parent.kill()
        psutil.wait_procs([engine], timeout=5)
    assert running(sockets) == []


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("out-of-memory", "not enough memory"),
        ("impostor", "another engine .*'impostor' instead of 'm'"),
        ("mute", "status 500: .*the device is gone"),
        ("dies-when-asked", "gave up on an internal check"),
    ],
)
async def test_a_bad_engine_is_explained_and_ended(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal, sockets: Path, mode: str, says: str
) -> None:
    with pytest.raises(ModelLoadError, match=says) as caught:
        await runtime_of(mode).start(spec, journal, silent)
    assert caught.value.message.startswith("llama.cpp:m could not be loaded: ")
    assert running(sockets) == []
    assert journal.kinds == [ProcessIntended, ProcessStarted, ProcessGone]


@pytest.mark.parametrize("mode", ["silent", "wrong-nonce"])
async def test_an_engine_that_gets_nowhere_is_given_up(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal, sockets: Path, mode: str
) -> None:
    with pytest.raises(ModelLoadError, match="made no progress for 1 s"):
        await runtime_of(mode, stall_timeout_s=1.0).start(spec, journal, silent)
    assert running(sockets) == []


async def test_an_engine_that_ignores_the_request_to_end_is_killed(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    process = await runtime_of("stubborn", stop_grace_s=0.2).start(spec, journal, silent)
    await process.stop()
    exit_ = await process.exited
    assert (exit_.code, exit_.expected, exit_.error) == (-signal.SIGKILL, True, None)


async def test_what_an_engine_started_ends_with_it(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    process = await runtime_of("has-children").start(spec, journal, silent)
    below = int(next(line for line in process.log_lines() if line.startswith("child: ")).split()[1])
    assert psutil.pid_exists(below)
    os.kill(process.pid, signal.SIGKILL)
    await process.exited
    _, alive = psutil.wait_procs([psutil.Process(below)] if psutil.pid_exists(below) else [], timeout=5)
    assert alive == []


async def test_a_crash_is_told_with_its_cause_and_nothing_holds_its_future_alone(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    process = await runtime_of("good").start(spec, journal, silent)
    process.exited.cancel()
    os.kill(process.pid, signal.SIGKILL)
    exit_ = await process.exited
    assert (exit_.code, exit_.expected) == (-signal.SIGKILL, False)
    assert exit_.error is not None
    assert exit_.error.startswith("llama.cpp:m stopped: the operating system killed the engine")
    assert process.memory_bytes() is None
    await process.stop()
    assert journal.kinds[-1] is ProcessGone


@pytest.mark.parametrize("phase", ["starting", "loading", "verifying", "warming-up"])
async def test_a_start_cancelled_in_any_phase_leaves_nothing(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal, sockets: Path, phase: str
) -> None:
    reached = asyncio.Event()
    starting = asyncio.create_task(
        runtime_of("good").start(spec, journal, lambda now: reached.set() if now == phase else None)
    )
    await reached.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert running(sockets) == []
    assert journal.kinds in ([], [ProcessIntended, ProcessStarted, ProcessGone])


async def test_closing_ends_a_start_on_its_way_and_refuses_the_next(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal, sockets: Path
) -> None:
    runtime = runtime_of("silent")
    loading = asyncio.Event()
    starting = asyncio.create_task(
        runtime.start(spec, journal, lambda now: loading.set() if now == "loading" else None)
    )
    await loading.wait()
    await runtime.aclose()
    assert running(sockets) == []
    with pytest.raises(ModelUnavailableError):
        await starting
    with pytest.raises(ModelUnavailableError):
        await runtime.start(spec, journal, silent)


async def test_an_engine_inherits_no_key(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    environment = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-canary", "GGML_X": "1", "PYTHONPATH": "/x"}
    process = await runtime_of("good", environment=environment).start(spec, journal, silent)
    names = next(line for line in process.log_lines() if line.startswith("environment: ")).split()[1:]
    assert {"PATH", "GGML_X"} <= set(names)
    assert not {"OPENAI_API_KEY", "PYTHONPATH"} & set(names)


async def test_a_talkative_engine_neither_blocks_nor_fills_memory(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    process = await runtime_of("talkative").start(spec, journal, silent)
    lines = process.log_lines()
    assert len(lines) <= 501
    assert any("line 99999" in line for line in lines)


async def test_a_log_that_lags_behind_the_first_answer_is_waited_for(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    process = await runtime_of("lags").start(spec, journal, silent)
    assert any(LOADED in line for line in process.log_lines())


async def test_what_an_engine_wrote_can_be_read_when_it_is_gone(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    runtime = runtime_of("out-of-memory")
    assert runtime.log(spec.key) is None
    with pytest.raises(ModelLoadError):
        await runtime.start(spec, journal, silent)
    log = runtime.log(spec.key)
    assert log is not None
    assert any("insufficient memory" in line for line in log.lines())
    assert [line async for line in log.follow()] == list(log.lines())


async def test_an_embedding_model_is_asked_to_embed(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    process = await runtime_of("good").start(msgspec.structs.replace(spec, embedding=True), journal, silent)
    assert any("POST /embeddings" in line for line in process.log_lines())


async def test_a_users_own_server_runs_behind_the_same_guard(
    tmp_path: Path, sockets: Path, spec: EngineSpec, journal: Journal
) -> None:
    runtime = ChildRuntime(socket_dir=sockets, llama_server=server_of(tmp_path))
    process = await runtime.start(spec, journal, silent)
    arguments = psutil.Process(process.pid).cmdline()
    assert arguments[arguments.index("--host") + 1] == process.endpoint.socket_path
    assert arguments[arguments.index("--ctx-size") + 1] == "1024"
    assert any("GGML_NO_BACKTRACE" in line for line in process.log_lines())
    await runtime.aclose()
    assert running(sockets) == []


async def test_a_binary_that_is_not_there_is_named(sockets: Path, spec: EngineSpec, journal: Journal) -> None:
    runtime = ChildRuntime(socket_dir=sockets, llama_server=Path("/nonexistent/llama-server"))
    with pytest.raises(ModelLoadError) as caught:
        await runtime.start(spec, journal, silent)
    await runtime.aclose()
    assert "/nonexistent/llama-server cannot be run" in str(caught.value.details["log"])


async def test_an_interpreter_without_the_engine_says_how_to_install_it(
    tmp_path: Path, spec: EngineSpec, journal: Journal
) -> None:
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o700)
    runtime = ChildRuntime(python=str(bare))
    with pytest.raises(ModelLoadError, match="local engine is not installed; install it with: pip install") as caught:
        await runtime.start(spec, journal, silent)
    await runtime.aclose()
    assert caught.value.details["reason"] == "engine_missing"


async def test_sockets_are_private_and_go_with_the_runtime(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    runtime = runtime_of("good")
    process = await runtime.start(spec, journal, silent)
    socket = Path(process.endpoint.socket_path or "")
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    await process.stop()
    assert not socket.exists()
    socket.parent.rmdir()  # As a cleaner of temporary files would.
    await runtime.start(spec, journal, silent)
    await runtime.aclose()
    assert not socket.parent.exists()


async def test_a_folder_too_deep_for_sockets_is_refused_in_words(
    tmp_path: Path, spec: EngineSpec, journal: Journal
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(ConfigurationError, match="too long"):
        await ChildRuntime(socket_dir=deep).start(spec, journal, silent)
    assert list(deep.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
async def test_starting_and_stopping_leaks_no_descriptor(
    runtime_of: Callable[..., ChildRuntime], spec: EngineSpec, journal: Journal
) -> None:
    runtime = runtime_of("good")
    await (await runtime.start(spec, journal, silent)).stop()
    before = open_descriptors()
    for _ in range(3):
        await (await runtime.start(spec, journal, silent)).stop()
    await asyncio.sleep(0)
    assert open_descriptors() == before
