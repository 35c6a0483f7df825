"""A runtime for tests: its processes are values, and the test decides when and how each step ends."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence

from noa.errors import AIProviderError, ModelUnavailableError
from noa.models import Endpoint
from noa.runtime.protocol import EngineLog, EngineSpec, Journal, ProcessExit, Progress
from noa.runtime.stderr import LastLogs, StderrTail
from noa.state import ProcessGone, ProcessIntended, ProcessRecord, ProcessStarted


class FakeProcess:
    """A process that exists in this object only. It lives from its spawn, so also while it loads."""

    def __init__(self, runtime: FakeRuntime, spec: EngineSpec, pid: int, journal: Journal) -> None:
        self.spec = spec
        self.pid = pid
        self.nonce = f"{pid:016x}"
        self.endpoint = Endpoint(base_url="http://localhost/v1", socket_path=f"/nowhere/{self.nonce}.sock")
        self.log = StderrTail()
        self.log.feed(f"loading {spec.path}\n".encode())
        self._runtime = runtime
        self._journal = journal
        self._exited: asyncio.Future[ProcessExit] = asyncio.get_running_loop().create_future()
        self._settled: asyncio.Task[None] | None = None

    @property
    def exited(self) -> asyncio.Future[ProcessExit]:
        """A future of the reader's own, done when the process is gone."""
        return asyncio.shield(self._exited)

    @property
    def alive(self) -> bool:
        """Whether it runs, loaded or not."""
        return not self._exited.done()

    def memory_bytes(self) -> int | None:
        """What the test gave this model in ``FakeRuntime.memory``, or ``None`` if it is gone."""
        return self._runtime.memory.get(self.spec.key) if self.alive else None

    def log_lines(self) -> Sequence[str]:
        """Whatever the test fed to ``log``."""
        return self.log.lines()

    def crash(self, code: int = -9, error: str | None = None) -> None:
        """End it without anybody having asked."""
        if self.alive:
            sentence = error or f"{self.spec.key} stopped: it was made to crash; load the model again."
            self._gone(ProcessExit(code=code, expected=False, error=sentence))

    async def stop(self) -> None:
        """End it, once the test lets go of ``hold_stop``."""
        if not self.alive:
            return
        self._runtime.stops[self.spec.key] += 1
        await self._runtime.pass_stop(self.spec.key)
        if self.alive:
            self._gone(ProcessExit(code=-15, expected=True))
        await self.settled()

    async def settled(self) -> None:
        """Return when it is written down that the process is gone."""
        if self._settled is not None:
            await asyncio.shield(self._settled)

    def _gone(self, how: ProcessExit) -> None:
        self.log.end()
        self._exited.set_result(how)
        self._settled = asyncio.ensure_future(self._write_down())

    async def _write_down(self) -> None:
        await self._journal(ProcessGone(nonce=self.nonce))


class FakeRuntime:
    """Starts processes that are values, and keeps count.

    ``hold_start``, ``hold_stop`` and ``fail`` arrange what happens to the next start or stop of a key; ``starts``,
    ``stops`` and ``most_live`` say what did. A second live process for one key is an ``AssertionError`` in ``start``,
    and is kept in ``violations`` for tests whose engine would swallow it.
    """

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.memory: dict[str, int] = {}
        self.processes: list[FakeProcess] = []
        self._logs = LastLogs()
        self.violations: list[str] = []
        self.reaped: list[ProcessRecord] = []
        self.most_live = 0
        self._pids = itertools.count(100_000)
        self._start_holds: dict[str, asyncio.Future[None]] = {}
        self._stop_holds: dict[str, asyncio.Future[None]] = {}
        self._failures: dict[str, list[AIProviderError]] = {}
        self._closed = False

    def hold_start(self, key: str) -> asyncio.Future[None]:
        """Make starts of ``key`` wait, alive but not loaded, until the future has a result or an exception."""
        return self._start_holds.setdefault(key, asyncio.get_running_loop().create_future())

    def hold_stop(self, key: str) -> asyncio.Future[None]:
        """Make stops of ``key`` wait until the future has a result."""
        return self._stop_holds.setdefault(key, asyncio.get_running_loop().create_future())

    def fail(self, key: str, *errors: AIProviderError) -> None:
        """Make the next starts of ``key`` raise these, one each."""
        self._failures.setdefault(key, []).extend(errors)

    def live(self, key: str | None = None) -> list[FakeProcess]:
        """The processes that run now, of one model or of all."""
        return [process for process in self.processes if process.alive and key in (None, process.spec.key)]

    async def start(self, spec: EngineSpec, journal: Journal, progress: Progress) -> FakeProcess:
        """Start one as the test arranged it."""
        if self._closed:
            raise ModelUnavailableError(f"{spec.key} was not started: the manager is shutting down.")
        self.starts[spec.key] += 1
        if self.live(spec.key):
            self.violations.append(spec.key)
            raise AssertionError(f"two live processes for {spec.key}")
        process = FakeProcess(self, spec, next(self._pids), journal)
        progress("starting")
        self.processes.append(process)
        self._logs.keep(spec.key, process.log)
        self.most_live = max(self.most_live, len(self.live()))
        intended = ProcessIntended(
            key=spec.key,
            generation=spec.generation,
            nonce=process.nonce,
            socket_path=process.endpoint.socket_path or "",
        )
        try:
            await journal(intended)
            await journal(ProcessStarted(nonce=process.nonce, pid=process.pid, started_at=0.0))
            await self._load(process, progress)
        except BaseException:
            process.crash(code=1)
            await process.settled()
            raise
        return process

    async def _load(self, process: FakeProcess, progress: Progress) -> None:
        key = process.spec.key
        progress("loading")
        if (hold := self._start_holds.get(key)) is not None:
            try:
                await asyncio.shield(hold)
            finally:
                if hold.done():
                    self._start_holds.pop(key, None)
        if self._failures.get(key):
            raise self._failures[key].pop(0)
        if not process.alive:
            raise ModelUnavailableError(f"{key} was stopped before it had loaded; load it again.")
        progress("verifying")
        progress("warming-up")

    async def pass_stop(self, key: str) -> None:
        """Wait for ``hold_stop`` of this key, if there is one."""
        if (hold := self._stop_holds.get(key)) is not None:
            await asyncio.shield(hold)
            self._stop_holds.pop(key, None)

    def log(self, key: str) -> EngineLog | None:
        """The log of the last process of a model, also of one that is gone."""
        return self._logs.get(key)

    async def reap(self, left_behind: Sequence[ProcessRecord]) -> Sequence[ProcessRecord]:
        """Settle every record and remember it in ``reaped``."""
        self.reaped.extend(left_behind)
        return tuple(left_behind)

    async def aclose(self) -> None:
        """End every process."""
        self._closed = True
        for process in self.live():
            await process.stop()
