"""OpenAI, and every service at an address that speaks its dialect."""

from __future__ import annotations

from collections.abc import Sequence

from noa.chat import EmbeddingReply, EmbeddingRequest
from noa.config import ProviderConfig
from noa.dialects import openai
from noa.dialects.envelope import peek, retarget
from noa.errors import ValidationError
from noa.models import Endpoint, ModelInfo
from noa.presets import KNOWN_PROVIDERS
from noa.providers.answers import StreamedAnswer, WholeAnswer
from noa.providers.families import describe
from noa.providers.protocol import Dialect, RawRequest
from noa.providers.remote import RemoteProvider, whole
from noa.providers.stream_filter import StreamFilter
from noa.providers.wire import OPENAI, OPENAI_ITSELF


class OpenAIDialect(RemoteProvider):
    """What every speaker of OpenAI's dialect shares.

    Streams are asked for their usage; the chunk that brings it is taken out again for callers who did not ask, and a
    service that does not know the option is not asked again.
    """

    _asks_for_usage = True

    async def open(self, request: RawRequest) -> WholeAnswer | StreamedAnswer:
        """Send a request; one that a service refuses for the usage option, which is Noa's, is sent again without it."""
        try:
            return await super().open(request)
        except ValidationError as refusal:
            ours = request.stream and self._asks_for_usage and not peek(request.body).include_usage
            if not ours or "stream_options" not in refusal.message:
                raise
            self._asks_for_usage = False
        return await super().open(request)

    async def embed(self, request: EmbeddingRequest, model_id: str, endpoint: Endpoint | None = None) -> EmbeddingReply:
        """Embed texts."""
        raw = RawRequest(
            dialect=Dialect.OPENAI,
            path="/embeddings",
            body=openai.encode_embedding_request(request, self._upstream_id(model_id)),
            model_id=model_id,
            stream=False,
            endpoint=endpoint,
        )
        return openai.decode_embedding_reply(await whole(await self.open(raw)), provider=self.name)

    def _prepare(self, request: RawRequest) -> tuple[bytes, StreamFilter | None]:
        if not request.stream:
            return request.body, None
        asked = peek(request.body).include_usage
        if asked or not self._asks_for_usage:
            return request.body, self._filter()
        body = retarget(
            request.body,
            model=self._upstream_id(request.model_id),
            stream=True,
            add={"stream_options": {"include_usage": True}},
        )
        return body, self._filter(drop_usage=True)

    def _read_listing(self, body: bytes) -> Sequence[ModelInfo]:
        return [
            describe(
                self.name,
                row.id,
                name=row.name,
                context_window=row.context,
                max_tokens=row.max_tokens,
                metadata={"ownedBy": row.owned_by} if row.owned_by else None,
            )
            for row in openai.decode_models(body, provider=self.name)
        ]


class OpenAIProvider(OpenAIDialect):
    """OpenAI, or the service whose base URL (what precedes ``/chat/completions``) is configured."""

    def __init__(self, config: ProviderConfig) -> None:
        wire = OPENAI_ITSELF if config.base_url == KNOWN_PROVIDERS["openai"].base_url else OPENAI
        super().__init__(config, wire, base_url=config.base_url, headers=bearer(config))


def bearer(config: ProviderConfig) -> dict[str, str]:
    """The header that carries the key."""
    return {"authorization": f"Bearer {config.api_key.reveal()}"} if config.api_key else {}
