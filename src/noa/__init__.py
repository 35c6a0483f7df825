"""Noa manages AI models, local and remote, as one fleet: it finds, loads, switches, measures and serves them.

The public names are resolved on first use, so that importing ``noa`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noa.version import __version__

if TYPE_CHECKING:
    from noa.chat import ChatEvent, ChatReply, ChatRequest, EmbeddingReply, Message, Usage
    from noa.config import Configuration, ConfigurationManager, ProviderConfig, Secret
    from noa.errors import (
        AIProviderError,
        AuthenticationError,
        ConfigurationError,
        ContextLengthError,
        ModelLoadError,
        ModelNotFoundError,
        RateLimitError,
    )
    from noa.events import Event
    from noa.leased_model import LeasedModel
    from noa.manager import ModelManager, Statistics, SyncModelManager
    from noa.manager import ModelManager as EnhancedModelManager
    from noa.models import (
        ActiveModel,
        LoadOptions,
        ModelCapability,
        ModelInfo,
        ModelStatus,
        PerformanceMetrics,
        ProviderType,
        RegistryEntry,
        SwitchResult,
    )
    from noa.providers.factory import ProviderFactory

#: Where each public name lives.
_HOMES = {
    "AIProviderError": "noa.errors",
    "ActiveModel": "noa.models",
    "AuthenticationError": "noa.errors",
    "ChatEvent": "noa.chat",
    "ChatReply": "noa.chat",
    "ChatRequest": "noa.chat",
    "Configuration": "noa.config",
    "ConfigurationError": "noa.errors",
    "ConfigurationManager": "noa.config",
    "ContextLengthError": "noa.errors",
    "EmbeddingReply": "noa.chat",
    "EnhancedModelManager": "noa.manager",
    "Event": "noa.events",
    "LeasedModel": "noa.leased_model",
    "LoadOptions": "noa.models",
    "Message": "noa.chat",
    "ModelCapability": "noa.models",
    "ModelInfo": "noa.models",
    "ModelLoadError": "noa.errors",
    "ModelManager": "noa.manager",
    "ModelNotFoundError": "noa.errors",
    "ModelStatus": "noa.models",
    "PerformanceMetrics": "noa.models",
    "ProviderConfig": "noa.config",
    "ProviderFactory": "noa.providers.factory",
    "ProviderType": "noa.models",
    "RateLimitError": "noa.errors",
    "RegistryEntry": "noa.models",
    "Secret": "noa.config",
    "Statistics": "noa.manager",
    "SwitchResult": "noa.models",
    "SyncModelManager": "noa.manager",
    "Usage": "noa.chat",
}

__all__ = [
    "AIProviderError",
    "ActiveModel",
    "AuthenticationError",
    "ChatEvent",
    "ChatReply",
    "ChatRequest",
    "Configuration",
    "ConfigurationError",
    "ConfigurationManager",
    "ContextLengthError",
    "EmbeddingReply",
    "EnhancedModelManager",
    "Event",
    "LeasedModel",
    "LoadOptions",
    "Message",
    "ModelCapability",
    "ModelInfo",
    "ModelLoadError",
    "ModelManager",
    "ModelNotFoundError",
    "ModelStatus",
    "PerformanceMetrics",
    "ProviderConfig",
    "ProviderFactory",
    "ProviderType",
    "RateLimitError",
    "RegistryEntry",
    "Secret",
    "Statistics",
    "SwitchResult",
    "SyncModelManager",
    "Usage",
    "__version__",
]

#: Names that are another name of something.
_ORIGINALS = {"EnhancedModelManager": "ModelManager"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module “noa” has no attribute “{name}”")
    value = getattr(import_module(_HOMES[name]), _ORIGINALS.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
