"""The stand-in for a provider that could not be made: it is there, and says why it is of no use."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Sequence

from noa.chat import ChatEvent, ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest
from noa.errors import AIProviderError
from noa.models import Endpoint, ModelInfo
from noa.providers.protocol import Dialect, Health, Offer, RawRequest, RawResponse


class BrokenProvider:
    """Fails at everything with the same error."""

    lists_files = False
    dialects = frozenset({Dialect.OPENAI})

    def __init__(self, name: str, error: AIProviderError) -> None:
        self.name = name
        self._error = error

    @property
    def failure(self) -> AIProviderError:
        """Why it is of no use, to be raised."""
        # A copy, since an exception that is raised collects the traces of everybody who was told.
        return copy.copy(self._error)

    async def list_models(self) -> Sequence[Offer]:
        """Fail."""
        raise self.failure

    async def health(self) -> Health:
        """Say that it is down, and why."""
        return Health(up=False, error=self._error.message)

    async def verify(self, model_id: str) -> ModelInfo:  # noqa: ARG002 - the protocol's
        """Fail."""
        raise self.failure

    async def open(self, request: RawRequest) -> RawResponse:  # noqa: ARG002 - the protocol's
        """Fail."""
        raise self.failure

    async def complete(
        self,
        request: ChatRequest,  # noqa: ARG002 - the protocol's
        model_id: str,  # noqa: ARG002 - the protocol's
        endpoint: Endpoint | None = None,  # noqa: ARG002 - the protocol's
    ) -> ChatReply:
        """Fail."""
        raise self.failure

    async def stream(
        self,
        request: ChatRequest,  # noqa: ARG002 - the protocol's
        model_id: str,  # noqa: ARG002 - the protocol's
        endpoint: Endpoint | None = None,  # noqa: ARG002 - the protocol's
    ) -> AsyncGenerator[ChatEvent, None]:
        """Fail."""
        raise self.failure
        yield  # type: ignore[unreachable]  # makes this a generator, as the protocol wants

    async def embed(
        self,
        request: EmbeddingRequest,  # noqa: ARG002 - the protocol's
        model_id: str,  # noqa: ARG002 - the protocol's
        endpoint: Endpoint | None = None,  # noqa: ARG002 - the protocol's
    ) -> EmbeddingReply:
        """Fail."""
        raise self.failure

    async def forget(self, endpoint: Endpoint) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""
