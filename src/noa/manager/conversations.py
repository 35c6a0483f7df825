"""Inference: conversations, embeddings, and leases for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from noa.chat import ChatReply, EmbeddingReply
from noa.engine import DEFAULT_WAIT_S
from noa.inference import Serving
from noa.leased_model import Messages, ModelUse, chat_request, embedding_request, texts
from noa.manager.part import Part
from noa.openai_client import async_client
from noa.selection.needs import needs_of_chat
from noa.selection.wish import Wish

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class Conversations(Part):
    """Talks to models, and counts what others said to them."""

    def use(
        self, name: str | None = None, *, wait_s: float = DEFAULT_WAIT_S, priority: int = 0, failover: bool = True
    ) -> ModelUse:
        """A lease: ``async with manager.use("current") as model``. It is loaded if need be, and nothing evicts it.

        Requests that it does not take go to its fallbacks; with ``failover=False`` it is asked alone, and once.
        """
        return ModelUse(self.inference, name, wait_s=wait_s, priority=priority, failover=failover)

    async def chat(self, /, messages: Messages, model: str | None = None, **parameters: Any) -> ChatReply:
        """Continue a conversation, by default with the current model. ``parameters`` are OpenAI's: ``max_tokens`` …."""
        request = chat_request(messages, parameters)
        async with self.inference.serve(model, "chat", needs=partial(needs_of_chat, request)) as serving:
            return await serving.complete(request)

    async def stream(
        self, /, messages: Messages, model: str | None = None, **parameters: Any
    ) -> AsyncGenerator[str, None]:
        """The same, as text that comes bit by bit."""
        request = chat_request(messages, parameters)
        async with (
            self.inference.serve(model, "chat", streamed=True, needs=partial(needs_of_chat, request)) as serving,
            aclosing(texts(serving, request)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def embed(self, inputs: str | Sequence[str], model: str | None = None) -> EmbeddingReply:
        """Turn texts into vectors."""
        async with self.inference.serve(model, "embeddings") as serving:
            return await serving.embed(embedding_request(inputs))

    def openai_client(self) -> AsyncOpenAI:
        """OpenAI's own client, for the models of this manager: ``model="current"``, a key, an alias or ``auto``.

        It needs the package ``openai`` and no server; raises ``ConfigurationError`` where that is missing.
        """
        return async_client(self.admit)

    def admit(self, name: str | None, operation: str, streamed: bool, needs: Callable[[], Wish]) -> Serving:
        """Admit a request of such a client."""
        return self.inference.serve(name, operation, streamed=streamed, needs=needs)

    def record_inference(self, key: str, latency_ms: float, tokens: int | None, success: bool) -> None:
        """Count an inference that you made yourself in the model's live figures."""
        self.inference.figures.record(self.engine.resolve_key(key), latency_ms, tokens, success=success)
