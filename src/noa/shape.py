"""How a local model is started: as its load says, and where it says nothing, as is configured."""

from __future__ import annotations

from typing import Final

import msgspec

from noa.models import CacheType, LoadOptions, ModelCapability, ModelInfo
from noa.providers.protocol import Offer
from noa.runtime.protocol import EngineSpec

#: ``LLAMA_POOLING_TYPE_LAST`` of llama.cpp: the vector of a text is that of its last token.
_POOLS_LAST: Final = 3


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How an owned model is started where its load does not say: see ``LoadOptions``."""

    context_size: int = 4096
    slots: int = 1
    threads: int = 1
    gpu_layers: int | None = None
    cache_type: CacheType = CacheType.F16

    def spec(self, offer: Offer, options: LoadOptions, generation: int = 0) -> EngineSpec:
        """The engine to start for this model, loaded with these options. A context beyond the model's is not assumed,
        only taken when it is asked for.
        """
        model = offer.model
        gpu_layers = options.gpu_layers if options.gpu_layers is not None else self.gpu_layers
        return EngineSpec(
            key=model.key,
            generation=generation,
            path=offer.path or "",
            alias=model.id,
            context_size=options.context_size or min(self.context_size, model.context_window or self.context_size),
            slots=options.slots or self.slots,
            threads=options.threads or self.threads,
            gpu_layers=gpu_layers,
            cache_type=str(options.cache_type or self.cache_type),
            embedding=_only_embeds(model),
            last_token=offer.header is not None and offer.header.pooling_type == _POOLS_LAST,
            maps=bool(gpu_layers) or not _is_repacked(offer),
        )


def _is_repacked(offer: Offer) -> bool:
    """Whether a CPU keeps most of the weights in an order of its own. What it has copied so stays resident in a mapped
    file as well, which nearly doubles the memory (llama.cpp issue 16761); a file that is read is held once.
    """
    header = offer.header
    return header is not None and 2 * header.repacked_bytes > header.tensor_bytes


def _only_embeds(model: ModelInfo) -> bool:
    can = model.capabilities
    return ModelCapability.EMBEDDINGS in can and ModelCapability.CHAT_COMPLETION not in can
