"""Processes that are measured from outside: started, watched for what they take, and ended with all their children."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import msgspec
import psutil

from bench.load_plan import LoadPlan, LoadResult
from bench.stream_client import WrongAnswerError

ROOT = Path(__file__).parents[1]
_INHERITED = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_STOP_S = 20.0
_LOAD_S = 900.0


class Process:
    """A process, with every process it has started."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        self._unread = b""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(  # noqa: S603  # Lists of our own making.
                list(command),
                cwd=folder,
                env={**inherited, "HOME": str(folder), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def line(self, within_s: float = 60.0) -> str:
        """The next line of its standard output. Raises ``WrongAnswerError`` if none comes."""
        assert self._popen.stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._unread:
            left_s = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._popen.stdout], [], [], left_s)
            piece = os.read(self._popen.stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise WrongAnswerError(f"{self._popen.args!r} said nothing: {self.last_words()}")
            self._unread += piece
        text, _, self._unread = self._unread.partition(b"\n")
        return text.decode()

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n".encode())
        self._popen.stdin.flush()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._popen.poll() is None

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-1500:]

    def cpu_s(self) -> float:
        """The processor time that it and its children have taken so far, in seconds."""
        spent = 0.0
        for each in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                spent += times.user + times.system
        return spent

    def memory_bytes(self) -> int:
        """What it and its children hold in memory; what they share with each other counts once."""
        held = 0
        for each in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                full = each.memory_full_info()
                held += getattr(full, "pss", full.rss)
        return held

    def end(self) -> None:
        """End it and whatever it has started."""
        family = self._family()
        if self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGTERM)
        try:
            self._popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for each in psutil.wait_procs(family, timeout=2)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        if self._popen.stdout is not None:
            self._popen.stdout.close()

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._popen.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def end_with_us() -> None:
    """Have a SIGTERM to this process unwind it, so that whatever it has started ends with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def running(process: Process) -> Iterator[Process]:
    """End the process with the block."""
    try:
        yield process
    finally:
        process.end()


@contextmanager
def service(folder: Path, models: int = 0) -> Iterator[tuple[Process, int]]:
    """The scripted service, which lists so many models more than it needs, and its port."""
    command = [sys.executable, "-m", "bench.scripted_service", str(models)]
    with running(_own(command, folder, "service")) as process:
        yield process, int(process.line())


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A load that was sent, and what the measured process and the service took meanwhile, in seconds of a processor."""

    result: LoadResult
    cpu_s: float
    service_cpu_s: float

    @property
    def cpu_us(self) -> float:
        """Microseconds of a processor that each request took of the one that was measured."""
        return self.cpu_s / self.result.requests * 1e6

    @property
    def busiest_helper(self) -> float:
        """How busy the busier one of generator and service was, 1 being a whole processor."""
        return max(self.result.cpu_s, self.service_cpu_s) / self.result.seconds


@contextmanager
def loaded(plan: LoadPlan, measured: Process, upstream: Process, folder: Path) -> Iterator[Loaded]:
    """Send a load. Its connections stay open until the block ends. Raises ``WrongAnswerError`` for a wrong answer."""
    command = [sys.executable, "-m", "bench.load_generator", msgspec.json.encode(plan).decode()]
    with running(_own(command, folder, "generator")) as generator:
        generator.line(_LOAD_S)
        before, service_before = measured.cpu_s(), upstream.cpu_s()
        generator.say("go")
        result = msgspec.json.decode(generator.line(_LOAD_S), type=LoadResult)
        if result.wrong is not None:
            raise WrongAnswerError(f"{result.wrong}\n{measured.last_words()}")
        yield Loaded(result=result, cpu_s=measured.cpu_s() - before, service_cpu_s=upstream.cpu_s() - service_before)


def wait_until_answered(plan: LoadPlan, process: Process, within_s: float) -> None:
    """Ask until the answer is right. Raises ``WrongAnswerError`` if that does not come about."""
    deadline = time.monotonic() + within_s
    seen = "nobody answered"
    while time.monotonic() < deadline and process.is_running:
        connection = HTTPConnection("127.0.0.1", plan.port, timeout=within_s)
        try:
            connection.request("POST", plan.path, plan.body, {"Content-Type": "application/json", **plan.headers})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200 and plan.marker.encode() in body:
                return
            seen = f"{answer.status}: {body[:300]!r}"
        except (OSError, HTTPException) as error:
            seen = repr(error)
        finally:
            connection.close()
        time.sleep(0.01)
    raise WrongAnswerError(f"it did not come to answer; {seen}\n{process.last_words()}")


def _own(command: Sequence[str], folder: Path, name: str) -> Process:
    environment = {"PYTHONPATH": str(ROOT)}
    return Process(command, environment=environment, folder=folder, log=folder / f"{name}.log")
