"""The thread that calls the handlers of a program without an event loop."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from noa.errors import ValidationError
from noa.events import Event

logger = logging.getLogger(__name__)

PlainHandler = Callable[[Event], object]


class EventThread:
    """Calls handlers one after the other, in the order of the events.

    It is a thread of their own, so they may use the manager and take their time. One that raises is logged.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._relays: dict[tuple[str, PlainHandler], list[Callable[[Event], None]]] = {}
        self._thread: threading.Thread | None = None

    def relay(self, event_type: str, handler: PlainHandler) -> Callable[[Event], None]:
        """What to give the bus in place of ``handler``. Raises ``ValidationError`` for a coroutine function."""
        if inspect.iscoroutinefunction(handler):
            raise ValidationError("Here a handler is a plain function; coroutine functions need ModelManager itself.")

        def put(event: Event) -> None:
            self._queue.put(partial(_call, handler, event))

        self._relays.setdefault((event_type, handler), []).append(put)
        return put

    def forget(self, event_type: str, handler: PlainHandler) -> Callable[[Event], None] | None:
        """What the bus was given in place of it; ``None`` if it was given nothing."""
        relays = self._relays.get((event_type, handler))
        return relays.pop() if relays else None

    def start(self) -> None:
        """Begin to call."""
        self._thread = threading.Thread(target=self._run, name="noa-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call those that wait, and end; whoever is called does not wait for itself."""
        self._queue.put(None)
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            call()


def _call(handler: PlainHandler, event: Event) -> None:
    try:
        handler(event)
    except Exception:
        logger.exception("a handler of %r failed", event.type)
