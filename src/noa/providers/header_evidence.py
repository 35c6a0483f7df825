"""What the header of a weights file says that the model can do, as the engine of ours will run it.

A template that speaks of tools is what llama.cpp, too, takes for the ability to call functions. Pooling types are those
of its ``enum llama_pooling_type``: mean, cls and last embed, 4 ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

from noa.gguf import GgufHeader
from noa.models import CapabilityEvidence, EvidenceSource, ModelCapability

#: Architectures that only embed, even where the header states no pooling.
_ENCODERS = frozenset({
    "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert",
    "nomic-bert-moe", "t5encoder",
})  # fmt: skip
_EMBEDDING_POOLING = frozenset({1, 2, 3})
_RANKING_POOLING = 4

_CAN = ModelCapability


def evidence_in(header: GgufHeader) -> tuple[CapabilityEvidence, ...]:
    """A line for every capability: what the model has first, in the order it is shown."""
    found = {
        capability: CapabilityEvidence(
            capability=capability, supported=supported, source=EvidenceSource.METADATA, detail=why
        )
        for capability, supported, why in _judge(header)
    }
    return tuple(sorted(found.values(), key=lambda each: not each.supported))


def _judge(header: GgufHeader) -> Iterator[tuple[ModelCapability, bool, str]]:
    if header.pooling_type == _RANKING_POOLING:
        for capability in ModelCapability:
            yield capability, False, "its pooling type is for ranking"
    elif header.architecture in _ENCODERS or header.pooling_type in _EMBEDDING_POOLING:
        by = f"architecture {header.architecture}" if header.architecture in _ENCODERS else "its pooling type"
        for capability in ModelCapability:
            embeds = capability is _CAN.EMBEDDINGS
            yield capability, embeds, f"it embeds, by {by}" if embeds else f"it only embeds, by {by}"
    else:
        yield from _judge_writer(header)


def _judge_writer(header: GgufHeader) -> Iterator[tuple[ModelCapability, bool, str]]:
    has_template = header.chat_template is not None
    yield _CAN.CHAT_COMPLETION, has_template, "it has a chat template" if has_template else "it has no chat template"
    yield _CAN.TEXT_GENERATION, True, "it generates text"
    yield _CAN.STREAMING, True, "the engine streams"
    yield _CAN.JSON_MODE, True, "the engine holds answers to a schema"
    if header.supports_tools:
        yield _CAN.FUNCTION_CALLING, True, "its chat template speaks of tools"
    elif has_template:
        yield _CAN.FUNCTION_CALLING, False, "its chat template does not speak of tools"
    else:
        yield _CAN.FUNCTION_CALLING, False, "it has no chat template"
    yield _CAN.VISION, False, "its engine is started without a projector"
    yield _CAN.EMBEDDINGS, False, "its header states no pooling type"
