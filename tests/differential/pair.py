"""Noa with the demo model, and beside it the bare engine with the very flags that Noa gave its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

import aiohttp

from differential.cases import MODEL, Case
from differential.outcome import Outcome, outcome
from machine import Machine, Server

#: How long an answer may take, in seconds; a prompt of thousands of words takes some.
PATIENCE = aiohttp.ClientTimeout(total=100)


class Engine(NamedTuple):
    """An engine nobody manages, listening on a socket."""

    process: subprocess.Popen[bytes]
    socket_path: str


@contextmanager
def bare_engine(arguments: list[str]) -> Iterator[Engine]:
    """Start the engine by the command line of Noa's own, on another socket and as a child of this process."""
    with TemporaryDirectory(prefix="bare-") as folder, _started(arguments, Path(folder)) as engine:
        yield engine


@contextmanager
def _started(arguments: list[str], folder: Path) -> Iterator[Engine]:
    path = str(folder / "bare.sock")
    mine = _with(arguments, {"--socket": path, "--nonce": "bare", "--parent": str(os.getpid())})
    with (folder / "bare.log").open("wb") as log:
        process = subprocess.Popen(mine, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line == b"noa-ready bare\n", (folder / "bare.log").read_text(errors="replace")
            yield Engine(process, path)
        finally:
            process.kill()


def _with(arguments: list[str], values: dict[str, str]) -> list[str]:
    flags = ["", *arguments]
    return [values.get(flag, argument) for flag, argument in zip(flags, arguments, strict=False)]


class Pair:
    """Both, asked one after the other."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self._engine = engine
        self._server = server

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._engine.socket_path, force_close=True)
        self._bare = aiohttp.ClientSession("http://engine", connector=connector, timeout=PATIENCE)
        self._noa = aiohttp.ClientSession(self._server.url, timeout=PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._bare.close()
        await self._noa.close()

    async def ask(self, case: Case) -> tuple[Outcome, Outcome]:
        """What the bare engine answers, and what Noa does."""
        return await _ask(self._bare, case), await _ask(self._noa, case)


async def _ask(session: aiohttp.ClientSession, case: Case) -> Outcome:
    headers = {"Content-Type": "application/json"}
    async with session.post(case.path, data=case.body, headers=headers) as response:
        return outcome(response.status, response.headers.get("content-type", ""), await response.read())


@contextmanager
def both(machine: Machine, model: Path) -> Iterator[tuple[Engine, Server]]:
    """Start Noa with the demo model loaded, and the bare engine."""
    (machine.models / f"{MODEL}.gguf").hardlink_to(model)
    with machine.serving("demo") as server:
        [engine] = server.engines()
        with bare_engine(engine.cmdline()) as bare:
            yield bare, server
