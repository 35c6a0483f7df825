"""A profile while it is being made: how it is stopped, and what the model's process takes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from noa.measurement.profile import Profiler
from noa.measurement.summary import ProfileMetrics

#: How often the memory of a model's process is looked at.
MEMORY_INTERVAL_S = 0.25


class RunningProfile:
    """A profile that is being made. ``end`` stops it early, and it then ends with what it has."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.metrics: ProfileMetrics | None = None
        self._work: asyncio.Task[None] | None = None
        self._wanted = True

    async def carry_out(self, profiler: Profiler) -> None:
        """Run it to its end, or until somebody stops it. Cancelling the caller cancels it too."""
        self._work = asyncio.ensure_future(profiler.run())
        if not self._wanted:
            self._work.cancel()
        try:
            await self._work
        except asyncio.CancelledError:
            if self._wanted:
                raise
        finally:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    def end(self) -> None:
        """Stop it."""
        self._wanted = False
        if self._work is not None:
            self._work.cancel()


class MemoryWatch:
    """Looks at a process's memory now and then while the context lasts."""

    def __init__(self, look: Callable[[], int | None]) -> None:
        self.last_bytes: int | None = None
        self.peak_bytes: int | None = None
        self._look = look
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watcher = asyncio.ensure_future(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        self._note()

    async def _watch(self) -> None:
        while True:
            self._note()
            await asyncio.sleep(MEMORY_INTERVAL_S)

    def _note(self) -> None:
        self.last_bytes = self._look()
        if self.last_bytes is not None:
            self.peak_bytes = max(self.last_bytes, self.peak_bytes or 0)
