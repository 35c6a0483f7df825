"""An event loop on a thread of its own, for programs without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from noa.errors import ConfigurationError

T = TypeVar("T")

#: How many items of a stream may have come before anybody took them.
_AHEAD: Final = 8


class LoopThread:
    """Runs coroutines for other threads, and waits for them there.

    It neither keeps the interpreter from ending nor outlives it. Ctrl-C while somebody waits cancels what is waited
    for, and is raised once that has ended.
    """

    def __init__(self, name: str = "noa") -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a loop that takes work."""
        return self._loop is not None

    @property
    def is_here(self) -> bool:
        """Whether the caller is on this very thread, where waiting for it would wait for ever."""
        return threading.current_thread() is self._thread

    def start(self) -> None:
        """Start it. Twice does nothing more."""
        if self.runs:
            return
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=_run_loop, args=(started,), name=self._name, daemon=True)
        self._thread.start()
        self._loop = started.result()

    def stop(self) -> None:
        """Cancel what still runs, and wait until the thread has ended. Twice does nothing more."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it there and return what it returns. Raises ``ConfigurationError`` where that cannot be."""
        try:
            loop = self._willing_loop()
        except ConfigurationError:
            coroutine.close()
            raise
        outcome: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(partial(_hand_over, outcome))

        def give_up() -> None:
            for task in tasks:
                task.cancel()
            if not tasks:  # It was interrupted before it had begun.
                coroutine.close()
                outcome.cancel()

        try:
            loop.call_soon_threadsafe(begin)
            return outcome.result()
        except BaseException:
            if not outcome.done():
                # Only the waiting was interrupted. What was waited for lets go of everything first.
                loop.call_soon_threadsafe(give_up)
                with suppress(Exception):
                    outcome.result()
            raise

    def call(self, function: Callable[[], T]) -> T:
        """Call a function there, between two steps of whatever runs, and return what it returns."""

        async def called() -> T:
            return function()

        return self.run(called())

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function there without waiting for it, if there is a loop."""
        with suppress(RuntimeError):  # The loop has ended in this very moment.
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def iterate(self, source: AsyncGenerator[T, None]) -> BlockingStream[T]:
        """What an asynchronous generator yields, for a plain ``for``. It begins at once."""
        items: asyncio.Queue[T | _End] = asyncio.Queue(_AHEAD)
        # One task reads it all, since a generator may hold what only the task that began it may let go of.
        return BlockingStream(self, items, self.call(lambda: asyncio.ensure_future(_read(source, items))))

    def _willing_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise ConfigurationError("The manager is not running; use it with “with”, or call initialize() first.")
        if self.is_here:
            raise ConfigurationError("Noa's own thread cannot wait for itself; call the manager from another thread.")
        return self._loop


class BlockingStream(Iterator[T], Generic[T]):
    """What an asynchronous generator yields, as a plain iterator.

    Leaving it (``close``, ``with``, or simply nobody having it any more) ends the work that is done for it.
    """

    def __init__(self, thread: LoopThread, items: asyncio.Queue[T | _End], reader: asyncio.Task[None]) -> None:
        self._thread = thread
        self._items = items
        self._reader = reader
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        try:
            item = self._thread.run(self._items.get())
        except BaseException:
            self._ended = True
            self._thread.soon(self._reader.cancel)
            raise
        if not isinstance(item, _End):
            return item
        self._ended = True
        if item.error is not None:
            raise item.error
        raise StopIteration

    def close(self) -> None:
        """Leave it. Twice does nothing more."""
        self._ended = True
        if self._thread.runs and not self._thread.is_here:
            self._thread.run(_cancelled(self._reader))
        else:
            self._thread.soon(self._reader.cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Whichever thread this is, it must not wait.
        self._thread.soon(self._reader.cancel)


class _End:
    """The end of a stream, and what broke it off if something did."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


async def _read(source: AsyncGenerator[T, None], items: asyncio.Queue[T | _End]) -> None:
    end = _End()
    try:
        async with aclosing(source):
            async for item in source:
                await items.put(item)
    except Exception as error:  # noqa: BLE001  # whoever reads the stream is told
        end = _End(error)
    await items.put(end)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _hand_over(outcome: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        outcome.set_exception(ConfigurationError("The manager was stopped while this was under way."))
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


def _run_loop(started: Future[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner() as runner:  # Leaving it cancels every task, and ends every generator.
        loop = runner.get_loop()
        loop.call_soon(started.set_result, loop)
        loop.run_forever()
