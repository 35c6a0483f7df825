"""What is known of a remote model by its id alone, for services that list ids and say no more.

A few well-known families; unknown stays unknown. Figures are tokens, from the vendors' model pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from noa.models import CapabilityEvidence, EvidenceSource, FactSources, ModelCapability, ModelInfo

_CHAT = (ModelCapability.CHAT_COMPLETION, ModelCapability.TEXT_GENERATION, ModelCapability.STREAMING)
_TOOLS = (ModelCapability.FUNCTION_CALLING, ModelCapability.JSON_MODE)
_SEEING = (*_TOOLS, ModelCapability.VISION)

#: Neither text in nor text out: no capability of ours.
_OTHER_MEDIA = re.compile(
    r"whisper|tts|dall-e|image|moderation|transcribe|sora|realtime|stable-diffusion|flux|veo|rerank"
)
_EMBEDDING = re.compile(r"embed|(^|/)(bge|e5|gte)-|voyage-\d")
#: Plain completions without a chat template.
_COMPLETION_ONLY = re.compile(r"(davinci|babbage)-002|-turbo-instruct")

#: Beginning of an id (longest first) → context window, and what it can do beyond chat.
_FAMILIES: tuple[tuple[str, int | None, tuple[ModelCapability, ...]], ...] = (
    ("gpt-3.5-turbo", 16_385, _TOOLS),
    ("gpt-4-turbo", 128_000, _SEEING),
    ("gpt-4.1", 1_047_576, _SEEING),
    ("gpt-4o", 128_000, _SEEING),
    ("gpt-4-32k", 32_768, (ModelCapability.FUNCTION_CALLING,)),
    ("gpt-4", 8_192, (ModelCapability.FUNCTION_CALLING,)),
    ("gpt-", None, _TOOLS),
    ("claude-", 200_000, (ModelCapability.FUNCTION_CALLING, ModelCapability.VISION)),
)
_SERVED_CONTEXT = {"text-embedding-3": 8_191, "text-embedding-ada": 8_191}


def describe(
    provider: str,
    model_id: str,
    *,
    name: str | None = None,
    context_window: int | None = None,
    max_tokens: int | None = None,
    metadata: dict[str, object] | None = None,
    declared: Mapping[ModelCapability, bool] | None = None,
) -> ModelInfo:
    """What can be said of a remote model; what its service told goes before the table.

    ``declared`` is what the service says that the model can do, and cannot.
    """
    # Aggregators put the vendor before the id: “openai/gpt-4o”.
    bare = model_id.lower().rpartition("/")[2]
    known_window, assumed = _look_up(bare, model_id.lower())
    declared = declared or {}
    if declared.get(ModelCapability.EMBEDDINGS) and not declared.get(ModelCapability.CHAT_COMPLETION):
        assumed = ()
    evidence = (
        *(_evidence(each, supported, EvidenceSource.DECLARED) for each, supported in declared.items()),
        *(_evidence(each, True, EvidenceSource.ASSUMED) for each in assumed if each not in declared),
    )
    return ModelInfo(
        id=model_id,
        name=name or model_id,
        provider=provider,
        context_window=context_window or known_window,
        max_tokens=max_tokens,
        capabilities=tuple(each.capability for each in evidence if each.supported),
        metadata=metadata or {},
        evidence=evidence,
        sources=FactSources(
            context_window=EvidenceSource.ASSUMED if known_window is not None and not context_window else None
        ),
    )


def _evidence(capability: ModelCapability, supported: bool, source: EvidenceSource) -> CapabilityEvidence:
    return CapabilityEvidence(capability=capability, supported=supported, source=source)


def _look_up(bare: str, full: str) -> tuple[int | None, tuple[ModelCapability, ...]]:
    if _EMBEDDING.search(full):
        window = next((size for start, size in _SERVED_CONTEXT.items() if bare.startswith(start)), None)
        return window, (ModelCapability.EMBEDDINGS,)
    if _OTHER_MEDIA.search(bare):
        return None, ()
    if _COMPLETION_ONLY.search(bare):
        return None, (ModelCapability.TEXT_GENERATION, ModelCapability.STREAMING)
    for start, window, extra in _FAMILIES:
        if bare.startswith(start):
            return window, (*_CHAT, *extra)
    return None, _CHAT
