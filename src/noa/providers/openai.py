"""OpenAI, and every service at an address that speaks its dialect."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

import msgspec

from noa.chat import ChatRequest, EmbeddingReply, EmbeddingRequest
from noa.config import ProviderConfig
from noa.dialects import openai
from noa.dialects.envelope import peek, renamed, retarget, without
from noa.errors import ConfigurationError, ValidationError
from noa.models import Endpoint, ModelInfo
from noa.providers.answers import StreamedAnswer, WholeAnswer
from noa.providers.families import describe
from noa.providers.protocol import Dialect, Offer, RawRequest
from noa.providers.remote import RemoteProvider, whole
from noa.providers.stream_filter import StreamFilter
from noa.providers.upstream import Upstream
from noa.providers.wire import openai_wire


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
            if peek(request.body).include_usage or not self._is_about_usage(refusal, request):
                raise
            self._asks_for_usage = False
        return await super().open(request)

    async def _begin(
        self, request: ChatRequest, model_id: str, endpoint: Endpoint | None, *, stream: bool
    ) -> WholeAnswer | StreamedAnswer:
        """Send a conversation, which asks for usage by itself, to whoever knows the option."""
        raw = self._raw(request, model_id, endpoint, stream=stream)
        if self._asks_for_usage or not stream:
            try:
                return await self.open(raw)
            except ValidationError as refusal:
                if not self._is_about_usage(refusal, raw):
                    raise
                self._asks_for_usage = False
        return await self.open(msgspec.structs.replace(raw, body=without(raw.body, "stream_options")))

    def _is_about_usage(self, refusal: ValidationError, request: RawRequest) -> bool:
        return request.stream and self._asks_for_usage and "stream_options" in refusal.message

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
                declared=row.declared,
            )
            for row in openai.decode_models(body, provider=self.name)
        ]


class OpenAIProvider(OpenAIDialect):
    """OpenAI, or the service whose base URL (what precedes ``/chat/completions``) is configured, with its habits."""

    def __init__(self, config: ProviderConfig) -> None:
        habits = config.habits
        key = bearer(config)
        if habits.key_header != "authorization":
            key = {habits.key_header: config.api_key.reveal()} if config.api_key else {}
        super().__init__(config, openai_wire(habits), base_url=config.base_url, headers={**dict(habits.headers), **key})
        self._habits = habits
        self._asks_for_usage = habits.takes_stream_options
        #: Where the list of models is, if it is not below the base URL.
        self._beside: Upstream | None = None

    async def list_models(self) -> Sequence[Offer]:
        """The models; one that lists what could be deployed instead needs to be told what is."""
        offers = await super().list_models()
        if not offers and not self._habits.lists_usable:
            variable = self._config.models_variable
            where = f"in {variable}, or under “models” in noa.yaml" if variable else "under its “models” in noa.yaml"
            raise ConfigurationError(
                f"{self.name} does not list its deployments. Name them {where}.", provider=self.name
            )
        return offers

    async def aclose(self) -> None:
        """Close every connection."""
        if self._beside is not None:
            await self._beside.aclose()
        await super().aclose()

    def _prepare(self, request: RawRequest) -> tuple[bytes, StreamFilter | None]:
        body = request.body
        if not self._habits.knows_completion_tokens and b'"max_completion_tokens"' in body:
            body = renamed(body, "max_completion_tokens", "max_tokens")
        if not self._habits.takes_stream_options and b'"stream_options"' in body:
            body = without(body, "stream_options")
        if body is not request.body:
            request = msgspec.structs.replace(request, body=body)
        return super()._prepare(request)

    async def _list(self) -> Sequence[ModelInfo] | None:
        listing = self._habits.listing
        if listing is None:
            return [describe(self.name, model_id) for model_id in self._habits.models]
        if not listing.startswith("../"):
            body = await self._fetch(listing)
        else:
            address = urlsplit(urljoin(f"{self._config.base_url}/", listing))
            if self._beside is None:
                self._beside = self._upstream.at(f"{address.scheme}://{address.netloc}")
            body = await self._fetch(address._replace(scheme="", netloc="").geturl(), self._beside)
        models = None if body is None else self._read_listing(body)
        return models if self._habits.lists_usable else None

    def _read_listing(self, body: bytes) -> Sequence[ModelInfo]:
        models = super()._read_listing(body)
        prefix = self._habits.id_prefix
        if not prefix:
            return models
        return [msgspec.structs.replace(model, id=model.id.removeprefix(prefix)) for model in models]


def bearer(config: ProviderConfig) -> dict[str, str]:
    """The header that carries the key."""
    return {"authorization": f"Bearer {config.api_key.reveal()}"} if config.api_key else {}
