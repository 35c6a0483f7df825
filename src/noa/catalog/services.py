"""Which service of the catalogue a provider of ours is.

Getting this wrong would show somebody else's prices, so a provider counts as a service only if it bears its name or
answers at its address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from noa.config import ProviderConfig
from noa.presets import KNOWN_PROVIDERS, canonical_provider

#: Stands for models on machines of one's own, whose tokens nobody bills.
LOCAL: Final = "local"

#: Providers whose service has another name in the catalogue. ``None``: nothing there is about them, as deployments at
#: Azure bear the names their owners gave them.
_OTHERWISE: Mapping[str, str | None] = MappingProxyType(
    {
        "claude": "anthropic",
        "gemini": "google",
        "together": "togetherai",
        "fireworks": "fireworks-ai",
        "moonshot": "moonshotai",
        "novita": "novita-ai",
        "github": "github-models",
        "azure": None,
        "fake": None,
        "llama.cpp": LOCAL,
        "ollama": LOCAL,
        "lmstudio": LOCAL,
        "vllm": LOCAL,
        "sglang": LOCAL,
    }
)


def catalog_name(provider: str) -> str | None:
    """The catalogue's name for a provider that is known by this name."""
    name = canonical_provider(provider) or provider
    return _OTHERWISE.get(name, name)


def services_of(providers: Iterable[ProviderConfig]) -> Mapping[str, str | None]:
    """The catalogue's names for configured providers; ``None`` for one that could be anybody's.

    A provider under a name of one's own (``work``, of type ``openai``) is a service only where it answers at that
    service's address; a llama.cpp or Ollama is one's own wherever it runs.
    """
    return {config.name: _service_of(config) for config in providers}


def runs_elsewhere(model_id: str) -> bool:
    """Whether a local server passes this model on to a paid service, as Ollama does with ``gpt-oss:120b-cloud``."""
    return model_id.endswith(("-cloud", ":cloud"))


def _service_of(config: ProviderConfig) -> str | None:
    if config.name in KNOWN_PROVIDERS:
        return catalog_name(config.name)
    by_type = catalog_name(config.type) if config.type in KNOWN_PROVIDERS else None
    if config.base_url is None or by_type == LOCAL:
        return by_type
    address = config.base_url.rstrip("/")
    return next((catalog_name(preset.name) for preset in KNOWN_PROVIDERS.values() if preset.base_url == address), None)
