"""From methods that are awaited to methods that wait, their signatures kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from noa.manager.loop_thread import BlockingStream, LoopThread

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """Something that lives on a loop's thread, as another thread has it."""

    def __init__(self, thread: LoopThread, target: object) -> None:
        self._thread = thread
        self._target = target


def waits(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Blocking, P], T]:
    """A coroutine method, as one that returns when it is done."""

    @wraps(method)
    def wait(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._target, *args, **kwargs))

    return wait


def reads(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Blocking, P], T]:
    """A plain method, called where nothing changes meanwhile."""

    @wraps(method)
    def read(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.call(lambda: method(self._target, *args, **kwargs))

    return read


def iterates(
    method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Blocking, P], BlockingStream[T]]:
    """A method that gives an asynchronous generator, as one that gives a plain iterator."""

    @wraps(method)
    def iterate(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> BlockingStream[T]:
        return self._thread.iterate(method(self._target, *args, **kwargs))

    return iterate
