"""A machine of a user's: a folder, an environment, and ``noa`` commands run there as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil
import pytest

from noa.presets import PRESETS

NOA = (sys.executable, "-c", "from noa.cli.main import main; main()")
#: Variables of whoever runs the tests that would reach the server under test.
FOREIGN = (
    *("NOA_", "AI_", "OPENAI_", "ANTHROPIC_", "CLAUDE_", "LLAMA_CPP_", "MODEL_MANAGER_", "OLLAMA_", "PORT"),
    *(variable for preset in PRESETS for variable in (*preset.key_variables, *preset.base_url_variables)),
)


class Machine(NamedTuple):
    """Where a command runs: its folder and its environment."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def at(cls, folder: Path, **variables: str) -> Machine:
        """A machine that nobody has configured, but for these variables; its home is in the folder."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return cls(folder, {**environment, "NOA_HOME": str(folder / "home"), **variables})

    def having(self, **variables: str) -> Machine:
        """The same with more variables set."""
        return Machine(self.folder, {**self.environment, **variables})

    @property
    def models(self) -> Path:
        """The model folder, made if it is not there."""
        models = Path(self.environment["NOA_HOME"]) / "models"
        models.mkdir(parents=True, exist_ok=True)
        return models

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*NOA, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with self.start(*arguments) as command:
            stdout, stderr = command.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, command.returncode, stdout, stderr)

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[Server]:
        """Run a server (``serve``, ``demo``) until the block ends; it must then stop cleanly, unless it was killed."""
        with self.start(*arguments, "--port", "0", "--json") as process:
            try:
                yield Server(process, self.having(NOA_URL=read_listening(process)["url"]))
            finally:
                process.send_signal(signal.SIGTERM)
                _, stderr = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), stderr


class Server(NamedTuple):
    """A server that runs, and the machine as its clients see it."""

    process: subprocess.Popen[str]
    machine: Machine

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.machine.environment["NOA_URL"]

    def engines(self) -> list[psutil.Process]:
        """The processes it started for its models."""
        return psutil.Process(self.process.pid).children(recursive=True)


def read_listening(server: subprocess.Popen[str]) -> dict[str, str]:
    """The JSON that the server prints once it listens."""
    assert server.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = server.stdout.readline()
        if not line:
            assert server.stderr is not None
            pytest.fail(f"the server did not start: {server.stderr.read()}")
        text += line
    return msgspec.json.decode(text, type=dict[str, str])


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that ended and that nobody has reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # Between the two questions.
        return False


def wait_until(holds: Callable[[], bool], what: str, within_s: float = 20) -> None:
    """Return as soon as it holds; fail with ``what`` if it never does."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {within_s:.0f} s")
        time.sleep(0.02)
