"""One engine process of ours, from its spawn until it is reaped and written down as gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

import psutil

from noa.errors import AIProviderError, ModelLoadError, ModelUnavailableError
from noa.models import Endpoint
from noa.runtime.diagnosis import Diagnosis, diagnose
from noa.runtime.hardware import resident_bytes
from noa.runtime.launch import Launch
from noa.runtime.protocol import EngineSpec, Journal, ProcessExit
from noa.runtime.stderr import MAX_LINE_BYTES, StderrTail
from noa.state import ProcessGone, ProcessStarted

logger = logging.getLogger(__name__)

#: After the process is gone: how long its standard error may still be held open by somebody else, in seconds.
_DRAIN_TIMEOUT_S = 1.0


class _Pipe(asyncio.Protocol):
    """Reads what comes down one pipe of a process, and notices its end."""

    def __init__(self, take: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._take = take
        self._end = end

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        self._end()


class _Pipes:
    """What comes from a process: the ready line, and its log."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.tail = StderrTail()
        self.said = b""
        self.last_activity = loop.time()
        self.heard = asyncio.Event()
        self.silent = asyncio.Event()
        self.drained = asyncio.Event()
        self._clock = loop.time
        self._transports: Sequence[asyncio.ReadTransport] = ()

    async def listen(self, process: Popen[bytes]) -> None:
        self._transports = (
            await _read(process.stderr, self._note, self.drained.set),
            await _read(process.stdout, self._hear, self._end),
        )

    def close(self) -> None:
        for transport in self._transports:
            transport.close()

    def _note(self, data: bytes) -> None:
        self.last_activity = self._clock()
        self.tail.feed(data)

    def _hear(self, data: bytes) -> None:
        self.last_activity = self._clock()
        self.said = (self.said + data)[-MAX_LINE_BYTES:]
        self.heard.set()

    def _end(self) -> None:
        self.silent.set()
        self.heard.set()


async def _read(
    pipe: IO[bytes] | None, take: Callable[[bytes], None], end: Callable[[], None]
) -> asyncio.ReadTransport:
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Pipe(take, end), pipe)
    return transport


class ChildProcess:
    """A process that was started for ``launch``. Made by ``spawn``; it watches itself from then on.

    ``loaded`` is set by whoever proved that the engine serves; it decides how an exit is explained.
    """

    def __init__(self, process: Popen[bytes], launch: Launch, journal: Journal, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.spec: EngineSpec = launch.spec
        self.nonce = launch.nonce
        self.endpoint = Endpoint(base_url="http://localhost/v1", socket_path=launch.socket_path)
        self.loaded = False
        #: The process id, which is also that of its group.
        self.pid = process.pid
        self._process = process
        self._pipes = _Pipes()
        self._journal = journal
        self._grace_s = grace_s
        self._stopping = False
        self._stop: asyncio.Task[None] | None = None
        self._diagnosis: Diagnosis | None = None
        self._recorded = asyncio.Event()
        self._exited: asyncio.Future[ProcessExit] = loop.create_future()
        #: Done when the process is reaped and written down as gone.
        self.settled = loop.create_task(self._watch())

    @classmethod
    def spawn(
        cls, launch: Launch, arguments: Sequence[str], environment: Mapping[str, str], journal: Journal, grace_s: float
    ) -> ChildProcess:
        """Start the process in a session, and so a group, of its own. Raises ``OSError`` if it cannot be run.

        Standard output is the pipe for the ready line, standard input the sign that its manager lives. Not by the
        loop: uvloop copies the whole manager before it runs the program, which stops everything else for 6 ms.
        """
        process = Popen(  # noqa: S603  # A list of our own making, and no shell.
            arguments, bufsize=0, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
        )
        return cls(process, launch, journal, grace_s)

    @property
    def last_activity(self) -> float:
        """When it last wrote anything, on the loop's clock."""
        return self._pipes.last_activity

    @property
    def exited(self) -> asyncio.Future[ProcessExit]:
        """A future of the reader's own, done when the process is reaped; cancelling it disturbs nobody else."""
        return asyncio.shield(self._exited)

    def memory_bytes(self) -> int | None:
        """Resident memory of the process and whatever it started, or ``None`` if it is gone."""
        return None if self._exited.done() else resident_bytes(self.pid)

    @property
    def log(self) -> StderrTail:
        """What it writes to standard error."""
        return self._pipes.tail

    def log_lines(self) -> Sequence[str]:
        """The last lines it wrote to standard error, oldest first."""
        return self._pipes.tail.lines()

    async def logged(self, words: str) -> None:
        """Return when a line with these words is in its log, or the process has ended."""
        async with contextlib.aclosing(self._pipes.tail.follow()) as lines:
            async for line in lines:
                if words in line:
                    return

    async def record(self) -> None:
        """Write down that it runs, with the start time by which it is recognised later. Call it once after the spawn:
        that it is gone is written after this.
        """
        try:
            started_at = psutil.Process(self.pid).create_time()
            await self._journal(ProcessStarted(nonce=self.nonce, pid=self.pid, started_at=started_at))
        except psutil.NoSuchProcess:
            logger.debug("process %d ended before its start time could be read", self.pid)
        finally:
            self._recorded.set()

    async def ready(self, line: bytes) -> None:
        """Return when exactly ``line`` came down the pipe. Raises ``ConnectionError`` if the pipe ends without it."""
        pipes = self._pipes
        while line not in pipes.said.splitlines(keepends=True):
            if pipes.silent.is_set():
                raise ConnectionResetError("it closed its end before it was ready")
            pipes.heard.clear()
            await pipes.heard.wait()

    def failure(self) -> AIProviderError:
        """Why it is gone, as the error of a start that came to nothing. Only for a process that has exited."""
        if self._diagnosis is None:
            return ModelUnavailableError(f"{self.spec.key} was stopped before it had loaded; load it again.")
        return ModelLoadError(
            self._diagnosis.sentence,
            details={"reason": self._diagnosis.reason.value, "log": list(self._diagnosis.evidence)},
        )

    async def stop(self) -> None:
        """Ask the group to end, kill it if it does not within the grace, and return when that is done and recorded."""
        self._stopping = True
        if self._stop is None:
            self._stop = asyncio.get_running_loop().create_task(self._end())
        await asyncio.shield(self._stop)

    async def _end(self) -> None:
        self._signal(signal.SIGTERM)
        await asyncio.wait({self._exited}, timeout=self._grace_s)
        self._signal(signal.SIGKILL)
        await asyncio.wait({self.settled})

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole group, unless its leader is reaped and its id may be somebody else's."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _watch(self) -> None:
        """Drain standard error until the process is gone, then tell what it died of."""
        ended = _end_of(self._process)
        await self._pipes.listen(self._process)
        await ended.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # What it started itself ends with it; nearly always nothing.
        code = self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pipes.drained.wait(), _DRAIN_TIMEOUT_S)
        self._pipes.close()
        self._pipes.tail.end()
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(OSError):
            Path(self.endpoint.socket_path or "").unlink(missing_ok=True)
        self._exited.set_result(self._explain(code))
        await self._recorded.wait()
        try:
            await self._journal(ProcessGone(nonce=self.nonce))
        except Exception:  # Whatever a journal raises: the process is gone all the same, and a restart settles it.
            logger.exception("process %d of %s is gone, but that could not be written down", self.pid, self.spec.key)

    def _explain(self, code: int) -> ProcessExit:
        if self._stopping:
            return ProcessExit(code=code, expected=True)
        spec = self.spec
        self._diagnosis = diagnose(self.log_lines(), code, key=spec.key, path=spec.path, loaded=self.loaded)
        return ProcessExit(code=code, expected=False, error=self._diagnosis.sentence)


def _end_of(process: Popen[bytes]) -> asyncio.Event:
    """Set when the process has ended. Where the system has ``waitid``, the reaping is left to the loop's own thread, so
    that the id of the process cannot have become another's while a signal is sent.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wait() -> None:
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # Whoever this program belongs to has reaped it.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()
        with contextlib.suppress(RuntimeError):  # The loop is closed, and nobody waits any more.
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name=f"noa-engine-{process.pid}", daemon=True).start()
    return ended
