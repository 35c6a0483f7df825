"""Rows for known services: what they are called, where they answer, which variables hold their keys.

A row is all that an OpenAI-compatible service needs. A service appears among the providers as soon as its key is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

#: The wire format a service speaks; the values are those of ``noa.providers.protocol.Dialect``.
DialectName = Literal["openai", "anthropic"]


class ProviderPreset(msgspec.Struct, frozen=True, kw_only=True):
    """One known service.

    ``name`` is the left half of its models' keys. ``type`` says which provider class serves it. ``base_url`` is what
    stands before the dialect's paths (``/chat/completions``, ``/v1/messages``), ``None`` where there is no usual one.
    ``key_variables`` and ``base_url_variables`` are the bare environment variables, the first found wins.
    ``variable_stems`` are the middles of the prefixed ones: ``OPENAI`` in ``AI_OPENAI_API_KEY``. ``needs_key`` is false
    for a service that works as it stands.
    """

    name: str
    display_name: str
    type: str = "openai"
    dialect: DialectName = "openai"
    base_url: str | None = None
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    variable_stems: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    needs_key: bool = True


def _compatible(name: str, display_name: str, base_url: str) -> ProviderPreset:
    """A service that speaks OpenAI's dialect and has its key in ``<NAME>_API_KEY``."""
    stem = name.upper()
    return ProviderPreset(
        name=name,
        display_name=display_name,
        base_url=base_url,
        key_variables=(f"{stem}_API_KEY",),
        variable_stems=(stem,),
    )


#: Every known service, in the order in which a default is looked for.
PRESETS: tuple[ProviderPreset, ...] = (
    ProviderPreset(
        name="openai",
        display_name="OpenAI",
        base_url="https://api.openai.com/v1",
        key_variables=("OPENAI_API_KEY",),
        base_url_variables=("OPENAI_BASE_URL",),
        variable_stems=("OPENAI",),
    ),
    ProviderPreset(
        name="claude",
        display_name="Claude",
        type="claude",
        dialect="anthropic",
        base_url="https://api.anthropic.com",
        key_variables=("ANTHROPIC_API_KEY", "CLAUDE_API_KEY"),
        base_url_variables=("ANTHROPIC_BASE_URL",),
        variable_stems=("CLAUDE", "ANTHROPIC"),
        aliases=("anthropic",),
    ),
    ProviderPreset(
        name="llama.cpp",
        display_name="llama.cpp",
        type="llama.cpp",
        base_url_variables=("LLAMA_CPP_BASE_URL",),
        variable_stems=("LLAMA_CPP",),
        aliases=("llamacpp", "llama-cpp", "llama_cpp"),
        needs_key=False,
    ),
    _compatible("groq", "Groq", "https://api.groq.com/openai/v1"),
    _compatible("mistral", "Mistral", "https://api.mistral.ai/v1"),
    _compatible("deepseek", "DeepSeek", "https://api.deepseek.com"),
    _compatible("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    _compatible("together", "Together AI", "https://api.together.xyz/v1"),
    _compatible("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1"),
    _compatible("xai", "xAI", "https://api.x.ai/v1"),
    _compatible("cerebras", "Cerebras", "https://api.cerebras.ai/v1"),
)

#: The same by canonical name.
KNOWN_PROVIDERS: Mapping[str, ProviderPreset] = MappingProxyType({preset.name: preset for preset in PRESETS})

_CANONICAL = {name: preset.name for preset in PRESETS for name in (preset.name, *preset.aliases)}


def canonical_provider(name: str) -> str | None:
    """The canonical name of a known provider (``anthropic`` → ``claude``; case does not matter), or ``None``."""
    return _CANONICAL.get(name.lower())
