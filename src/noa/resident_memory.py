"""What the engines' processes take of memory, read where it delays nobody.

To read it is to go through every process of the machine for those that an engine may have started, which takes a
millisecond or more. So a thread does that every few seconds, and whoever asks gets the last figure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from noa.runtime.protocol import EngineProcess


class ResidentMemory:
    """The last figure of every process that runs, in bytes. ``look`` is to be called every few seconds."""

    def __init__(self, running: Callable[[], Iterable[EngineProcess]]) -> None:
        self._running = running
        self._figures: dict[int, int] = {}

    def of(self, process: EngineProcess) -> int | None:
        """What it took when it was last read. Only the first time is it read at once; ``None`` if it is gone then."""
        if process.pid not in self._figures:
            self._note(process, process.memory_bytes())
        return self._figures.get(process.pid)

    async def look(self) -> None:
        """Read it of every process that runs, and forget those that are gone."""
        for process in tuple(self._running()):
            self._note(process, await asyncio.to_thread(process.memory_bytes))
        running = {process.pid for process in self._running()}
        self._figures = {pid: figure for pid, figure in self._figures.items() if pid in running}

    def _note(self, process: EngineProcess, size_bytes: int | None) -> None:
        if size_bytes is not None:
            self._figures[process.pid] = size_bytes
