"""One request, from its admission to its last byte: admitted, carried by the provider, measured, released."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

from noa.chat import (
    ChatEvent,
    ChatReply,
    ChatRequest,
    EmbeddingReply,
    EmbeddingRequest,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from noa.dialects.envelope import retarget
from noa.engine import DEFAULT_WAIT_S, Engine
from noa.errors import (
    AIProviderError,
    ContextLengthError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ValidationError,
)
from noa.events import EventBus
from noa.lease import Lease
from noa.measurement.live import LiveMetrics, ServedRequest
from noa.models import ModelInfo
from noa.providers.protocol import Dialect, RawRequest, RawResponse
from noa.state import RequestRecord
from noa.storage.protocol import UsageStore

T = TypeVar("T")
#: Told of every request once it is over.
Observer = Callable[[RequestRecord], None]


class Inference:
    """Admits requests and keeps the live figures of what they took."""

    def __init__(self, engine: Engine, usage: UsageStore, events: EventBus, *, track: bool) -> None:
        self._engine = engine
        self._usage = usage
        self._events = events
        self._track = track
        self._live: dict[str, LiveMetrics] = {}
        self._observers: list[Observer] = []

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
    ) -> Serving:
        """Use a model for one request: ``async with inference.serve("current", "chat") as serving: …``.

        ``name`` is a key, an alias or a bare id (``None``: ``current``); it is loaded if need be. ``operation`` is
        ``chat``, ``completion`` or ``embeddings``. Entering raises what is wrong with the name, or keeps the model
        from serving.
        """
        return Serving(
            self._engine,
            self._finished,
            name,
            operation,
            request_id=request_id or new_request_id(),
            streamed=streamed,
            wait_s=wait_s,
            within=within,
        )

    async def hold(self, name: str | None, *, wait_s: float = DEFAULT_WAIT_S, priority: int = 0) -> Lease:
        """A lease: the model is loaded, and stays until the lease is released."""
        found = await self._engine.find(name)
        return await self._engine.acquire(found, hold=True, wait_s=wait_s, priority=priority)

    def record(self, key: str, latency_ms: float, tokens: int | None, *, success: bool) -> None:
        """Count an inference that somebody else made, in the live figures."""
        self._count(key, latency_ms, tokens, success=success, ttft_ms=None)

    def benchmarked(self, key: str, at: datetime) -> None:
        """Note that a model was profiled."""
        live = self._live_of(key)
        live.benchmarked(at)
        self._engine.registry.put_metrics(key, live.metrics())

    def remember(self, records: Iterable[RequestRecord]) -> None:
        """Take requests of an earlier run, oldest first, into the history; the averages have counted them."""
        for record in records:
            self._live_of(record.key).remember(
                ServedRequest(
                    at=record.at,
                    latency_ms=record.latency_ms,
                    success=record.success,
                    tokens=record.completion_tokens,
                    ttft_ms=record.ttft_ms,
                )
            )

    def history(self, key: str) -> Sequence[ServedRequest]:
        """The latest requests of a model, oldest first."""
        return self._live[key].history() if key in self._live else ()

    def _live_of(self, key: str) -> LiveMetrics:
        if key not in self._live:
            self._live[key] = LiveMetrics(self._engine.registry.figures(key).metrics)
        return self._live[key]

    def _count(self, key: str, latency_ms: float, tokens: int | None, *, success: bool, ttft_ms: float | None) -> None:
        live = self._live_of(key)
        live.record(latency_ms, tokens, success, datetime.now(UTC), ttft_ms)
        self._engine.registry.put_metrics(key, live.metrics())

    def _finished(self, record: RequestRecord) -> None:
        registry = self._engine.registry
        registry.touch(record.key, record.at)
        if self._track and record.error_code not in NOT_THE_MODELS_FAULT:
            self._count(
                record.key,
                record.latency_ms,
                record.completion_tokens,
                success=record.success,
                ttft_ms=record.ttft_ms,
            )
        self._usage.record(record)
        for observer in self._observers:
            observer(record)
        data = {
            "model_key": record.key,
            "latency": record.latency_ms,
            "tokens_generated": record.completion_tokens,
            "success": record.success,
            "request_id": record.request_id,
        }
        self._events.publish("inference-complete", data)


#: What is noted of a request whose caller went away.
CLIENT_CANCELLED = "CLIENT_CANCELLED"
#: Ends that are neither a success nor the model's failure: they say something of the caller, and change no live figure.
NOT_THE_MODELS_FAULT = frozenset(
    {CLIENT_CANCELLED, ValidationError.code, ContextLengthError.code, PayloadTooLargeError.code}
)


class Serving:
    """A request that is being served. Leaving it releases the model and lets go of the upstream, whatever happened."""

    def __init__(
        self,
        engine: Engine,
        finished: Observer,
        name: str | None,
        operation: str,
        *,
        request_id: str,
        streamed: bool,
        wait_s: float,
        within: int | None,
    ) -> None:
        self.request_id = request_id
        self._engine = engine
        self._finished = finished
        self._name = name
        self._operation = operation
        self._streamed = streamed
        self._wait_s = wait_s
        self._within = within
        self._lease: Lease | None = None
        self._response: RawResponse | None = None
        self._usage: Usage | None = None
        self._sent_at = time.perf_counter()
        self._first_at: float | None = None
        self._failure: AIProviderError | None = None

    async def __aenter__(self) -> Self:
        name = await self._engine.find(self._name)
        self._lease = await self._engine.acquire(name, wait_s=self._wait_s, within=self._within)
        self._sent_at = time.perf_counter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self.lease
        if isinstance(error, AIProviderError):
            self._failure = error
        try:
            if self._response is not None:
                await self._response.aclose()
        finally:
            lease.release()
            self._finished(self._record(lease.key, cancelled=error is not None and self._failure is None))

    @property
    def lease(self) -> Lease:
        """The lease it runs on."""
        if self._lease is None:
            raise RuntimeError("this request was not admitted yet; enter it with “async with”")
        return self._lease

    @property
    def key(self) -> str:
        """The model that serves."""
        return self.lease.key

    @property
    def model(self) -> ModelInfo:
        """What is known of the model that serves."""
        return self.lease.model

    def speaks(self, dialect: Dialect) -> bool:
        """Whether the provider takes requests in this dialect as they are."""
        return dialect in self.lease.provider.dialects

    async def open(
        self,
        dialect: Dialect,
        path: str,
        body: bytes,
        *,
        stream: bool,
        headers: Sequence[tuple[str, str]] = (),
    ) -> MeasuredResponse:
        """Pass a request on in a dialect that the provider speaks; only the model's name is replaced."""
        lease = self.lease
        request = RawRequest(
            dialect=dialect,
            path=path,
            body=retarget(body, model=lease.model.id),
            model_id=lease.model.id,
            stream=stream,
            headers=tuple(headers),
            endpoint=lease.endpoint,
        )
        self._response = await self._until_cut(lease.provider.open(request))
        return MeasuredResponse(self._response, self)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """A whole answer."""
        lease = self.lease
        reply = await self._until_cut(lease.provider.complete(request, lease.model.id, lease.endpoint))
        self._usage = reply.usage
        return reply

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """An answer as it is made."""
        lease = self.lease
        events = lease.provider.stream(request, lease.model.id, lease.endpoint)
        try:
            while True:
                try:
                    event = await self._until_cut(anext(events))
                except StopAsyncIteration:
                    return
                self._notice(event)
                yield event
        finally:
            await events.aclose()

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Vectors."""
        lease = self.lease
        reply = await self._until_cut(lease.provider.embed(request, lease.model.id, lease.endpoint))
        self._usage = reply.usage
        return reply

    # What was measured.

    def _notice(self, event: ChatEvent) -> None:
        if isinstance(event, UsageReported):
            self._usage = event.usage
        elif self._first_at is None and isinstance(event, TextDelta | ThinkingDelta | ToolCallDelta):
            self._first_at = time.perf_counter()

    def notice_chunk(self, response: RawResponse) -> None:
        """A piece of a raw answer has come. One that comes whole has no first token that anybody saw."""
        if self._streamed and self._first_at is None and response.begun:
            self._first_at = time.perf_counter()

    def notice_end(self, response: RawResponse) -> None:
        """A raw answer is whole."""
        self._usage = response.usage

    def fail(self, error: AIProviderError) -> None:
        """The answer could not be finished, and the caller was told so inside it."""
        self._failure = error

    async def _until_cut(self, work: Awaitable[T]) -> T:
        """Wait for the upstream, or for the model being taken away by force."""
        lease = self.lease
        try:
            async with asyncio.timeout(None) as patience:
                lease.on_cut = lambda: patience.reschedule(asyncio.get_running_loop().time())
                if lease.is_cut:
                    lease.on_cut()
                return await work
        except TimeoutError:
            if lease.is_cut:
                raise taken_away(lease.key) from None
            raise
        finally:
            lease.on_cut = None

    def _record(self, key: str, *, cancelled: bool) -> RequestRecord:
        usage = self._usage or Usage()
        failure = self._failure
        first_at = self._first_at
        return RequestRecord(
            request_id=self.request_id,
            key=key,
            at=datetime.now(UTC),
            operation=self._operation,
            streamed=self._streamed,
            success=failure is None and not cancelled,
            latency_ms=(time.perf_counter() - self._sent_at) * 1000,
            ttft_ms=None if first_at is None else (first_at - self._sent_at) * 1000,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            error_code=CLIENT_CANCELLED if cancelled else (failure.code if failure else None),
        )


class MeasuredResponse:
    """A raw answer on its way, with its first token and its usage noted as they pass."""

    def __init__(self, response: RawResponse, serving: Serving) -> None:
        self._response = response
        self._serving = serving

    @property
    def status(self) -> int:
        """The upstream's status, 2xx."""
        return self._response.status

    @property
    def content_type(self) -> str:
        """The upstream's content type."""
        return self._response.content_type

    @property
    def headers(self) -> Mapping[str, str]:
        """Upstream headers that may reach the caller."""
        return self._response.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises when it breaks off, or when the model is taken away by force."""
        lease = self._serving.lease
        closing: list[asyncio.Task[None]] = []
        lease.on_cut = lambda: closing.append(asyncio.ensure_future(self._response.aclose()))
        if lease.is_cut:
            lease.on_cut()
        try:
            async with aclosing(self._response.chunks()) as chunks:
                async for chunk in chunks:
                    self._serving.notice_chunk(self._response)
                    yield chunk
        except AIProviderError:
            if not lease.is_cut:
                raise
        finally:
            lease.on_cut = None
            self._serving.notice_end(self._response)
            await asyncio.gather(*closing)
        if lease.is_cut:
            raise taken_away(lease.key)


def taken_away(key: str) -> ModelUnavailableError:
    """What a caller is told whose model was unloaded by force."""
    return ModelUnavailableError(f"{key} was unloaded by force while it answered.", retry_after_s=1)


def new_request_id() -> str:
    """A name for a request, for logs and the ``x-request-id`` header."""
    return f"req_{uuid.uuid4().hex}"
