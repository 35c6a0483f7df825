"""llama.cpp: GGUF files that Noa runs in processes of its own, and a server of the user's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from noa.chat import ChatRequest
from noa.config import ProviderConfig
from noa.dialects import anthropic
from noa.dialects.envelope import peek, retarget
from noa.dialects.openai import StreamAssembler
from noa.dialects.sse import SseParser
from noa.errors import AIProviderError, ModelNotFoundError, UnsupportedError
from noa.models import Endpoint, ModelInfo
from noa.providers.answers import StreamedAnswer, WholeAnswer
from noa.providers.engine_refusal import explain
from noa.providers.llama_router import LlamaRouter
from noa.providers.model_folder import ModelFolders
from noa.providers.openai import OpenAIDialect, bearer
from noa.providers.protocol import Health, Offer, RawRequest
from noa.providers.remote import METADATA_TIMEOUT_S, NO_SUCH_ROUTE
from noa.providers.stream_filter import StreamFilter
from noa.providers.upstream import versioned
from noa.providers.wire import LLAMA_CPP

logger = logging.getLogger(__name__)

#: Ends the id of a server's model whose name a file has too.
SERVER_SUFFIX = "@server"
#: Where the engine counts.
COUNT_PATH = "/messages/count_tokens"
#: The routes on which the engine can stream.
_STREAMED = frozenset({"/chat/completions", "/completions"})


class _Wishes(msgspec.Struct):
    return_progress: Any = None


_decode_wishes = msgspec.json.Decoder(_Wishes).decode


class LlamaCppProvider(OpenAIDialect):
    """Models in GGUF files (owned), and those of a running ``llama-server`` if ``base_url`` names one (remote).

    A server in router mode loads and unloads its models at our word. A file goes before a server's model of the same
    name, which then is called ``name@server``. An engine of ours is always streamed to, because llama.cpp notices that
    its client has left only while it streams; whoever did not ask for a stream gets the pieces put together.
    Connections are not used twice: the server closes them after a stream while it announces to keep them.

    The engine has Anthropic's messages too, and is asked for none: seen with the build that Noa installs, it leaves a
    schema for the answer and documents out without a word, and only a stream lets it notice that its client has left.
    """

    def __init__(self, config: ProviderConfig, folders: Sequence[Path]) -> None:
        super().__init__(
            config,
            LLAMA_CPP,
            base_url=versioned(config.base_url) if config.base_url else None,
            headers=bearer(config),
            reuse_connections=False,
        )
        self._folders = ModelFolders(config.name, folders)
        #: How the server is told to load and unload; ``None`` without a server.
        self._router: LlamaRouter | None = None
        if config.base_url is not None:
            self._router = LlamaRouter(self._upstream.at(versioned(config.base_url).removesuffix("/v1")))

    @property
    def lists_files(self) -> bool:
        """Yes: most of its models are GGUF files in folders of this machine."""
        return True

    async def list_models(self) -> Sequence[Offer]:
        """The files' models, then the server's. A server that does not answer is logged, and hides no file."""
        owned = await asyncio.to_thread(self._folders.scan)
        if self._router is None:
            return owned
        try:
            served = await super().list_models()
        except AIProviderError as error:
            if not owned:
                raise
            logger.warning("%s", error.message)
            return owned
        taken = {offer.model.id for offer in owned}
        return [*owned, *(_told_apart(offer, taken) for offer in served)]

    async def open(self, request: RawRequest) -> WholeAnswer | StreamedAnswer:
        """Send a request; what an engine of ours streamed is put together for whoever wants it whole."""
        try:
            answer = await super().open(request)
        except AIProviderError as error:
            if request.endpoint is None:
                raise
            raise explain(error, f"{self.name}:{request.model_id}") from error
        if request.stream or not isinstance(answer, StreamedAnswer):
            return answer
        body = await _assemble(answer, self.name)
        return WholeAnswer(body, headers=answer.headers, usage=answer.usage)

    async def count_tokens(self, request: ChatRequest, model_id: str, endpoint: Endpoint | None = None) -> int:
        """Have the engine write the prompt by the model's template, and count it; its route is Anthropic's."""
        # What could not be sent cannot be counted either: this raises what sending it would.
        self._wire.encode_request(request, model_id, stream=False)
        body = anthropic.encode_count_request(request, self._upstream_id(model_id))
        response = await self._upstream.send(
            "POST", COUNT_PATH, body=body, endpoint=endpoint, total_s=METADATA_TIMEOUT_S
        )
        try:
            if response.status in NO_SUCH_ROUTE:
                raise UnsupportedError(f"{self.name} counts no tokens; its server is too old.", provider=self.name)
            if response.status >= 400:
                raise await self._refusal(response)
            return anthropic.decode_count(await response.read(), provider=self.name)
        finally:
            response.close()

    async def health(self) -> Health:
        """Whether the server answers, if there is one; with files alone there is nothing that could be down."""
        if self._router is None:
            return Health(up=True)
        server = await super().health()
        if server.up or not await asyncio.to_thread(self._folders.scan):
            return server
        return msgspec.structs.replace(server, up=True)

    async def verify(self, model_id: str) -> ModelInfo:
        """Make sure that the file is there, or ask the server."""
        for offer in await asyncio.to_thread(self._folders.scan):
            if offer.model.id == model_id:
                return offer.model
        if self._router is None:
            raise ModelNotFoundError(
                f"{self.name} has no file for the model “{model_id}”; put {model_id}.gguf into the model folder.",
                provider=self.name,
            )
        return await super().verify(model_id)

    async def load(self, model_id: str, progress: Callable[[str], None]) -> None:
        """Have the server load one of its models, if it is a router."""
        if self._router is not None:
            await self._router.load(self._upstream_id(model_id), progress)

    async def unload(self, model_id: str) -> None:
        """Have the server unload one of its models, if it is a router."""
        if self._router is not None:
            await self._router.unload(self._upstream_id(model_id))

    async def resident(self) -> Collection[str] | None:
        """What the server has loaded, if it is a router."""
        loaded = await self._router.resident() if self._router is not None else None
        return None if loaded is None else {*loaded, *(model_id + SERVER_SUFFIX for model_id in loaded)}

    async def aclose(self) -> None:
        """Close every connection."""
        if self._router is not None:
            await self._router.aclose()
        await super().aclose()

    def _upstream_id(self, model_id: str) -> str:
        return model_id.removesuffix(SERVER_SUFFIX)

    def _prepare(self, request: RawRequest) -> tuple[bytes, StreamFilter | None]:
        if request.endpoint is None:
            return self._prepare_for_server(request)
        if request.path not in _STREAMED:
            return request.body, None
        body = retarget(
            request.body,
            model=request.model_id,
            stream=True,
            add={"return_progress": True, "stream_options": {"include_usage": True}},
        )
        events = self._filter(
            drop_usage=request.stream and not peek(request.body).include_usage,
            drop_progress=not _decode_wishes(request.body).return_progress,
        )
        return body, events

    def _prepare_for_server(self, request: RawRequest) -> tuple[bytes, StreamFilter | None]:
        upstream_id = self._upstream_id(request.model_id)
        if upstream_id != request.model_id:
            request = msgspec.structs.replace(request, body=retarget(request.body, model=upstream_id))
        return super()._prepare(request)


async def _assemble(answer: StreamedAnswer, provider: str) -> bytes:
    """The body that the engine would have sent without streaming."""
    parser, assembler = SseParser(), StreamAssembler(provider)
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            for event in parser.feed(chunk):
                assembler.feed(event)
    return assembler.body()


def _told_apart(offer: Offer, taken: Collection[str]) -> Offer:
    if offer.model.id not in taken:
        return offer
    model = msgspec.structs.replace(offer.model, id=offer.model.id + SERVER_SUFFIX)
    return msgspec.structs.replace(offer, model=model)
