"""What services declare of a model in their lists beyond its id: each in fields of its own.

Read from their API references: Mistral and Azure (``capabilities`` with flags), Together and Vercel (``type``),
Fireworks (``supports_…``), OpenRouter and Hugging Face (``architecture``, ``supported_parameters``), GitHub
(``supported_…_modalities``, ``capabilities`` as words), Cohere (``endpoints``, ``features``). What is not understood is
passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from noa.models import ModelCapability

_CONVERSES: Final = (ModelCapability.CHAT_COMPLETION, ModelCapability.TEXT_GENERATION, ModelCapability.STREAMING)
_WRITES: Final = (ModelCapability.TEXT_GENERATION, ModelCapability.STREAMING)
_EMBEDS: Final = (ModelCapability.EMBEDDINGS,)

#: What a model of such a ``type``, or behind such an endpoint, does; nothing of ours if it draws, speaks or judges.
_KINDS: Final[Mapping[str, tuple[ModelCapability, ...]]] = {
    "chat": _CONVERSES,
    "llm": _CONVERSES,
    "vlm": (*_CONVERSES, ModelCapability.VISION),
    "language": _WRITES,
    "embed": _EMBEDS,
    "embedding": _EMBEDS,
    "embeddings": _EMBEDS,
    **dict.fromkeys(("image", "audio", "video", "moderation", "rerank", "reranking", "speech", "transcribe"), ()),
    "transcriptions": (),
}
#: Names of flags and words, in any spelling with ``-`` or ``_``.
_FLAGS: Final[Mapping[str, tuple[ModelCapability, ...]]] = {
    "completion_chat": _CONVERSES,
    "chat_completion": _CONVERSES,
    "supports_chat": _CONVERSES,
    "embeddings": _EMBEDS,
    "function_calling": (ModelCapability.FUNCTION_CALLING,),
    "supports_tools": (ModelCapability.FUNCTION_CALLING,),
    "tool_calling": (ModelCapability.FUNCTION_CALLING,),
    "tools": (ModelCapability.FUNCTION_CALLING,),
    "vision": (ModelCapability.VISION,),
    "supports_image_input": (ModelCapability.VISION,),
    "response_format": (ModelCapability.JSON_MODE,),
    "structured_outputs": (ModelCapability.JSON_MODE,),
    "json_mode": (ModelCapability.JSON_MODE,),
}
#: What a model that embeds, or only draws or speaks, does not do.
_TEXT_OUT: Final = (*_CONVERSES, ModelCapability.FUNCTION_CALLING, ModelCapability.JSON_MODE)


class Declared(msgspec.Struct):
    """The fields of a row that declare something; services that mean other things by them are passed over."""

    type: Any = None
    capabilities: Any = None
    features: Any = None
    endpoints: Any = None
    architecture: Any = None
    supported_parameters: Any = None
    supported_input_modalities: Any = None
    supported_output_modalities: Any = None
    supports_chat: Any = None
    supports_tools: Any = None
    supports_image_input: Any = None


def read_declarations(row: Declared) -> Mapping[ModelCapability, bool]:
    """What the service says that the model can do, and cannot; what it does not say is not there."""
    said: dict[ModelCapability, bool] = {}
    _kinds(said, [row.type] if isinstance(row.type, str) else [])
    _kinds(said, _words(row.endpoints))
    for word in (*_words(row.capabilities), *_words(row.features), *_words(row.supported_parameters)):
        _flag(said, word, value=True)
    if isinstance(row.capabilities, dict):
        for name, value in row.capabilities.items():
            _flag(said, name, value=value)
    for name in ("supports_chat", "supports_tools", "supports_image_input"):
        _flag(said, name, value=getattr(row, name))
    _modalities(said, row)
    return said


def _kinds(said: dict[ModelCapability, bool], names: list[str]) -> None:
    """Several kinds add up; what none of them does is denied."""
    known = [_KINDS[name] for name in map(str.lower, names) if name in _KINDS]
    does = {capability for kind in known for capability in kind}
    said.update(dict.fromkeys(does, True))
    if known and not does & set(_WRITES):
        said.update(dict.fromkeys((each for each in _TEXT_OUT if each not in does), False))


def _flag(said: dict[ModelCapability, bool], name: object, *, value: object) -> None:
    if isinstance(name, str) and isinstance(value, bool):
        for capability in _FLAGS.get(name.lower().replace("-", "_"), ()):
            said[capability] = value or said.get(capability, False)


def _modalities(said: dict[ModelCapability, bool], row: Declared) -> None:
    architecture = row.architecture if isinstance(row.architecture, dict) else {}
    taken = _words(architecture.get("input_modalities")) or _words(row.supported_input_modalities)
    given = _words(architecture.get("output_modalities")) or _words(row.supported_output_modalities)
    if taken:
        said[ModelCapability.VISION] = "image" in taken
    if "text" in given:
        said.update(dict.fromkeys(_CONVERSES, True))
    elif given:
        said.update(dict.fromkeys(_TEXT_OUT, False))
        said[ModelCapability.EMBEDDINGS] = bool({"embedding", "embeddings"} & set(given))


def _words(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
