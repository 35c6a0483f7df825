"""Progress on stderr: a redrawn bar on a terminal, and a line now and then where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from noa.cli.terminal import byte_size, interactive, note, printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

#: The phases of a load, in their order; the words of ``noa.runtime.protocol.Progress``.
PHASES = ("starting", "loading", "verifying", "warming-up")
#: A transfer without a terminal says where it is after each such part of the whole.
STEP = 0.25


class _Bar:
    """A bar that is drawn while the context lasts, if stderr is a terminal. ``columns`` makes its parts when it is."""

    def __init__(self, title: str, columns: Callable[[], tuple[ProgressColumn, ...]]) -> None:
        self._title = printable(title)
        self._columns = columns
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if interactive(sys.stderr):
            from rich.console import Console  # here, so that nobody without a terminal pays for it
            from rich.progress import Progress

            progress = Progress(*self._columns(), console=Console(file=sys.stderr), transient=True)
            self._progress = self._stack.enter_context(progress)
            self._task = progress.add_task(self._title, total=None, phase="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        self._progress = None

    def _draw(self, completed: int, total: int | None, phase: str = "") -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=completed, total=total, phase=phase)


class PhaseBar(_Bar):
    """The phases of a load."""

    def __init__(self, title: str) -> None:
        super().__init__(title, _phase_columns)
        self._shown: str | None = None

    def phase(self, phase: str) -> None:
        """The load has come to this phase."""
        if phase == self._shown:
            return
        self._shown = phase
        if self._progress is None:
            note(f"{self._title}: {phase}")
        else:
            completed = PHASES.index(phase) if phase in PHASES else 0
            self._draw(completed, len(PHASES), printable(phase))


class ByteBar(_Bar):
    """A transfer of bytes."""

    def __init__(self, title: str) -> None:
        super().__init__(title, _byte_columns)
        self._next_step = STEP

    def advance(self, done: int, total: int | None) -> None:
        """So many bytes have arrived, of so many if that is known."""
        if self._progress is not None:
            self._draw(done, total)
        elif total and done / total >= self._next_step:
            self._next_step = done / total // STEP * STEP + STEP
            note(f"{self._title}: {byte_size(done)} of {byte_size(total)}")


class CountBar(_Bar):
    """So many of so many."""

    def __init__(self, title: str) -> None:
        super().__init__(title, _count_columns)
        self._shown: str | None = None

    def advance(self, done: int, total: int, phase: str) -> None:
        """So many of so many are done, and this is the phase of the work."""
        if self._progress is not None:
            self._draw(done, total, printable(phase))
        elif phase != self._shown:
            self._shown = phase
            note(f"{self._title}: {phase}")


def _phase_columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    title = TextColumn("{task.description}", markup=False)
    return SpinnerColumn(), title, BarColumn(16), TextColumn("{task.fields[phase]}", markup=False), TimeElapsedColumn()


def _byte_columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    title = TextColumn("{task.description}", markup=False)
    return title, BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()


def _count_columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    title, phase = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[phase]}", markup=False)
    return title, BarColumn(24), MofNCompleteColumn(), phase, TimeElapsedColumn()
