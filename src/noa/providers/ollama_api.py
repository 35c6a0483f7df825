"""Ollama's own API: what it has, what of that is loaded, and having it loaded and let go.

Facts of it, read from Ollama's documentation and source (August 2026): ``/api/tags`` lists, in newer versions with
capabilities; ``/api/show`` says more of one model; ``/api/ps`` has what is loaded. An empty prompt to ``/api/generate``
loads, and with ``keep_alive`` 0 unloads; a negative ``keep_alive`` lasts until somebody says otherwise, also through
requests that name none. Embedding models refuse to generate and are loaded by an empty ``/api/embed``. Errors are
``{"error": "text"}``. A model with ``remote_host`` runs in Ollama's cloud and is never loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from noa.dialects.upstream import decode_answer
from noa.errors import (
    AIProviderError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnavailableError,
    ProviderResponseError,
    ProviderTimeoutError,
    ValidationError,
)
from noa.providers.upstream import Upstream, UpstreamResponse

#: How long it may take to say how models stand, in seconds.
METADATA_TIMEOUT_S: Final = 10.0
#: How long an unload may take, in seconds, and how often it is asked whether it has happened.
UNLOAD_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.2
#: Keeps a model until it is unloaded, and unloads it.
FOREVER: Final = -1
AT_ONCE: Final = 0
#: How an embedding model refuses to be loaded like the others.
_ONLY_EMBEDS: Final = "does not support generate"


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's file says of itself."""

    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None
    context_length: int | None = None


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A model that Ollama has. ``size`` is in bytes."""

    name: str
    size: int | None = None
    digest: str | None = None
    details: Details | None = None
    capabilities: tuple[str, ...] | None = None
    remote_host: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What it says of one when asked. ``model_info`` is the header of the weights."""

    details: Details | None = None
    capabilities: tuple[str, ...] | None = None
    model_info: dict[str, Any] | None = None
    parameters: str | None = None

    @property
    def context_length(self) -> int | None:
        """What the weights were trained for, in tokens."""
        for name, value in (self.model_info or {}).items():
            if name.endswith(".context_length") and isinstance(value, int):
                return value
        return None


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is loaded: bytes it takes in all and on the GPU, and its context in tokens."""

    name: str
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None


class _Tags(msgspec.Struct):
    models: tuple[Tag, ...] | None = None


class _Loaded(msgspec.Struct):
    models: tuple[Loaded, ...] | None = None


_tags = msgspec.json.Decoder(_Tags)
_loaded = msgspec.json.Decoder(_Loaded)
_shown = msgspec.json.Decoder(Shown)


class OllamaApi:
    """The routes below ``/api`` of an Ollama behind ``upstream``, whose base URL is what precedes that.

    ``refusal`` reads the error out of an answer.
    """

    def __init__(self, upstream: Upstream, refusal: Callable[[UpstreamResponse], Awaitable[AIProviderError]]) -> None:
        self._upstream = upstream
        self._refusal = refusal

    @property
    def _name(self) -> str:
        return self._upstream.target.provider

    async def tags(self) -> tuple[Tag, ...]:
        """Every model it has."""
        body = await self._ask("GET", "/api/tags")
        return decode_answer(_tags, body, "list of models", self._name).models or ()

    async def loaded(self) -> tuple[Loaded, ...]:
        """Those that are loaded now."""
        body = await self._ask("GET", "/api/ps")
        return decode_answer(_loaded, body, "list of loaded models", self._name).models or ()

    async def show(self, model_id: str) -> Shown:
        """More of one model. Raises ``ModelNotFoundError``."""
        body = await self._ask("POST", "/api/show", {"model": model_id})
        return decode_answer(_shown, body, "description of a model", self._name)

    async def load(self, model_id: str) -> None:
        """Return when the model is loaded, to stay so. Raises ``ModelLoadError`` with Ollama's words if it fails."""
        order = {"model": model_id, "keep_alive": FOREVER, "stream": False}
        try:
            try:
                await self._ask("POST", "/api/generate", order, limit_s=None)
            except ValidationError as refusal:
                if _ONLY_EMBEDS not in refusal.message:
                    raise
                await self._ask("POST", "/api/embed", {"model": model_id, "keep_alive": FOREVER}, limit_s=None)
        except (ValidationError, ProviderResponseError, ModelUnavailableError) as error:
            said = error.message.removeprefix(f"{self._name} ").rstrip(".")
            sentence = f"{self._name}:{model_id} could not be loaded by Ollama: it {said}."
            raise ModelLoadError(sentence, provider=self._name, retryable=error.retryable) from error

    async def unload(self, model_id: str) -> None:
        """Have it let go, and wait until it has. Raises ``ProviderTimeoutError`` if that takes too long."""
        try:
            await self._ask("POST", "/api/generate", {"model": model_id, "keep_alive": AT_ONCE, "stream": False})
        except ModelNotFoundError:
            return
        try:
            async with asyncio.timeout(UNLOAD_TIMEOUT_S):
                while any(each.name == model_id for each in await self.loaded()):  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            sentence = f"{self._name} did not unload “{model_id}” within {UNLOAD_TIMEOUT_S:.0f} s."
            raise ProviderTimeoutError(sentence, provider=self._name) from None

    async def aclose(self) -> None:
        """Close every connection."""
        await self._upstream.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        limit_s: float | None = METADATA_TIMEOUT_S,
    ) -> bytes:
        """The answer's body. ``limit_s`` is for the whole exchange; without it only the provider's silence counts."""
        encoded = None if body is None else msgspec.json.encode(body)
        response = await self._upstream.send(method, path, body=encoded, total_s=limit_s)
        try:
            if response.status < 400:
                return await response.read()
            raise await self._refusal(response)
        finally:
            response.close()
