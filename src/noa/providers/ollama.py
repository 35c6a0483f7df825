"""Ollama: models that it loads and unloads at our word, spoken to in OpenAI's dialect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from noa.config import ProviderConfig
from noa.errors import AIProviderError, ModelNotFoundError
from noa.models import CapabilityEvidence, EvidenceSource, FactSources, ModelCapability, ModelInfo, Price, PriceSource
from noa.providers.ollama_api import OllamaApi, Shown, Tag
from noa.providers.openai import OpenAIDialect, bearer
from noa.providers.protocol import Offer
from noa.providers.upstream import versioned
from noa.providers.wire import openai_wire

logger = logging.getLogger(__name__)

#: The tag that a name without one means.
DEFAULT_TAG: Final = ":latest"
#: So many models are asked about at once.
_AT_ONCE: Final = 4
#: What runs on the user's own machines has no price per token.
_OF_OUR_OWN: Final = Price(input=0, output=0, source=PriceSource.LOCAL)
#: What Ollama's words for abilities mean; any model that writes can be held to JSON.
_ABILITIES: Final[Mapping[str, tuple[ModelCapability, ...]]] = {
    "completion": (
        ModelCapability.CHAT_COMPLETION,
        ModelCapability.TEXT_GENERATION,
        ModelCapability.STREAMING,
        ModelCapability.JSON_MODE,
    ),
    "tools": (ModelCapability.FUNCTION_CALLING,),
    "vision": (ModelCapability.VISION,),
    "embedding": (ModelCapability.EMBEDDINGS,),
}


class OllamaProvider(OpenAIDialect):
    """The models of one Ollama, whose base URL has no ``/v1``.

    A model that Noa has loaded stays loaded there until Noa unloads it, or somebody else does. ``name`` stands for
    ``name:latest``, as everywhere with Ollama. Its cloud's models are offered too, and have nothing to load.
    """

    def __init__(self, config: ProviderConfig) -> None:
        root = (config.base_url or "").removesuffix("/v1")
        super().__init__(config, openai_wire(config.habits), base_url=versioned(root), headers=bearer(config))
        self._api = OllamaApi(self._upstream.at(root), self._refusal)
        #: What was shown of each model, by name and digest: it changes with the digest only.
        self._shown: dict[tuple[str, str | None], Shown] = {}
        self._in_cloud: frozenset[str] = frozenset()

    async def list_models(self) -> Sequence[Offer]:
        """Every model it has pulled."""
        tags = await self._tags()
        gate = asyncio.Semaphore(_AT_ONCE)
        shown = await asyncio.gather(*(self._show(tag, gate) for tag in tags))
        return [self._offer(tag, more) for tag, more in zip(tags, shown, strict=True)]

    async def verify(self, model_id: str) -> ModelInfo:
        """Make sure that it has the model."""
        tag = await self._tag(model_id)
        return self._describe(tag, await self._show(tag, asyncio.Semaphore()))

    async def load(self, model_id: str, progress: Callable[[str], None]) -> None:
        """Have it loaded, to stay so; also what is loaded already, and would go when nobody uses it for a while."""
        if (await self._tag(model_id)).remote_host:
            return
        if model_id not in await self._loaded():
            progress("loading")
        await self._api.load(model_id)

    async def unload(self, model_id: str) -> None:
        """Have it let go."""
        if model_id in await self._loaded():
            await self._api.unload(model_id)

    async def resident(self) -> Collection[str]:
        """What it has loaded, and what runs in its cloud, where nothing is ever unloaded."""
        return await self._loaded() | self._in_cloud

    async def aclose(self) -> None:
        """Close every connection."""
        await self._api.aclose()
        await super().aclose()

    async def _list(self) -> Sequence[ModelInfo]:
        return [self._describe(tag, None) for tag in await self._tags()]

    async def _tags(self) -> Sequence[Tag]:
        tags = await self._api.tags()
        self._in_cloud = frozenset(tag.name for tag in tags if tag.remote_host)
        known = {(tag.name, tag.digest) for tag in tags}
        self._shown = {key: shown for key, shown in self._shown.items() if key in known}
        return tags

    async def _tag(self, model_id: str) -> Tag:
        for tag in await self._tags():
            if tag.name == model_id:
                return tag
        raise ModelNotFoundError(
            f"{self.name} has no model “{model_id}”. Pull it there: ollama pull {model_id}", provider=self.name
        )

    async def _loaded(self) -> frozenset[str]:
        return frozenset(each.name for each in await self._api.loaded())

    async def _show(self, tag: Tag, gate: asyncio.Semaphore) -> Shown | None:
        """More of a model; ``None`` if its list has said everything, or Ollama cannot say."""
        if tag.capabilities is not None and tag.details is not None and tag.details.context_length:
            return None
        key = (tag.name, tag.digest)
        if key not in self._shown:
            try:
                async with gate:
                    self._shown[key] = await self._api.show(tag.name)
            except AIProviderError as error:
                logger.warning("%s:%s is listed without its abilities: %s", self.name, tag.name, error.message)
                return None
        return self._shown[key]

    def _offer(self, tag: Tag, shown: Shown | None) -> Offer:
        short = tag.name.removesuffix(DEFAULT_TAG)
        return Offer(
            model=self._describe(tag, shown),
            other_ids=(short,) if short != tag.name else (),
            size_bytes=tag.size,
        )

    def _describe(self, tag: Tag, shown: Shown | None) -> ModelInfo:
        details = tag.details or (shown.details if shown else None)
        context = (details.context_length if details else None) or (shown.context_length if shown else None)
        facts = {
            "family": details.family if details else None,
            "parameterSize": details.parameter_size if details else None,
            "quantization": details.quantization_level if details else None,
            "digest": tag.digest,
            "remoteHost": tag.remote_host,
        }
        words = tag.capabilities if tag.capabilities is not None else shown.capabilities if shown else None
        able = [capability for word in words or () for capability in _ABILITIES.get(word, ())]
        return ModelInfo(
            id=tag.name,
            name=tag.name,
            provider=self.name,
            context_window=context,
            capabilities=tuple(able if words is not None else _ABILITIES["completion"]),
            metadata={name: value for name, value in facts.items() if value},
            evidence=tuple(_evidence(able)) if words is not None else (),
            sources=FactSources(context_window=EvidenceSource.METADATA if context else None),
            price=None if tag.remote_host else _OF_OUR_OWN,
        )


def _evidence(able: Collection[ModelCapability]) -> list[CapabilityEvidence]:
    """What it declares of a model; what it leaves out of its list it denies."""
    known = dict.fromkeys(capability for ability in _ABILITIES.values() for capability in ability)
    return [
        CapabilityEvidence(capability=each, supported=each in able, source=EvidenceSource.DECLARED) for each in known
    ]
