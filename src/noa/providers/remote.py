"""The course every provider behind an HTTP address shares: prepare, send, judge the answer, decode."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import msgspec

from noa.chat import ChatEvent, ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest
from noa.config import ProviderConfig
from noa.dialects.sse import SseParser
from noa.dialects.upstream import stream_error
from noa.errors import (
    AIProviderError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderResponseError,
    UpstreamAnswer,
    ValidationError,
)
from noa.models import Endpoint, ModelInfo
from noa.providers.answers import StreamedAnswer, WholeAnswer
from noa.providers.families import describe
from noa.providers.faults import Target
from noa.providers.protocol import Dialect, Health, Offer, RawRequest
from noa.providers.stream_filter import StreamFilter
from noa.providers.upstream import MAX_ERROR_BYTES, Upstream, UpstreamResponse
from noa.providers.wire import Wire

#: Seconds for lists of models and for health: they are small and wait for nobody.
METADATA_TIMEOUT_S = 10.0
#: Statuses by which a service says that it has no such route.
NO_SUCH_ROUTE = frozenset({404, 405, 501})


class _Body(msgspec.Struct):
    """The two fields of a whole answer that are looked at before it is passed on; decoding proves the rest JSON."""

    error: Any = None
    usage: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode


class RemoteProvider(ABC):
    """A provider behind an HTTP address, in one dialect.

    Subclasses say how to prepare a request and what the service lists; the rest is the same for all.
    """

    def __init__(
        self,
        config: ProviderConfig,
        wire: Wire,
        *,
        base_url: str | None,
        headers: Mapping[str, str],
        reuse_connections: bool = True,
    ) -> None:
        self._config = config
        self._wire = wire
        where = f"Check {config.address_variable or f'the base URL of {config.name}'}."
        self._upstream = Upstream(
            Target(provider=config.name, address=base_url or "its address", advice=where),
            base_url=base_url,
            timeout_s=config.timeout_s,
            headers=headers,
            secret=config.api_key,
            reuse=reuse_connections,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """The configured name, the left half of its models' keys."""
        return self._config.name

    @property
    def dialects(self) -> frozenset[Dialect]:
        """The one dialect it speaks."""
        return frozenset({self._wire.dialect})

    @property
    def lists_files(self) -> bool:
        """No: what a service offers is asked over the network."""
        return False

    async def list_models(self) -> Sequence[Offer]:
        """What the service lists and what was configured; the default model counts if there is nothing else."""
        listed = await self._list() or ()
        unlisted = self._unlisted({model.id for model in listed})
        return [Offer(model=model) for model in (*listed, *(describe(self.name, each) for each in unlisted))]

    def _unlisted(self, listed: Collection[str]) -> list[str]:
        """The ids of models that exist although the service does not list them."""
        configured = [model_id for model_id in self._config.models if model_id not in listed]
        default = self._config.default_model
        return configured or ([default] if default and not listed else [])

    async def health(self) -> Health:
        """Ask for the list of models, which costs nothing and needs the key; it must be one."""
        start = time.perf_counter()
        try:
            await self._list()
        except AIProviderError as error:
            return Health(up=False, error=error.message)
        return Health(up=True, latency_ms=(time.perf_counter() - start) * 1000)

    async def verify(self, model_id: str) -> ModelInfo:
        """Look the model up, by itself or in the list.

        A service that has neither route has been reached and has not refused the key; its model counts as verified.
        So does one that was configured.
        """
        upstream_id = self._upstream_id(model_id)
        if known := await self._look_up(upstream_id):
            return msgspec.structs.replace(known, id=model_id)
        models = await self._list() or ()
        for model in models:
            if model.id in (model_id, upstream_id):
                return msgspec.structs.replace(model, id=model_id)
        if models and model_id not in self._config.models:
            raise ModelNotFoundError(f"{self.name} has no model “{model_id}”.", provider=self.name)
        return describe(self.name, model_id)

    async def open(self, request: RawRequest) -> WholeAnswer | StreamedAnswer:
        """Send a request and judge the answer. What is not streamed has arrived whole when this returns."""
        body, events = self._prepare(request)
        response = await self._upstream.send(
            "POST", request.path, body=body, headers=request.headers, endpoint=request.endpoint
        )
        try:
            return await self._receive(response, events)
        except BaseException:
            response.close()
            raise

    async def complete(self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None) -> ChatReply:
        """Answer a conversation."""
        answer = await self._begin(request, model_id, endpoint, stream=False)
        return self._wire.decode_reply(await whole(answer), provider=self.name)

    async def stream(
        self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation bit by bit. Closing the generator lets go of the upstream at once."""
        answer = await self._begin(request, model_id, endpoint, stream=True)
        parser, decoder = SseParser(), self._wire.stream_decoder(self.name)
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    for told in decoder.feed(event):
                        yield told
        decoder.close()

    @abstractmethod
    async def embed(self, request: EmbeddingRequest, model_id: str, endpoint: Endpoint | None = None) -> EmbeddingReply:
        """Embed texts, or say that this provider cannot."""

    async def forget(self, endpoint: Endpoint) -> None:
        """Drop what was kept for an engine that is gone."""
        await self._upstream.forget(endpoint)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._upstream.aclose()

    # What differs between services.

    @abstractmethod
    def _prepare(self, request: RawRequest) -> tuple[bytes, StreamFilter | None]:
        """The body to send, and how to read the stream; ``None`` if the answer comes whole."""

    def _filter(self, *, drop_usage: bool = False, drop_progress: bool = False) -> StreamFilter:
        return StreamFilter(
            self._wire,
            self.name,
            redact=self._upstream.redact,
            drop_usage=drop_usage,
            drop_progress=drop_progress,
        )

    async def _list(self) -> Sequence[ModelInfo] | None:
        """The models that the service lists, ``None`` if it has no such route."""
        body = await self._fetch("/models")
        return None if body is None else self._read_listing(body)

    @abstractmethod
    def _read_listing(self, body: bytes) -> Sequence[ModelInfo]:
        """The models in an answer to that."""

    async def _look_up(self, upstream_id: str) -> ModelInfo | None:
        """The model by itself; ``None`` if the service does not know it, or does not know how to be asked so."""
        try:
            body = await self._fetch(f"/models/{quote(upstream_id, safe='')}")
            rows = self._read_listing(b'{"data":[' + body + b"]}") if body is not None else ()
        except (ValidationError, ModelNotFoundError, ProviderResponseError):
            return None
        return rows[0] if rows else None

    def _upstream_id(self, model_id: str) -> str:
        """What the service itself calls the model."""
        return model_id

    # Shared steps.

    async def _receive(self, response: UpstreamResponse, events: StreamFilter | None) -> WholeAnswer | StreamedAnswer:
        if response.status >= 400:
            raise await self._refusal(response)
        if events is None:
            return await self._arrived(response)
        if response.media_type != "text/event-stream":
            await self._arrived(response)
            raise response.nonsense("did not stream its answer, although it was asked to")
        return StreamedAnswer(response, events)

    async def _arrived(self, response: UpstreamResponse) -> WholeAnswer:
        """Read an answer whole; it must be a JSON object, and some services put an error into one with status 200."""
        body = await response.read()
        try:
            seen = _decode_body(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            what = "a web page" if body.lstrip().startswith(b"<") else "something that is no JSON object"
            raise response.nonsense(f"sent {what} where an answer was expected") from None
        if seen.error:
            shown = self._upstream.redact(msgspec.json.encode(seen.error))
            raise stream_error(msgspec.json.decode(shown), self.name)
        return WholeAnswer(
            body,
            content_type=response.content_type or "application/json",
            headers=response.headers,
            usage=self._wire.read_usage(seen.usage),
        )

    async def _fetch(self, path: str, upstream: Upstream | None = None) -> bytes | None:
        """The body of a GET, ``None`` if the service has no such route. Other failures raise."""
        response = await (upstream or self._upstream).send("GET", path, total_s=METADATA_TIMEOUT_S)
        try:
            if response.status in NO_SUCH_ROUTE:
                return None
            if response.status >= 400:
                raise await self._refusal(response)
            return await response.read()
        finally:
            response.close()

    async def _refusal(self, response: UpstreamResponse) -> AIProviderError:
        body = self._upstream.redact(await response.read(MAX_ERROR_BYTES))
        error = self._wire.decode_error(response.status, body, provider=self.name, retry_after_s=response.retry_after_s)
        if isinstance(error, ProviderAuthenticationError):
            return self._key_refused(error)
        error.upstream = UpstreamAnswer(status=response.status, content_type=response.content_type, body=body)
        return error

    def _key_refused(self, error: ProviderAuthenticationError) -> ProviderAuthenticationError:
        variable = self._config.key_variable
        if self._config.api_key is None:
            message = f"{self.name} asks for a key, and none is set. Set {variable or 'its apiKey'}."
        else:
            message = f"{self.name} refused its key. Check {variable or 'its apiKey'}."
        return ProviderAuthenticationError(message, provider=self.name, details=error.details)

    async def _begin(
        self, request: ChatRequest, model_id: str, endpoint: Endpoint | None, *, stream: bool
    ) -> WholeAnswer | StreamedAnswer:
        """Send a conversation."""
        return await self.open(self._raw(request, model_id, endpoint, stream=stream))

    def _raw(self, request: ChatRequest, model_id: str, endpoint: Endpoint | None, *, stream: bool) -> RawRequest:
        return RawRequest(
            dialect=self._wire.dialect,
            path=self._wire.chat_path,
            body=self._wire.encode_request(request, self._upstream_id(model_id), stream=stream),
            model_id=model_id,
            stream=stream,
            endpoint=endpoint,
        )


async def whole(answer: WholeAnswer | StreamedAnswer) -> bytes:
    """The body of an answer, read to its end."""
    return b"".join([chunk async for chunk in answer.chunks()])
