"""What a provider is to the rest of Noa.

A provider says what it has (``list_models``), whether it is well (``health``), and carries inference: raw, in a dialect
it speaks (``open``), or canonical (``complete``, ``stream``, ``embed``). It does not retry, measure or choose; that is
done once, above it. Every failure is raised as one of ``noa.errors`` and names this provider.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from noa.chat import ChatEvent, ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest, Usage
from noa.gguf import GgufHeader
from noa.models import Endpoint, ModelInfo


class Dialect(StrEnum):
    """A wire format of inference."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Locality(StrEnum):
    """Where a model runs: elsewhere, or in a process Noa starts for it."""

    REMOTE = "remote"
    OWNED = "owned"


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A model a provider has. ``other_ids`` are shorter names that it goes by there.

    Of one that Noa runs itself ``path`` is the weights file (the first of several), ``size_bytes`` and ``modified_ns``
    (nanoseconds since 1970) are those of all its files, and ``header`` is what it says of itself.
    """

    model: ModelInfo
    locality: Locality = Locality.REMOTE
    other_ids: tuple[str, ...] = ()
    path: str | None = None
    size_bytes: int | None = None
    modified_ns: int | None = None
    header: GgufHeader | None = None


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An inference request in the provider's own dialect.

    ``path`` is relative to the dialect's root (``/chat/completions``, ``/messages``). ``body`` is JSON whose ``model``
    is already the provider's id, and whose ``stream`` agrees with the field. ``headers`` are those of the caller that
    may travel on. ``endpoint`` is where an owned model listens, ``None`` for a provider with one address.
    """

    dialect: Dialect
    path: str
    body: bytes
    model_id: str
    stream: bool
    headers: tuple[tuple[str, str], ...] = ()
    endpoint: Endpoint | None = None


class RawResponse(Protocol):
    """A successful answer on its way. ``aclose`` lets go of the upstream at once, wherever the answer stands."""

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Upstream headers that may reach the caller (an allow-list, lower case)."""
        ...

    @property
    def begun(self) -> bool:
        """Whether some of the answer itself (text, reasoning, a tool call) has passed; the first time is the TTFT."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The upstream's count of tokens as soon as it is known, whether or not the caller gets to see it."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives; of a stream, whole events.

        One that breaks off, stalls, or ends before the answer does raises; so does an error reported inside a stream.
        """
        ...

    async def aclose(self) -> None: ...


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a provider answers now. ``latency_ms`` is one round trip; ``error`` says what to do when it is down."""

    up: bool
    latency_ms: float | None = None
    error: str | None = None


class Provider(Protocol):
    """One source of models."""

    @property
    def name(self) -> str:
        """The left half of its models' keys."""
        ...

    @property
    def dialects(self) -> frozenset[Dialect]:
        """The wire formats it speaks upstream."""
        ...

    @property
    def lists_files(self) -> bool:
        """Whether its models are files on this machine: then they come and go unannounced, and asking is cheap."""
        ...

    async def list_models(self) -> Sequence[Offer]: ...

    async def health(self) -> Health: ...

    async def verify(self, model_id: str) -> ModelInfo:
        """Make sure that the credentials work and the model exists, at no cost. Raises what is wrong."""
        ...

    async def open(self, request: RawRequest) -> RawResponse: ...

    async def complete(self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None) -> ChatReply: ...

    def stream(
        self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None
    ) -> AsyncGenerator[ChatEvent, None]: ...

    async def embed(
        self, request: EmbeddingRequest, model_id: str, endpoint: Endpoint | None = None
    ) -> EmbeddingReply: ...

    async def forget(self, endpoint: Endpoint) -> None:
        """The engine that listened there is gone: drop what was kept for it."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class TokenCounter(Protocol):
    """A provider that can count the tokens of a prompt without an answer to it."""

    async def count_tokens(self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None) -> int:
        """How many tokens the conversation has as the model is given it, tools and system prompt included.

        Raises ``UnsupportedError`` if the service turns out not to count.
        """
        ...


@runtime_checkable
class Lifecycled(Protocol):
    """A provider whose backend loads and unloads remote models itself, such as llama.cpp's router.

    It is asked on top of everything else: a model is loaded first and then verified, and unloaded when nobody uses it.
    A backend that turns out to have no such lifecycle does nothing.
    """

    async def load(self, model_id: str, progress: Callable[[str], None]) -> None:
        """Return when the backend has it loaded; ``progress`` is told ``loading`` if that takes anything.

        Raises ``ModelLoadError`` with what the backend says. Cancelling it leaves the backend loading; unload it then.
        """
        ...

    async def unload(self, model_id: str) -> None:
        """Return when the backend has let go of it, or never had it."""
        ...

    async def resident(self) -> Collection[str] | None:
        """The ids of those it has loaded now, whoever had them loaded; ``None`` if it has no such lifecycle."""
        ...
