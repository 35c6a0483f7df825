"""What runs local models, to the rest of Noa: a runtime starts engine processes and owns each until it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from noa.models import Endpoint
from noa.state import ProcessGone, ProcessIntended, ProcessRecord, ProcessStarted

#: Writes down what is about to happen to a process, and returns when that is durable.
Journal = Callable[[ProcessIntended | ProcessStarted | ProcessGone], Awaitable[None]]
#: Told of each phase of a start ("starting", "loading", "verifying", …) for whoever waits.
Progress = Callable[[str], None]


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One engine process to start.

    ``alias`` is the model's name as the engine reports it. ``context_size`` is in tokens per slot, ``slots`` is how
    many requests it serves at once, ``gpu_layers`` is how many layers go to the GPU (``None``: as many as fit), and
    ``cache_type`` is what keys and values are kept as (``llama_server.CACHE_TYPES``). An ``embedding`` model sees each
    text as a whole, unless its vector is that of the ``last_token``. ``maps`` the file, instead of reading it.
    """

    key: str
    generation: int
    path: str
    alias: str
    context_size: int
    slots: int = 1
    threads: int = 1
    gpu_layers: int | None = None
    cache_type: str = "f16"
    embedding: bool = False
    last_token: bool = False
    maps: bool = True


class ProcessExit(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended. ``code`` is its exit code, negative for a signal; ``error`` says why, from its own words."""

    code: int
    expected: bool
    error: str | None = None


class EngineLog(Protocol):
    """What a process wrote to standard error, which may be gone by now."""

    def lines(self) -> Sequence[str]:
        """The last lines, oldest first."""
        ...

    def follow(self, last: int | None = None) -> AsyncGenerator[str, None]:
        """The last lines (so many at most), then each as it is written, until the process ends."""
        ...


class EngineProcess(Protocol):
    """A running engine of ours, proven to be it and to answer."""

    @property
    def spec(self) -> EngineSpec:
        """What it was started as."""
        ...

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def pid(self) -> int: ...

    @property
    def exited(self) -> asyncio.Future[ProcessExit]:
        """Done when the process is gone and reaped, for whatever reason."""
        ...

    def memory_bytes(self) -> int | None:
        """Resident memory now, or ``None`` if it is gone."""
        ...

    def log_lines(self) -> Sequence[str]:
        """The last lines the engine wrote to standard error."""
        ...

    async def stop(self) -> None:
        """End it (terminate, then kill the group) and return when it is gone. Records first that it was asked to."""
        ...


class Runtime(Protocol):
    """Starts engines."""

    async def start(self, spec: EngineSpec, journal: Journal, progress: Progress) -> EngineProcess:
        """Start one and return when it has answered a token.

        Raises ``ModelLoadError`` with what the engine said and what to do. Cancelling it ends the process.
        """
        ...

    def log(self, key: str) -> EngineLog | None:
        """The log of the last process of a model, also of one that is loading, has failed or is gone."""
        ...

    async def reap(self, left_behind: Sequence[ProcessRecord]) -> Sequence[ProcessRecord]:
        """End what a predecessor left running, recognised beyond doubt, and return the records that are settled."""
        ...

    async def aclose(self) -> None:
        """End every process it started."""
        ...
