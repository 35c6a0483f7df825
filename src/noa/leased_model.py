"""A model as a program uses it: chat, stream and embed, on a lease that keeps it loaded."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import AsyncGeneratorType, TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from noa.chat import (
    ChatEvent,
    ChatReply,
    ChatRequest,
    EmbeddingReply,
    EmbeddingRequest,
    Message,
    TextDelta,
)
from noa.dialects.openai import decode_request
from noa.errors import ValidationError
from noa.inference import Inference, Serving
from noa.lease import Lease
from noa.models import ModelInfo
from noa.openai_client import async_client

if TYPE_CHECKING:
    from openai import AsyncOpenAI

#: A question, or a conversation: messages as OpenAI writes them, or canonical ones.
Messages = str | Sequence[Mapping[str, Any] | Message]


def chat_request(messages: Messages, parameters: Mapping[str, Any]) -> ChatRequest:
    """A conversation as programs write it, as a canonical request. ``parameters`` are those of OpenAI's API.

    Raises ``ValidationError`` naming what is wrong.
    """
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    canonical = tuple(turn for turn in turns if isinstance(turn, Message))
    if canonical and len(canonical) != len(turns):
        raise ValidationError("Give all messages as dictionaries, or all as noa.chat.Message.")
    try:
        wire = [{"role": "user", "content": ""}] if canonical else turns
        body = msgspec.json.encode({"messages": wire, **parameters})
    except (TypeError, ValueError) as error:
        raise ValidationError(f"This conversation cannot be sent: {error}.") from None
    request = decode_request(body).request
    return msgspec.structs.replace(request, messages=canonical) if canonical else request


async def texts(serving: Serving, request: ChatRequest) -> AsyncGenerator[str, None]:
    """The text of an answer, bit by bit."""
    async with aclosing(serving.stream(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                yield event.text


def embedding_request(inputs: str | Sequence[str]) -> EmbeddingRequest:
    """One text or several, as a request."""
    return EmbeddingRequest(inputs=(inputs,) if isinstance(inputs, str) else tuple(inputs))


class LeasedModel:
    """A loaded model that nothing evicts while you have it.

    A request that it does not take goes to ``fallbacks``; with ``failover=False`` nothing is ever tried again.
    """

    def __init__(
        self, inference: Inference, lease: Lease, *, fallbacks: Sequence[str] = (), failover: bool = True
    ) -> None:
        self._inference = inference
        self._lease = lease
        self._candidates = (lease.key, *(name for name in fallbacks if name != lease.key))
        self._failover = failover
        self._streams: weakref.WeakSet[AsyncGenerator[object, None]] = weakref.WeakSet()

    @property
    def key(self) -> str:
        """Its key."""
        return self._lease.key

    @property
    def model(self) -> ModelInfo:
        """What is known of it."""
        return self._lease.model

    async def chat(self, /, messages: Messages, **parameters: Any) -> ChatReply:
        """Continue a conversation."""
        request = chat_request(messages, parameters)
        async with self._serve("chat") as serving:
            return await serving.complete(request)

    def stream(self, /, messages: Messages, **parameters: Any) -> AsyncGenerator[str, None]:
        """Continue a conversation, as text that comes bit by bit."""
        stream = self._texts(chat_request(messages, parameters))
        self._streams.add(stream)
        return stream

    def stream_events(self, /, messages: Messages, **parameters: Any) -> AsyncGenerator[ChatEvent, None]:
        """Continue a conversation, as canonical events: text, reasoning, tool calls, usage."""
        stream = self._events(chat_request(messages, parameters))
        self._streams.add(stream)
        return stream

    async def end_streams(self) -> None:
        """Close the streams that were opened and not read to their end."""
        for stream in tuple(self._streams):
            # One that another task is reading just now ends with that task.
            if not (isinstance(stream, AsyncGeneratorType) and stream.ag_running):
                await stream.aclose()

    async def _texts(self, request: ChatRequest) -> AsyncGenerator[str, None]:
        async with self._serve("chat", streamed=True) as serving, aclosing(texts(serving, request)) as pieces:
            async for piece in pieces:
                yield piece

    async def _events(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        async with self._serve("chat", streamed=True) as serving, aclosing(serving.stream(request)) as events:
            async for event in events:
                yield event

    async def embed(self, inputs: str | Sequence[str]) -> EmbeddingReply:
        """Turn texts into vectors."""
        async with self._serve("embeddings") as serving:
            return await serving.embed(embedding_request(inputs))

    def openai_client(self) -> AsyncOpenAI:
        """OpenAI's own client, whose every request this model serves, whatever ``model`` it names.

        It needs the package ``openai`` and no server; raises ``ConfigurationError`` where that is missing.
        """
        return async_client(self.admit)

    def admit(self, _: str | None, operation: str, streamed: bool, __: object = None) -> Serving:
        """Admit a request of such a client."""
        return self._serve(operation, streamed=streamed)

    def _serve(self, operation: str, *, streamed: bool = False) -> Serving:
        return self._inference.serve(
            self.key,
            operation,
            streamed=streamed,
            within=self._lease.number,
            candidates=self._candidates,
            failover=self._failover,
        )


class ModelUse:
    """``async with`` this to lease a model; every stream opened through it ends when it is left."""

    def __init__(self, inference: Inference, name: str | None, *, wait_s: float, priority: int, failover: bool) -> None:
        self._failover = failover
        self._inference = inference
        self._name = name
        self._wait_s = wait_s
        self._priority = priority
        self._lease: Lease | None = None
        self._model: LeasedModel | None = None

    async def __aenter__(self) -> LeasedModel:
        inference, failover = self._inference, self._failover
        self._lease = await inference.hold(self._name, wait_s=self._wait_s, priority=self._priority, failover=failover)
        # Where Noa chose the model, it is the chosen one's fallbacks that count.
        fallbacks = inference.fallbacks(self._name) or inference.fallbacks(self._lease.key) if failover else ()
        self._model = LeasedModel(inference, self._lease, fallbacks=fallbacks, failover=failover)
        return self._model

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._model is not None:
                await self._model.end_streams()
        finally:
            if self._lease is not None:
                self._lease.release()
