"""The runtime that starts each engine as a process of its own, and owns it until it is gone.

A process is written down before it exists, runs in its own group with an environment built from empty, listens on a
Unix socket in a folder of mode 0700, and counts as started when it has proven to be the one meant and has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from noa.errors import ConfigurationError, ModelLoadError, ModelUnavailableError
from noa.runtime.allocation import LOADED
from noa.runtime.launch import Launch, child_environment, command, require_weights
from noa.runtime.llama_server import MAX_SOCKET_PATH, ready_line
from noa.runtime.predecessors import end_predecessors
from noa.runtime.probe import Probe
from noa.runtime.process import ChildProcess
from noa.runtime.protocol import EngineLog, EngineProcess, EngineSpec, Journal, Progress
from noa.runtime.stderr import LastLogs
from noa.state import ProcessGone, ProcessIntended, ProcessRecord

#: A start that writes nothing and gets nowhere for this long is given up, in seconds. Duration has no limit.
STALL_TIMEOUT_S = 120.0
#: How long an engine has between being asked to end and being killed, in seconds.
STOP_GRACE_S = 5.0
#: How long to wait for the exit that explains a broken connection, in seconds.
_LAST_WORDS_S = 2.0
#: How long to wait for an engine that answers to have said that it has loaded, in seconds; nearly always it has.
_LOG_PATIENCE_S = 2.0
_NONCE_BYTES = 8

Result = TypeVar("Result")


class ChildRuntime:
    """Starts engines as child processes. One per manager; close it on the loop it was used on.

    ``socket_dir`` is where its private folder of sockets is made (the system's folder for temporary files if left out).
    ``python`` runs the child's main, which needs the engine installed; ``llama_server`` is a binary to run instead.
    ``environment`` is what the allow-list of inherited variables picks from, this process's own if left out.

    The kernel ends a child when the *thread* that started it ends (``PR_SET_PDEATHSIG``), so run the event loop in a
    thread that lives as long as the manager.
    """

    def __init__(
        self,
        *,
        socket_dir: Path | None = None,
        python: str = sys.executable,
        llama_server: Path | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        stop_grace_s: float = STOP_GRACE_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._socket_dir = socket_dir
        self._python = python
        self._binary = llama_server
        self._stall_s = stall_timeout_s
        self._grace_s = stop_grace_s
        self._environment = child_environment(os.environ if environment is None else environment)
        self._folder: Path | None = None
        self._children: set[ChildProcess] = set()
        self._logs = LastLogs()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def start(self, spec: EngineSpec, journal: Journal, progress: Progress) -> EngineProcess:
        """Start an engine and return when it has answered a token. Phases: starting, loading, verifying, warming-up.

        Raises ``ModelLoadError`` with what the engine said and what to do; whatever was started is gone by then. So it
        is when this is cancelled.
        """
        await asyncio.to_thread(require_weights, spec)
        progress("starting")
        spawning = self._own(self._spawn(spec, journal))
        try:
            child = await asyncio.shield(spawning)
            await self._prove(child, progress)
        except BaseException:
            await asyncio.shield(self._own(_abandon(spawning)))
            raise
        child.loaded = True
        return child

    def log(self, key: str) -> EngineLog | None:
        """The log of the last process of a model, also of one that is loading, has failed or is gone."""
        return self._logs.get(key)

    async def reap(self, left_behind: Sequence[ProcessRecord]) -> Sequence[ProcessRecord]:
        """End what a predecessor left running, recognised beyond doubt, and return the records that are settled."""
        return await asyncio.to_thread(end_predecessors, left_behind)

    async def aclose(self) -> None:
        """End every process it started, also those on their way, and remove the folder of sockets."""
        self._closed = True
        while self._children or self._tasks:
            await asyncio.gather(*(child.stop() for child in tuple(self._children)))
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    async def _spawn(self, spec: EngineSpec, journal: Journal) -> ChildProcess:
        nonce = secrets.token_hex(_NONCE_BYTES)
        launch = Launch(spec=spec, nonce=nonce, socket_path=str(self._sockets() / f"{nonce}.sock"))
        await journal(
            ProcessIntended(key=spec.key, generation=spec.generation, nonce=nonce, socket_path=launch.socket_path)
        )
        try:
            child = self._run(launch, journal)
        except BaseException:
            await journal(ProcessGone(nonce=nonce))
            raise
        self._children.add(child)
        self._logs.keep(spec.key, child.log)
        child.settled.add_done_callback(lambda _: self._children.discard(child))
        try:
            await child.record()
        except BaseException:
            await child.stop()
            raise
        return child

    def _run(self, launch: Launch, journal: Journal) -> ChildProcess:
        key = launch.spec.key
        if self._closed:
            raise ModelUnavailableError(f"{key} was not started: the manager is shutting down.")
        arguments = command(launch, python=self._python, binary=self._binary, parent=os.getpid())
        try:
            return ChildProcess.spawn(launch, arguments, self._environment, journal, self._grace_s)
        except OSError as error:
            raise ModelLoadError(
                f"{key} could not be loaded: {arguments[0]} could not be run ({error.strerror});"
                " check the installation."
            ) from error

    async def _prove(self, child: ChildProcess, progress: Progress) -> None:
        """Wait until the engine has loaded, is the one meant, and answers."""
        async with Probe(child.endpoint, child.spec, self._stall_s) as probe:
            progress("loading")
            loading = probe.until_healthy() if self._binary else child.ready(ready_line(child.nonce))
            await self._while_alive(child, self._unless_stalled(child, loading))
            progress("verifying")
            progress("warming-up")
            await self._while_alive(child, probe.verify())
        if self._binary is None:
            await self._while_alive(child, _told_of_its_load(child))

    async def _while_alive(self, child: ChildProcess, step: Coroutine[Any, Any, None]) -> None:
        """Take a step of the start. If the process ends meanwhile, its diagnosis is what went wrong."""
        task = asyncio.ensure_future(step)
        exited = child.exited
        either: set[asyncio.Future[Any]] = {task, exited}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return
        except (aiohttp.ClientError, OSError) as error:
            await asyncio.wait({exited}, timeout=_LAST_WORDS_S)
            if not exited.done():
                raise ModelLoadError(
                    f"{child.spec.key} could not be loaded: the engine runs but does not answer ({error});"
                    " see the model's log.",
                    details={"log": child.log_lines()[-10:]},
                ) from error
        finally:
            await _cancelled(task)
        raise child.failure()

    async def _unless_stalled(self, child: ChildProcess, loading: Awaitable[None]) -> None:
        clock = asyncio.get_running_loop().time
        task = asyncio.ensure_future(loading)
        try:
            while not task.done():
                left = child.last_activity + self._stall_s - clock()
                if left <= 0:
                    raise ModelLoadError(
                        f"{child.spec.key} could not be loaded: the engine made no progress for {self._stall_s:g} s;"
                        " see the model's log, and try again when the machine is less busy.",
                        details={"log": child.log_lines()[-10:]},
                    )
                await asyncio.wait({task}, timeout=left)
            task.result()
        finally:
            await _cancelled(task)

    def _own(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run what must be finished even if whoever asked for it goes away."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _sockets(self) -> Path:
        """The private folder of sockets, made when it is needed and again if something has tidied it away."""
        if self._folder is None or not self._folder.is_dir():
            self._folder = Path(tempfile.mkdtemp(prefix="noa-", dir=self._socket_dir))
            longest = len(os.fsencode(self._folder)) + len(f"/{'0' * _NONCE_BYTES * 2}.sock")
            if longest > MAX_SOCKET_PATH:
                self._folder.rmdir()
                self._folder = None
                raise ConfigurationError(
                    f"The path of the folder for sockets is too long by {longest - MAX_SOCKET_PATH} bytes;"
                    " point TMPDIR at a shorter one."
                )
        return self._folder


async def _told_of_its_load(child: ChildProcess) -> None:
    """Wait until its log has come to the end of the load: what that took is read from it.

    The engine writes it from a thread of its own, which on a busy machine may not have begun when the first token is
    there.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOG_PATIENCE_S):
            await child.logged(LOADED)


async def _abandon(spawning: asyncio.Task[ChildProcess]) -> None:
    """End what a start that failed or was given up has started, or is about to have started."""
    await asyncio.wait({spawning})
    if not spawning.cancelled() and spawning.exception() is None:
        await spawning.result().stop()


async def _cancelled(task: asyncio.Future[None]) -> None:
    """Cancel what may be over already, and wait until it is; its outcome was read where it mattered."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
