"""Anthropic's models, in Anthropic's own dialect."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from noa.chat import EmbeddingReply, EmbeddingRequest
from noa.config import ProviderConfig
from noa.dialects import anthropic
from noa.errors import UnsupportedError
from noa.models import Endpoint, ModelInfo
from noa.providers.families import describe
from noa.providers.protocol import RawRequest
from noa.providers.remote import RemoteProvider
from noa.providers.stream_filter import StreamFilter
from noa.providers.upstream import versioned
from noa.providers.wire import ANTHROPIC

#: The version of the wire that the codec speaks; a caller's own header goes before it.
API_VERSION = "2023-06-01"
#: More pages of models than anybody has; a service that never comes to an end is not followed further.
MAX_PAGES = 20


class ClaudeProvider(RemoteProvider):
    """Anthropic's Messages API. The base URL may end in ``/v1`` or not."""

    def __init__(self, config: ProviderConfig) -> None:
        key = {"x-api-key": config.api_key.reveal()} if config.api_key else {}
        super().__init__(
            config,
            ANTHROPIC,
            base_url=versioned(config.base_url) if config.base_url else None,
            headers={**key, "anthropic-version": API_VERSION},
        )

    async def embed(
        self,
        request: EmbeddingRequest,  # noqa: ARG002 - the protocol's
        model_id: str,  # noqa: ARG002 - the protocol's
        endpoint: Endpoint | None = None,  # noqa: ARG002 - the protocol's
    ) -> EmbeddingReply:
        """Say that there are no embeddings in this dialect."""
        raise UnsupportedError(
            f"{self.name} offers no embeddings; use an embedding model of another provider.", provider=self.name
        )

    def _prepare(self, request: RawRequest) -> tuple[bytes, StreamFilter | None]:
        return request.body, self._filter() if request.stream else None

    async def _list(self) -> Sequence[ModelInfo] | None:
        models: list[ModelInfo] = []
        after = ""
        for _ in range(MAX_PAGES):
            body = await self._fetch(f"/models?limit=1000{after}")
            if body is None:
                return None
            models += self._read_listing(body)
            last = anthropic.next_page(body)
            if last is None:
                break
            after = f"&after_id={quote(last, safe='')}"
        return models

    def _read_listing(self, body: bytes) -> Sequence[ModelInfo]:
        return [
            describe(
                self.name,
                row.id,
                name=row.display_name,
                context_window=row.max_input_tokens,
                max_tokens=row.max_tokens,
            )
            for row in anthropic.decode_models(body, provider=self.name)
        ]
