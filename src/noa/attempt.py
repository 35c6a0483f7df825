"""One attempt to have a request served: on one model, from its admission to its last byte, measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from noa.chat import (
    ChatEvent,
    ChatReply,
    ChatRequest,
    EmbeddingReply,
    EmbeddingRequest,
    ReplyStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from noa.dialects.envelope import retarget
from noa.errors import AIProviderError, ModelUnavailableError, UnsupportedError
from noa.lease import Lease
from noa.measurement.cost import cost_usd
from noa.models import ModelCapability, ModelInfo
from noa.providers.answers import WholeAnswer
from noa.providers.protocol import Dialect, RawRequest, RawResponse, TokenCounter
from noa.selection.faults import CLIENT_CANCELLED
from noa.state import RequestRecord
from noa.trace_context import FOR_UPSTREAM
from noa.tracing import Span

T = TypeVar("T")

#: How many pieces of a raw stream wait at most for the first that has something of the answer. Until then the request
#: may still go elsewhere; a service whose answers look like none to us is not held back for longer.
HELD_PIECES = 8
#: The operation of a request that finds out what a model can do.
PROBE: Final = "probe"


class Attempted(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt leaves behind. ``cancelled`` says that its caller went away."""

    record: RequestRecord
    failure: AIProviderError | None
    cancelled: bool
    began_at: float
    owned: bool


class Attempt:
    """A request at one model. ``end`` releases the model and lets go of the upstream, whatever happened.

    ``number`` counts the attempts of a request from 1, ``began_at`` is a reading of the clock of its breakers, and
    ``turned_to_at`` one of ``time.perf_counter``, from when this model was decided on. ``queue_s`` of the time since
    then it took to have it, its load included.
    ``answered`` says that something of the answer was handed on: from then on nobody else can give it.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        request_id: str,
        operation: str,
        streamed: bool,
        number: int,
        began_at: float,
        turned_to_at: float,
        queue_s: float,
        caller: str | None = None,
        span: Span | None = None,
    ) -> None:
        self.lease = lease
        self.number = number
        self.began_at = began_at
        self.answered = False
        self._request_id = request_id
        self._operation = operation
        self._streamed = streamed
        self._caller = caller
        self._span = span
        self._response: RawResponse | None = None
        self._usage: Usage | None = None
        self._turned_to_at = turned_to_at
        self._queue_s = queue_s
        self._sent_at = time.perf_counter()
        self._asked_at: float | None = None
        self._first_at: float | None = None
        self._told_at: float | None = None

    @property
    def key(self) -> str:
        """The model that is asked."""
        return self.lease.key

    @property
    def model(self) -> ModelInfo:
        """What is known of the model that is asked."""
        return self.lease.model

    def speaks(self, dialect: Dialect) -> bool:
        """Whether the provider takes requests in this dialect as they are."""
        return dialect in self.lease.provider.dialects

    async def end(self, error: BaseException | None) -> Attempted:
        """Let go of everything, and say how it went."""
        try:
            if self._response is not None:
                await self._response.aclose()
        finally:
            self.lease.release()
        failure = error if isinstance(error, AIProviderError) else None
        cancelled = error is not None and failure is None
        record = self._record(failure, cancelled=cancelled)
        if self._span is not None:
            self._span.end(record)
        return Attempted(
            record=record,
            failure=failure,
            cancelled=cancelled,
            began_at=self.began_at,
            owned=self.lease.endpoint is not None,
        )

    async def open(
        self,
        dialect: Dialect,
        path: str,
        body: bytes,
        *,
        stream: bool,
        headers: Sequence[tuple[str, str]] = (),
        forces_tool: bool = False,
    ) -> MeasuredResponse:
        """Pass a request on in a dialect that the provider speaks; only the model's name is replaced.

        ``forces_tool`` tells that it demands the call of a tool, which some models silently cannot do.
        """
        lease = self.lease
        if forces_tool:
            self._require_tools()
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
        if request.forces_tool:
            self._require_tools()
        reply = await self._until_cut(lease.provider.complete(request, lease.model.id, lease.endpoint))
        self._usage = reply.usage
        return reply

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """An answer as it is made. That it has begun is told together with the first thing it says."""
        lease = self.lease
        if request.forces_tool:
            self._require_tools()
        events = lease.provider.stream(request, lease.model.id, lease.endpoint)
        held: list[ChatEvent] = []
        try:
            while (event := await self._until_cut(anext(events, None))) is not None:
                self._notice(event)
                held.append(event)
                if isinstance(event, ReplyStarted | UsageReported):
                    continue
                self.answered = True
                for each in held:
                    yield each
                held.clear()
            for each in held:
                yield each
        finally:
            await events.aclose()

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Vectors."""
        lease = self.lease
        reply = await self._until_cut(lease.provider.embed(request, lease.model.id, lease.endpoint))
        self._usage = reply.usage
        return reply

    async def count_tokens(self, request: ChatRequest) -> int:
        """How many tokens a prompt has, by the one who would answer it; never an estimate."""
        lease = self.lease
        if not isinstance(lease.provider, TokenCounter):
            raise UnsupportedError(
                f"{self.key} counts no tokens: its provider offers no way to, and Noa does not guess.",
                provider=lease.provider.name,
            )
        return await self._until_cut(lease.provider.count_tokens(request, lease.model.id, lease.endpoint))

    def _require_tools(self) -> None:
        """Refuse a demand that the model is known to ignore: its template drops tools, and nothing says so.

        A probe is let through: it is to find out whether what is known is true.
        """
        if self._operation != PROBE and self.model.lacks(ModelCapability.FUNCTION_CALLING):
            raise UnsupportedError(
                f"{self.key} cannot call tools, so tool_choice cannot demand it; leave it out, or ask another model.",
                provider=self.model.provider,
                details={"param": "tool_choice"},
            )

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
        """A raw answer is whole, or will never be."""
        self._usage = response.usage
        self._told_at = time.perf_counter()

    async def _until_cut(self, work: Awaitable[T]) -> T:
        """Wait for the upstream, or for the model being taken away by force."""
        lease = self.lease
        if self._asked_at is None:
            self._asked_at = time.perf_counter()
        told = None if self._span is None else FOR_UPSTREAM.set(self._span.traceparent)
        worker = asyncio.current_task()
        assert worker is not None
        cancelled_before = worker.cancelling()
        lease.on_cut = worker.cancel
        if lease.is_cut:
            worker.cancel()
        try:
            return await work
        except asyncio.CancelledError:
            # Of those who want us to end, the cut is answered here; anybody else is obeyed.
            if lease.is_cut and worker.uncancel() <= cancelled_before:
                raise taken_away(lease.key) from None
            raise
        finally:
            lease.on_cut = None
            if told is not None:
                FOR_UPSTREAM.reset(told)
            self._told_at = time.perf_counter()

    def _record(self, failure: AIProviderError | None, *, cancelled: bool) -> RequestRecord:
        usage = self._usage or Usage()
        if self._operation == "embeddings" and usage.completion_tokens is None:
            usage = msgspec.structs.replace(usage, completion_tokens=0)  # vectors, which no token is generated for
        first_at = self._first_at
        now = time.perf_counter()
        success = failure is None and not cancelled
        return RequestRecord(
            request_id=self._request_id,
            key=self.key,
            at=datetime.now(UTC),
            operation=self._operation,
            streamed=self._streamed,
            success=success,
            latency_ms=(now - self._sent_at) * 1000,
            ttft_ms=None if first_at is None else (first_at - self._sent_at) * 1000,
            queue_ms=self._queue_s * 1000,
            overhead_ms=self._overhead_ms(now) if success else None,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=cost_usd(usage, self.lease.model.price),
            caller=self._caller,
            error_code=CLIENT_CANCELLED if cancelled else (failure.code if failure else None),
        )

    def _overhead_ms(self, now: float) -> float | None:
        """All but the wait for the model and the time from asking the provider to its last word."""
        if self._asked_at is None or self._told_at is None:
            return None
        theirs_s = self._queue_s + (self._told_at - self._asked_at)
        return max(0.0, now - self._turned_to_at - theirs_s) * 1000


class MeasuredResponse:
    """A raw answer on its way, with its first token and its usage noted as they pass."""

    def __init__(self, response: RawResponse, attempt: Attempt) -> None:
        self._response = response
        self._attempt = attempt

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

    async def whole(self) -> bytes:
        """The body of an answer that was not streamed."""
        response = self._response
        if isinstance(response, WholeAnswer) and not self._attempt.lease.is_cut:
            self._attempt.notice_chunk(response)
            self._attempt.answered = True
            self._attempt.notice_end(response)
            return response.body
        async with aclosing(self.chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, the pieces before the answer itself together with its first.

        Raises when it breaks off, or when the model is taken away by force.
        """
        lease = self._attempt.lease
        closing: list[asyncio.Task[None]] = []
        lease.on_cut = lambda: closing.append(asyncio.ensure_future(self._response.aclose()))
        if lease.is_cut:
            lease.on_cut()
        try:
            async with aclosing(self._held_back()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except AIProviderError:
            if not lease.is_cut:
                raise
        finally:
            lease.on_cut = None
            self._attempt.notice_end(self._response)
            if closing:
                await asyncio.gather(*closing)
        if lease.is_cut:
            raise taken_away(lease.key)

    async def _held_back(self) -> AsyncGenerator[bytes, None]:
        response, attempt = self._response, self._attempt
        held: list[bytes] = []
        async with aclosing(response.chunks()) as chunks:
            async for chunk in chunks:
                attempt.notice_chunk(response)
                if not attempt.answered and not response.begun and len(held) < HELD_PIECES:
                    held.append(chunk)
                    continue
                attempt.answered = True
                if held:
                    yield b"".join(held)
                    held.clear()
                yield chunk
        if held:
            attempt.answered = True
            yield b"".join(held)


def taken_away(key: str) -> ModelUnavailableError:
    """What a caller is told whose model was unloaded by force."""
    return ModelUnavailableError(f"{key} was unloaded by force while it answered.", retry_after_s=1)
