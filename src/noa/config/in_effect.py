"""What is in effect and why: every setting with its value and where that comes from, and no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from noa.config.configuration import Configuration
from noa.config.provider import ProviderConfig
from noa.config.secret import Secret
from noa.config.settings import Tree
from noa.config.sources import Sources

#: What stands for a key that is set.
MASK: Final = "(set)"
#: Where a value comes from that nobody gave.
BY_DEFAULT: Final = "default"

#: A setting of ``noa.yaml`` and the attribute of ``Configuration`` that it decides.
ATTRIBUTES: Final[Mapping[str, str]] = {
    "defaultProvider": "default_provider",
    "fallbacks": "fallbacks",
    "models.maxLoaded": "max_loaded_models",
    "models.memoryBudget": "memory_budget",
    "models.autoLoadDefault": "auto_load_default",
    "models.performanceTracking": "enable_performance_tracking",
    "models.autoSwitch": "enable_auto_switch",
    "models.autoSwitchThreshold": "auto_switch_threshold",
    "models.folders": "extra_model_folders",
    "selection.explore": "explore",
    "selection.policies": "policies",
    "server.host": "host",
    "server.port": "port",
    "server.apiKey": "api_key",
    "server.allowedHosts": "allowed_hosts",
    "server.allowedOrigins": "allowed_origins",
    "server.maxBodyBytes": "max_body_bytes",
    "telemetry.otlpEndpoint": "otlp_endpoint",
    "engine.llamaServer": "llama_server",
    "engine.contextSize": "context_size",
    "engine.slots": "slots",
    "engine.threads": "threads",
    "engine.cacheType": "cache_type",
    "state.path": "state_path",
}
#: What is not in the file, and the variable that decides it.
VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "home": ("home", "NOA_HOME"),
    "url": ("url", "NOA_URL"),
    "hfHome": ("hf_home", "HF_HOME"),
}
#: A field of a provider in ``noa.yaml`` and the attribute of ``ProviderConfig`` that it decides.
OF_A_PROVIDER: Final[Mapping[str, str]] = {
    "apiKey": "api_key",
    "baseURL": "base_url",
    "defaultModel": "default_model",
    "models": "models",
    "timeout": "timeout_s",
    "maxRetries": "max_retries",
}


class InEffect(msgspec.Struct, frozen=True, kw_only=True):
    """A setting: its name as in ``noa.yaml``, its value (a key only as ``(set)``), and where it comes from.

    ``source`` is a line of a file (``noa.yaml:3``), the name of a variable, or ``default``. The timeout of a provider
    is in seconds.
    """

    setting: str
    value: Any
    source: str


def in_effect(configuration: Configuration, sources: Sources) -> list[InEffect]:
    """Every setting, those of providers last. ``configuration`` is what was decided by ``sources``."""
    tree = sources.tree
    settings = [
        InEffect(
            setting=name,
            value=_shown(getattr(configuration, attribute)),
            source=found.name if (found := sources.variables.find(variable)) is not None else BY_DEFAULT,
        )
        for name, (attribute, variable) in VARIABLES.items()
    ]
    settings += [
        InEffect(setting=name, value=_shown(getattr(configuration, attribute)), source=_source(tree, f"$.{name}"))
        for name, attribute in ATTRIBUTES.items()
    ]
    settings += [
        InEffect(setting=f"models.{key}", value=_shown(known), source=_source(tree, f"$.models.{key}"))
        for key, known in configuration.known_models.items()
    ]
    for index, provider in enumerate(configuration.providers):
        settings += _of_provider(provider, f"$.providers[{index}]", tree)
    return settings


def _of_provider(provider: ProviderConfig, path: str, tree: Tree) -> Iterator[InEffect]:
    for name, attribute in OF_A_PROVIDER.items():
        source = _source(tree, f"{path}.{name}")
        value = _shown(getattr(provider, attribute))
        if source != BY_DEFAULT or name in ("apiKey", "baseURL"):
            yield InEffect(setting=f"providers.{provider.name}.{name}", value=value, source=source)


def _source(tree: Tree, path: str) -> str:
    origin = tree.origins.get(path)
    return BY_DEFAULT if origin is None else origin.place or origin.subject


def _shown(value: object) -> Any:
    """The value as JSON knows it, its keys masked."""
    return msgspec.to_builtins(value, enc_hook=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))
