"""``noa serve`` in a process of its own, with a home that nobody has used."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.stream_client import WrongAnswerError, call, events, tcp
from noa.runtime import llama_server

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
_STOP_S = 30.0


class Moment(NamedTuple):
    """When an event happened (``time.time``), and which."""

    at: float
    name: str


class NoaServer:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._port = port
        self._process = process
        self._seen = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def connection(self) -> http.client.HTTPConnection:
        """A connection that is kept alive and has been used, just now since the server closes idle ones."""
        connection = tcp(self._port)
        call(connection, "GET", "/api/v1/status/live", None)
        return connection

    def manage(self, action: str, **fields: object) -> float:
        """``POST /api/v1/models/<action>``; returns when it is done, with the seconds that took."""
        with closing(self.connection()) as connection:
            began = time.perf_counter()
            call(connection, "POST", f"/api/v1/models/{action}", fields)
            return time.perf_counter() - began

    def moments(self) -> list[Moment]:
        """What happened since this was last asked, up to the end of a request. Read afterwards, it slows nothing."""
        happened = []
        with closing(self.connection()) as connection:
            for event in events(connection, "/api/v1/events", self._seen):
                self._seen = event["sequence"]
                happened.append(Moment(datetime.fromisoformat(event["time"]).timestamp(), _name(event)))
                if event["type"] == "inference-complete":
                    break
        return happened

    def engine(self) -> llama_server.Arguments:
        """What the one engine that runs was started with. Raises ``WrongAnswerError`` unless there is one."""
        running = psutil.Process(self._process.pid).children()
        if len(running) != 1:
            raise WrongAnswerError(f"{len(running)} engines run where one should")
        words = running[0].cmdline()
        return llama_server.parse(words[words.index("--model") :])


@contextmanager
def serving(home: Path) -> Iterator[NoaServer]:
    """Run the server until the block ends."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    with (home.parent / "noa.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from noa.cli.main import main; main()", "serve", "--port", "0", "--json"],
            cwd=home,
            env={**environment, "NOA_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        yield NoaServer(process, _port_of(process, home.parent / "noa.log"))
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"}\n"):
        line = process.stdout.readline()
        if not line:
            raise WrongAnswerError(f"the server did not start: {log.read_text()[-2000:]}")
        text += line
    url: str = json.loads(text)["url"]
    return int(url.rpartition(":")[2])


def _name(event: Mapping[str, Any]) -> str:
    phase = event["data"].get("phase")
    return f"{event['type']} {phase}" if phase else event["type"]
