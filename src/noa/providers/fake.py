"""A provider without a network, for tests of what is built on Noa.

    provider = FakeProvider([FakeModel(id="parrot")])
    provider.fail(RateLimitError("slow down", provider="fake"), times=2)

It answers deterministically, counts what is asked of it, and takes its delays from ``sleep``, which a test may replace.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import msgspec

from noa.chat import (
    ChatEvent,
    ChatReply,
    ChatRequest,
    EmbeddingReply,
    EmbeddingRequest,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    TextPart,
    Usage,
    UsageReported,
)
from noa.dialects import openai
from noa.errors import (
    AIProviderError,
    ModelNotFoundError,
    ProviderConnectionError,
    ProviderResponseError,
    UnsupportedError,
)
from noa.models import Endpoint, ModelCapability, ModelInfo
from noa.providers.answers import WholeAnswer
from noa.providers.protocol import Dialect, Health, Locality, Offer, RawRequest

_CREATED = 1_700_000_000
#: How many of the latest requests are remembered.
_REMEMBERED = 100


class FakeModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that says ``reply``, or repeats what it was told. ``owned`` ones ask for a process, like a local file."""

    id: str
    reply: str | None = None
    capabilities: tuple[ModelCapability, ...] = (
        ModelCapability.CHAT_COMPLETION,
        ModelCapability.TEXT_GENERATION,
        ModelCapability.STREAMING,
    )
    context_window: int | None = 4096
    owned: bool = False
    size_bytes: int | None = None


class FakeProvider:
    """Plays a provider in memory, over every method of the protocol.

    ``up`` makes it reachable or not. ``conversations`` are the latest that it was asked to continue. ``verified``
    counts look-ups and ``requests`` inferences, by model; ``in_flight`` is how many run now, ``most_in_flight`` how
    many ran at once, ``abandoned`` how many were left before their end.
    """

    dialects = frozenset({Dialect.OPENAI})
    lists_files = False

    def __init__(
        self,
        models: Sequence[FakeModel] = (FakeModel(id="parrot"),),
        *,
        name: str = "fake",
        latency_s: float = 0.0,
        piece_delay_s: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.models = {model.id: model for model in models}
        self.up = True
        self.latency_s = latency_s
        self.piece_delay_s = piece_delay_s
        self.verified: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.endpoints: list[Endpoint | None] = []
        self.forgotten: list[Endpoint] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.abandoned = 0
        self.closed = False
        self._sleep = sleep
        self.conversations: deque[ChatRequest] = deque(maxlen=_REMEMBERED)
        self._replies: deque[str] = deque()
        self._failures: deque[tuple[AIProviderError, int | None]] = deque()

    def say(self, *replies: str) -> None:
        """Have the next answers be these, one each, whichever model is asked."""
        self._replies.extend(replies)

    def fail(self, error: AIProviderError, *, times: int = 1, after_pieces: int | None = None) -> None:
        """Have the next ``times`` inferences fail: at once, or after so many pieces of their stream."""
        self._failures.extend([(error, after_pieces)] * times)

    async def list_models(self) -> Sequence[Offer]:
        """Every model."""
        self._reach()
        return [self._offer(model) for model in self.models.values()]

    async def health(self) -> Health:
        """As ``up`` says."""
        return Health(up=True, latency_ms=0.0) if self.up else Health(up=False, error=self._unreachable().message)

    async def verify(self, model_id: str) -> ModelInfo:
        """The model, if there is one of this name."""
        self._reach()
        self.verified[model_id] += 1
        return self._offer(self._find(model_id)).model

    async def open(self, request: RawRequest) -> WholeAnswer | FakeStream:
        """Answer a request in OpenAI's dialect."""
        if request.path == "/embeddings":
            wanted = openai.decode_embedding_request(request.body)
            vectors = await self.embed(wanted, request.model_id, request.endpoint)
            return WholeAnswer(openai.encode_embedding_reply(vectors), usage=vectors.usage)
        decoded = openai.decode_request(request.body)
        if request.stream:
            events = self.stream(decoded.request, request.model_id, request.endpoint)
            return FakeStream(await anext(events), events, include_usage=decoded.include_usage)
        reply = await self.complete(decoded.request, request.model_id, request.endpoint)
        return WholeAnswer(openai.encode_reply(reply), usage=reply.usage)

    async def complete(self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None) -> ChatReply:
        """The whole answer."""
        text, finish, usage = [], None, None
        async with aclosing(self.stream(request, model_id, endpoint)) as events:
            async for event in events:
                match event:
                    case TextDelta():
                        text.append(event.text)
                    case ReplyFinished():
                        finish = event.finish_reason
                    case UsageReported():
                        usage = event.usage
        return ChatReply(
            id="fake-1",
            model=model_id,
            created=_CREATED,
            parts=(TextPart(text="".join(text)),),
            finish_reason=finish,
            usage=usage,
        )

    async def stream(
        self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None
    ) -> AsyncGenerator[ChatEvent, None]:
        """The answer word by word."""
        with self._serving(model_id, endpoint) as (model, failure, after_pieces):
            self.conversations.append(request)
            await self._sleep(self.latency_s)
            if failure and after_pieces is None:
                raise failure
            pieces = _words(self._reply(model, request))
            yield ReplyStarted(id="fake-1", model=model_id, created=_CREATED)
            for count, piece in enumerate(pieces):
                if failure and after_pieces == count:
                    raise failure
                if count:
                    await self._sleep(self.piece_delay_s)
                yield TextDelta(text=piece)
            if failure:
                raise failure
            yield ReplyFinished(finish_reason="stop")
            asked = sum(len(message.text.split()) for message in request.messages)
            yield UsageReported(usage=Usage(prompt_tokens=asked, completion_tokens=len(pieces)))

    async def embed(self, request: EmbeddingRequest, model_id: str, endpoint: Endpoint | None = None) -> EmbeddingReply:
        """A small vector for each text, the same for the same text."""
        with self._serving(model_id, endpoint) as (model, failure, _):
            await self._sleep(self.latency_s)
            if failure:
                raise failure
            if ModelCapability.EMBEDDINGS not in model.capabilities:
                raise UnsupportedError(f"{self.name}:{model_id} makes no embeddings.", provider=self.name)
            vectors = tuple((float(len(text)), float(sum(text.encode()) % 97), 1.0) for text in request.inputs)
            usage = Usage(prompt_tokens=sum(len(text.split()) for text in request.inputs), completion_tokens=0)
            return EmbeddingReply(model=model_id, vectors=vectors, usage=usage)

    async def forget(self, endpoint: Endpoint) -> None:
        """Note it."""
        self.forgotten.append(endpoint)

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True

    def _offer(self, model: FakeModel) -> Offer:
        info = ModelInfo(
            id=model.id,
            name=model.id,
            provider=self.name,
            context_window=model.context_window,
            capabilities=model.capabilities,
        )
        if not model.owned:
            return Offer(model=info)
        return Offer(model=info, locality=Locality.OWNED, path=f"{model.id}.gguf", size_bytes=model.size_bytes)

    def _reply(self, model: FakeModel, request: ChatRequest) -> str:
        if self._replies:
            return self._replies.popleft()
        return model.reply if model.reply is not None else _last_words(request)

    def _find(self, model_id: str) -> FakeModel:
        if model_id not in self.models:
            raise ModelNotFoundError(f"{self.name} has no model “{model_id}”.", provider=self.name)
        return self.models[model_id]

    @contextmanager
    def _serving(
        self, model_id: str, endpoint: Endpoint | None
    ) -> Iterator[tuple[FakeModel, AIProviderError | None, int | None]]:
        self._reach()
        model = self._find(model_id)
        self.requests[model_id] += 1
        self.endpoints.append(endpoint)
        failure, after_pieces = self._failures.popleft() if self._failures else (None, None)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield model, failure, after_pieces
        except (GeneratorExit, asyncio.CancelledError):
            self.abandoned += 1
            raise
        finally:
            self.in_flight -= 1

    def _reach(self) -> None:
        if not self.up:
            raise self._unreachable()

    def _unreachable(self) -> ProviderConnectionError:
        return ProviderConnectionError(
            f"{self.name} cannot be reached: a test has it down.", provider=self.name, details={"sent": False}
        )


class FakeStream:
    """A streamed answer in OpenAI's dialect."""

    status = 200
    content_type = "text/event-stream"
    headers: Mapping[str, str] = {}

    def __init__(self, first: ChatEvent, events: AsyncGenerator[ChatEvent, None], *, include_usage: bool) -> None:
        self._first = first
        self._events = events
        self._encoder = openai.StreamEncoder(include_usage)
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = False
        self.begun = False
        self.usage: Usage | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The events as they come."""
        self._reading = True
        try:
            yield self._encoder.encode(self._first)
            while (event := await self._next()) is not None:
                self.begun = self.begun or isinstance(event, TextDelta)
                if isinstance(event, UsageReported):
                    self.usage = event.usage
                if encoded := self._encoder.encode(event):
                    yield encoded
            yield self._encoder.close()
        finally:
            await self._events.aclose()

    async def aclose(self) -> None:
        """Leave it where it stands; whoever reads it is told that it broke off."""
        if not self._left.done():
            self._left.set_result(None)
        if not self._reading:
            await self._events.aclose()

    async def _next(self) -> ChatEvent | None:
        step = asyncio.ensure_future(anext(self._events, None))
        either: set[asyncio.Future[Any]] = {step, self._left}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait({step})
        if self._left.done():
            raise ProviderResponseError("The answer was left before its end.")
        return step.result()


def _last_words(request: ChatRequest) -> str:
    return request.messages[-1].text if request.messages else ""


def _words(text: str) -> list[str]:
    """The text in pieces that join to it again."""
    return [word if index == 0 else f" {word}" for index, word in enumerate(text.split(" "))]
