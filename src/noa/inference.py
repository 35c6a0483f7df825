"""Requests as their callers see them: admitted, served by whoever can, measured, released."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from noa.attempt import Attempt, Attempted
from noa.chat import ChatEvent, ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest
from noa.engine import DEFAULT_WAIT_S, Engine
from noa.errors import AIProviderError
from noa.events import EventBus
from noa.failover import Failover
from noa.lease import Lease
from noa.lifecycle.aliases import CURRENT
from noa.live_figures import LiveFigures
from noa.models import ModelInfo
from noa.selection.faults import NOT_TAKEN, Fault, judge, judge_admission
from noa.selection.needs import needs_of
from noa.selection.retries import Again, GiveUp
from noa.selection.wish import Wish
from noa.state import RequestRecord
from noa.storage.protocol import UsageStore
from noa.tracing import Tracing

T = TypeVar("T")
#: The operation that is no inference, and in no figure.
COUNTING = "count_tokens"

#: Asking the system for each name costs more than all else that a request's name takes: it lets other threads in.
_ids = random.Random()  # noqa: S311  # A name, and no secret.
#: Told of every request once it is over.
Observer = Callable[[RequestRecord], None]
#: Gives the names to try for a request, in order, where its own name leaves that open; else none.
Route = Callable[[str | None, str, Callable[[], Wish]], Sequence[str]]


class Inference:
    """Admits requests and keeps the live figures of what they took."""

    def __init__(self, engine: Engine, usage: UsageStore, events: EventBus, failover: Failover, *, track: bool) -> None:
        self.failover = failover
        self.tracing: Tracing | None = None
        self.figures = LiveFigures(engine.registry, track=track)
        self._engine = engine
        self._usage = usage
        self._events = events
        self._observers: list[Observer] = []
        self._route: Route | None = None

    def route_by(self, route: Route) -> None:
        """Have names that leave it open whom to ask resolved by this."""
        self._route = route

    def observe(self, observer: Observer) -> None:
        """Have every finished request told."""
        self._observers.append(observer)

    def serve(
        self,
        name: str | None,
        operation: str,
        *,
        request_id: str | None = None,
        streamed: bool = False,
        wait_s: float = DEFAULT_WAIT_S,
        within: int | None = None,
        candidates: Sequence[str] = (),
        failover: bool = True,
        needs: Callable[[], Wish] | None = None,
        caller: str | None = None,
    ) -> Serving:
        """Use a model for one request: ``async with inference.serve("current", "chat") as serving: …``.

        ``name`` is a key, an alias or a bare id (``None``: ``current``); it is loaded if need be. ``operation`` is
        ``chat``, ``completion``, ``embeddings`` or ``count_tokens``. Entering raises what is wrong with the name, or
        keeps the model from serving. ``candidates``, where given, are the names to try in this order instead of
        ``name`` and its configured fallbacks. ``failover=False`` asks this very model, once. ``wait_s`` is the time
        within which the request must have found its model, all attempts together. ``needs`` says what the request
        asks of a model, where Noa has to choose one; that raises when nobody can be chosen. ``caller`` is the name of
        the key it came with.
        """
        request_id = request_id or new_request_id()
        lined_up = candidates or self._line_up(name, failover, request_id, needs or partial(needs_of, operation))
        return Serving(
            self._engine,
            self.failover,
            self._finished,
            lined_up,
            operation,
            asked=candidates[0] if candidates else name,
            request_id=request_id,
            streamed=streamed,
            wait_s=wait_s,
            within=within,
            persists=failover,
            caller=caller,
            tracing=self.tracing,
        )

    async def hold(
        self, name: str | None, *, wait_s: float = DEFAULT_WAIT_S, priority: int = 0, failover: bool = True
    ) -> Lease:
        """A lease: the model is loaded, and stays until the lease is released. A fallback's, if it cannot be had.

        Raises what is wrong with the model that was asked for, or, where Noa chose, with the best.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        told: AIProviderError | None = None
        for candidate in self._line_up(name, failover, new_request_id(), partial(needs_of, "chat")):
            try:
                found = await self._engine.find(candidate)
                left_s = max(0.0, deadline - loop.time())
                return await self._engine.acquire(found, hold=True, wait_s=left_s, priority=priority)
            except AIProviderError as error:
                told = error if told is None or candidate == name else told
                if candidate == name and judge_admission(error) not in NOT_TAKEN:
                    break
        assert told is not None
        raise told

    def fallbacks(self, name: str | None) -> Sequence[str]:
        """Where requests for a name go that its model does not take."""
        if not self.failover.has_fallbacks:
            return ()
        asked = found = name or CURRENT
        with suppress(AIProviderError):
            found = self._engine.resolve(name)
        key = self._engine.aliases.get(found, found)
        others = self.failover.fallbacks(asked, found, key)
        return [other for other in others if other not in (asked, found, key)]

    def _line_up(
        self, name: str | None, failover: bool, request_id: str, needs: Callable[[], Wish]
    ) -> Sequence[str | None]:
        routed = self._route(name, request_id, needs) if self._route is not None else ()
        if not failover:
            return routed[:1] or (name,)
        return (*(routed or (name,)), *self.fallbacks(name))

    def _finished(self, attempted: Attempted) -> None:
        record = attempted.record
        self.failover.ended(attempted)
        registry = self._engine.registry
        registry.touch(record.key, record.at)
        if record.operation == COUNTING:
            return
        self.figures.count(record)
        self._usage.record(record)
        for observer in self._observers:
            observer(record)
        data = {
            "model_key": record.key,
            "latency": record.latency_ms,
            "tokens_generated": record.completion_tokens,
            "cost_usd": record.cost_usd,
            "success": record.success,
            "request_id": record.request_id,
            "operation": record.operation,
            "ttft_ms": record.ttft_ms,
            "queue_ms": record.queue_ms,
            "overhead_ms": record.overhead_ms,
            "error": record.error_code,
        }
        self._events.publish("inference-complete", data)


class Serving:
    """A request that is being served, by whoever can. Leaving it releases everything, whatever happened.

    Entering admits it to the first of its candidates that can be had. ``complete``, ``embed``, ``stream`` and ``carry``
    go on to the next one as long as nobody has worked on the request and nothing of an answer was handed on. What is
    raised in the end is what the model that was asked for said, unless a later one has failed in the midst of its work.

    ``asked`` is the candidate that the caller meant. All others are fallbacks; where Noa chose, all are.
    """

    def __init__(
        self,
        engine: Engine,
        failover: Failover,
        finished: Callable[[Attempted], None],
        candidates: Sequence[str | None],
        operation: str,
        *,
        asked: str | None,
        request_id: str,
        streamed: bool,
        wait_s: float,
        within: int | None,
        persists: bool,
        caller: str | None,
        tracing: Tracing | None,
    ) -> None:
        self.request_id = request_id
        self.attempts = 0
        self.spent = False
        self._engine = engine
        self._failover = failover
        self._finished = finished
        self._candidates = list(candidates)
        self._operation = operation
        self._streamed = streamed
        self._wait_s = wait_s
        self._within = within
        self._persists = persists
        self._caller = caller
        self._tracing = tracing
        self._attempt: Attempt | None = None
        self._asked = asked
        self._name = self._candidates[0]
        self._is_fallback = False
        self._repeats = 0
        self._deadline = 0.0
        self._told_by: str | None = None
        self._failed: tuple[AIProviderError, str | None] | None = None

    async def __aenter__(self) -> Self:
        self._deadline = asyncio.get_running_loop().time() + self._wait_s
        self._failover.request()
        self._choose()
        await self._admit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(error)

    @property
    def attempt(self) -> Attempt:
        """The attempt that is being made."""
        if self._attempt is None:
            raise RuntimeError("this request is not admitted; enter it with “async with”")
        return self._attempt

    @property
    def lease(self) -> Lease:
        """The lease it runs on."""
        return self.attempt.lease

    @property
    def key(self) -> str:
        """The model that serves."""
        return self.attempt.key

    @property
    def model(self) -> ModelInfo:
        """What is known of the model that serves."""
        return self.attempt.model

    @property
    def told_by(self) -> str | None:
        """Whose word the caller gets: the model that serves, or the one whose error was raised; ``None`` in between."""
        return self._told_by if self._attempt is None else self._attempt.key

    async def carry(self, work: Callable[[Attempt], Awaitable[T]], *, bound: Callable[[], bool] | None = None) -> T:
        """Do ``work`` with the model that was admitted, and again with the next one as long as that may be.

        It may not once ``bound`` says that the caller was told who serves.
        """
        while True:
            try:
                return await work(self.attempt)
            except AIProviderError as error:
                await self._after(error, bound)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """A whole answer."""
        return await self.carry(lambda attempt: attempt.complete(request))

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Vectors."""
        return await self.carry(lambda attempt: attempt.embed(request))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """An answer as it is made."""
        while True:
            try:
                async with aclosing(self.attempt.stream(request)) as events:
                    async for event in events:
                        yield event
            except AIProviderError as error:
                await self._after(error, None)
            else:
                return

    # One attempt after the other.

    async def _after(self, error: AIProviderError, bound: Callable[[], bool] | None) -> None:
        """An attempt has failed: make the next one, or raise what the caller is told."""
        attempt = self.attempt
        await self._end(error)
        if attempt.answered or (bound is not None and bound()):
            raise error
        await self._go_on(error, judge(error), attempt.key, told_by=attempt.key)
        await self._admit(previous=(attempt.key, error))

    async def _go_on(self, error: AIProviderError, fault: Fault, key: str, *, told_by: str | None) -> None:
        """Choose what to try next, and return when it is time to. Raises what the caller is told if nothing is."""
        self._told_by = None
        if self._failed is None or not self._is_fallback:
            self._failed = (error, told_by)
        left_s = self._deadline - asyncio.get_running_loop().time() if self._persists else 0.0
        step = self._failover.after(
            fault,
            error,
            key=key,
            others=[self._key_of(name) for name in self._candidates],
            is_fallback=self._is_fallback,
            repeats=self._repeats,
            left_s=left_s,
        )
        if isinstance(step, GiveUp):
            self.spent = step.spent
            # A fallback that did not take it either has nothing to say to who asked for another model.
            taken = not self._is_fallback or not (fault in NOT_TAKEN or fault is Fault.DENIED)
            told, self._told_by = (error, told_by) if taken else self._failed
            raise told
        self._failover.again()
        if isinstance(step, Again):
            self._repeats += 1
            await asyncio.sleep(step.pause_s)
        else:
            self._choose()

    async def _admit(self, previous: tuple[str, AIProviderError] | None = None) -> None:
        """Have the chosen model, or the next one as long as it cannot be had."""
        while True:
            self.attempts += 1
            turned_to_at = time.perf_counter()
            # The model is asked from now on as far as its breakers go, lest all who wait become its probe at once.
            key = self._key_of(self._name)
            began_at = self._failover.begin(key)
            asked_at = time.perf_counter()
            try:
                lease = await self._acquire()
            except AIProviderError as error:
                self._failover.unadmitted(key, began_at, error)
                await self._go_on(error, judge_admission(error), key, told_by=None)
                previous = (key, error)
                continue
            except asyncio.CancelledError:
                self._failover.unadmitted(key, began_at)
                raise
            queue_s = time.perf_counter() - asked_at
            if lease.key != key:
                self._failover.unadmitted(key, began_at)
                began_at = self._failover.begin(lease.key)
            tracing = self._tracing
            self._attempt = Attempt(
                lease,
                request_id=self.request_id,
                operation=self._operation,
                streamed=self._streamed,
                number=self.attempts,
                began_at=began_at,
                turned_to_at=turned_to_at,
                queue_s=queue_s,
                caller=self._caller,
                span=None if tracing is None else tracing.begin(self._operation, lease.key, queue_s),
            )
            if previous is not None and previous[0] != lease.key:
                self._failover.moved(self.request_id, previous[0], lease.key, previous[1], self.attempts)
            return

    async def _acquire(self) -> Lease:
        found = await self._engine.find(self._name)
        left_s = max(0.0, self._deadline - asyncio.get_running_loop().time())
        # Only the model that was asked for is held by a lease of the caller's own.
        within = None if self._is_fallback else self._within
        return await self._engine.acquire(found, wait_s=left_s, within=within)

    def _choose(self) -> None:
        """Take the next candidate: the first that is ready, or else the least bad."""
        index = 0
        if len(self._candidates) > 1:
            keys = [self._key_of(name) for name in self._candidates]
            index, _ = self._failover.choose(keys)
            if index and self.attempts == 0:
                self._failover.moved(self.request_id, keys[0], keys[index], None, 1)
        self._name = self._candidates.pop(index)
        self._is_fallback = self._name != self._asked
        self._repeats = 0

    def _key_of(self, name: str | None) -> str:
        meant = name or CURRENT
        return self._engine.aliases.get(meant, meant)

    async def _end(self, error: BaseException | None) -> None:
        """End the attempt that is being made, if there is one."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._told_by = attempt.key
            self._finished(await attempt.end(error))


def new_request_id() -> str:
    """A name for a request, for logs and the ``x-request-id`` header. It is unlike any other, and no secret."""
    return f"req_{_ids.getrandbits(128):032x}"
