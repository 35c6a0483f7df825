"""A llama.cpp server in router mode: it starts a process for each model, and its API says which and when.

Facts of the API (``tools/server/README.md`` of llama.cpp, "Model management"): the rows of ``GET /models`` have a
``status`` with a ``value``, which a plain server's lack; a load that failed is ``unloaded`` with ``failed`` and an
``exit_code``. ``POST /models/load`` and ``/models/unload`` answer before it has happened, and with 400 when it has
happened already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from noa.errors import (
    AIProviderError,
    ModelLoadError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from noa.providers.upstream import MAX_ERROR_BYTES, Upstream

#: How often it is asked how far it is, in seconds.
POLL_S: Final = 0.2
#: How long it may take to say how models stand, in seconds.
METADATA_TIMEOUT_S: Final = 10.0
#: How long it may take to accept an order: before a load it ends the process of another model if there are too many.
ORDER_TIMEOUT_S: Final = 60.0
#: How long an unload may take, in seconds; it kills a process that does not end within ten.
UNLOAD_TIMEOUT_S: Final = 60.0

_SERVES: Final = frozenset({"loaded", "sleeping"})
_HAS_PROCESS: Final = _SERVES | {"loading"}
_UNDER_WAY: Final = frozenset({"loading", "downloading", "downloaded"})

#: What a refused order means; anything else is the router's own trouble.
_REFUSALS: Final[Mapping[int, type[AIProviderError]]] = {
    401: ProviderAuthenticationError,
    403: ProviderAuthenticationError,
    404: ModelNotFoundError,
}


class ModelStanding(msgspec.Struct, frozen=True):
    """Where a model stands there."""

    value: str
    failed: bool = False
    exit_code: int | None = None


class _Row(msgspec.Struct, frozen=True):
    id: str
    status: ModelStanding | None = None


class _Rows(msgspec.Struct, frozen=True):
    data: list[_Row] = []


class _Problem(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Problem = _Problem()


class LlamaRouter:
    """Loads and unloads models on such a server, behind ``upstream``, whose base URL has no ``/v1``."""

    def __init__(self, upstream: Upstream, poll_s: float = POLL_S) -> None:
        self._upstream = upstream
        self._poll_s = poll_s

    async def load(self, model_id: str, progress: Callable[[str], None]) -> None:
        """Have a model loaded, and wait for it as long as the server works on it; a plain server is left alone.

        Whoever else has it loaded meanwhile does the same for us. Raises ``ModelLoadError`` if its process ends.
        """
        standing = await self._standing(model_id)
        if standing is None or standing.value in _SERVES:
            return
        progress("loading")
        refusal = None if standing.value in _UNDER_WAY else await self._order("load", model_id)
        while True:
            standing = await self._standing(model_id)
            if standing is None:
                raise ModelNotFoundError(f"{self._name} lists “{model_id}” no longer.", provider=self._name)
            if standing.value in _SERVES:
                return
            if standing.value not in _UNDER_WAY:
                raise self._ended(model_id, standing, refusal)
            await asyncio.sleep(self._poll_s)

    async def unload(self, model_id: str) -> None:
        """Have a model unloaded, and wait until it is. Raises ``ProviderTimeoutError`` if that takes too long."""
        if not await self._has_process(model_id):
            return
        await self._order("unload", model_id)
        try:
            async with asyncio.timeout(UNLOAD_TIMEOUT_S):
                while await self._has_process(model_id):  # noqa: ASYNC110  # only asking tells
                    await asyncio.sleep(self._poll_s)
        except TimeoutError:
            sentence = f"{self._name} did not unload “{model_id}” within {UNLOAD_TIMEOUT_S:.0f} s."
            raise ProviderTimeoutError(sentence, provider=self._name) from None

    async def resident(self) -> Collection[str] | None:
        """The models that have a process there; ``None`` if the server is no router."""
        standings = await self._standings()
        if not standings:
            return None
        return {model_id for model_id, standing in standings.items() if standing.value in _HAS_PROCESS}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._upstream.aclose()

    @property
    def _name(self) -> str:
        return self._upstream.target.provider

    async def _standing(self, model_id: str) -> ModelStanding | None:
        """Where a model stands; ``None`` if the server is no router, or does not list it."""
        return (await self._standings()).get(model_id)

    async def _standings(self) -> Mapping[str, ModelStanding]:
        """Where each model stands; nothing if the server is no router."""
        status, body = await self._ask("GET", "/models")
        if status >= 400:
            return {}
        try:
            rows = msgspec.json.decode(body, type=_Rows).data
        except msgspec.DecodeError:
            return {}
        return {row.id: row.status for row in rows if row.status is not None}

    async def _has_process(self, model_id: str) -> bool:
        standing = await self._standing(model_id)
        return standing is not None and standing.value in _HAS_PROCESS

    async def _order(self, action: str, model_id: str) -> str | None:
        """Have it done. What is refused with 400 is mostly so already, as asking will show; then this says why."""
        status, body = await self._ask("POST", f"/models/{action}", msgspec.json.encode({"model": model_id}))
        if status < 300:
            return None
        try:
            reason = msgspec.json.decode(body, type=_Refusal).error.message
        except msgspec.DecodeError:
            reason = ""
        sentence = f"it refused to {action} it (status {status}: {reason or 'it did not say why'})"
        if status == 400:
            return sentence
        raise _REFUSALS.get(status, ProviderResponseError)(
            f"{self._name}:{model_id} is on a llama.cpp router, and {sentence}.", provider=self._name
        )

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        patience_s = METADATA_TIMEOUT_S if body is None else ORDER_TIMEOUT_S
        response = await self._upstream.send(method, path, body=body, total_s=patience_s)
        try:
            if response.status < 400:
                return response.status, await response.read()
            return response.status, self._upstream.redact(await response.read(MAX_ERROR_BYTES))
        finally:
            response.close()

    def _ended(self, model_id: str, standing: ModelStanding, refusal: str | None) -> ModelLoadError:
        if refusal is not None:
            how = refusal
        elif standing.failed:
            code = "" if standing.exit_code is None else f" with code {standing.exit_code}"
            how = f"its process there ended{code}; see that server's log"
        else:
            how = "it was unloaded there meanwhile; load it again"
        sentence = f"{self._name}:{model_id} could not be loaded by the llama.cpp router: {how}."
        return ModelLoadError(sentence, provider=self._name, retryable=not (standing.failed or refusal))
