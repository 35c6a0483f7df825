"""What happened, in order: events and the bus that carries them.

``docs/events.md`` has the table of them all. Names and data fields are the quick start's (``model-loaded``,
``model-switched`` …), the fields in snake_case.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

#: How many past events a late or returning listener can still be given.
REPLAY_LIMIT = 1024
#: How many events may wait for one slow listener before it is cut off (it can return by sequence).
LISTENER_BACKLOG = 4096


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``sequence`` grows by one with each event of a manager.

    What ``data`` holds depends on the type: ``docs/events.md`` has the table.
    """

    type: str
    sequence: int
    time: datetime
    data: Mapping[str, Any]


Handler = Callable[[Event], Awaitable[None] | None]


class EventBus:
    """Hands each event to whoever asked for its type, later and in order, never inside the publisher's call.

    A handler that raises is logged and keeps its subscription; it disturbs neither the publisher nor other handlers.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._handlers: dict[str, list[Handler]] = {}
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._recent: deque[Event] = deque(maxlen=REPLAY_LIMIT)
        self._sequence = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def sequence(self) -> int:
        """The sequence number of the newest event, 0 before the first."""
        return self._sequence

    def on(self, event_type: str, handler: Handler) -> None:
        """Call ``handler`` (a function or a coroutine function) with each event of this type; ``*`` means all."""
        self._handlers.setdefault(event_type, []).append(handler)

    def off(self, event_type: str, handler: Handler) -> None:
        """Stop calling ``handler``. Unknown pairs are ignored."""
        handlers = self._handlers.get(event_type, [])
        if handler in handlers:
            handlers.remove(handler)

    def publish(self, event_type: str, data: Mapping[str, object]) -> Event:
        """Number and date an event, and schedule its delivery."""
        self._sequence += 1
        event = Event(type=event_type, sequence=self._sequence, time=self._clock(), data=dict(data))
        self._recent.append(event)
        for queue in tuple(self._listeners):
            self._offer(queue, event)
        handlers = [*self._handlers.get(event_type, ()), *self._handlers.get("*", ())]
        if handlers:
            loop = asyncio.get_running_loop()
            for handler in handlers:
                loop.call_soon(self._deliver, handler, event)
        return event

    async def listen(self, after: int | None = None) -> AsyncIterator[Event]:
        """Yield events as they come; with ``after``, first those remembered whose sequence is greater.

        Ends when the bus closes, or when this listener falls so far behind that it would hold memory without bound.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=LISTENER_BACKLOG)
        past = [] if after is None else [event for event in self._recent if event.sequence > after]
        self._listeners.add(queue)
        try:
            for event in past:
                yield event
            while (queued := await queue.get()) is not None:
                yield queued
        finally:
            self._listeners.discard(queue)

    async def aclose(self) -> None:
        """End every listener and wait for handlers that still run."""
        for queue in tuple(self._listeners):
            self._end(queue)
        await asyncio.sleep(0)
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _offer(self, queue: asyncio.Queue[Event | None], event: Event) -> None:
        if queue.qsize() >= LISTENER_BACKLOG - 1:
            logger.warning("an event listener fell %d events behind and was cut off", LISTENER_BACKLOG)
            self._listeners.discard(queue)
            self._end(queue)
        else:
            queue.put_nowait(event)

    @staticmethod
    def _end(queue: asyncio.Queue[Event | None]) -> None:
        if not queue.full():
            queue.put_nowait(None)

    def _deliver(self, handler: Handler, event: Event) -> None:
        try:
            result = handler(event)
        except Exception:
            logger.exception("a handler of %r failed", event.type)
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(self._finish(result, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _finish(result: Awaitable[None], event: Event) -> None:
        try:
            await result
        except Exception:
            logger.exception("a handler of %r failed", event.type)
