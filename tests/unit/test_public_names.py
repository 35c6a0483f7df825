"""The public names are pinned: each is there, is what its home says, and none is there by accident."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import noa

PUBLIC = {
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
}


def test_no_name_came_or_went() -> None:
    assert set(noa.__all__) == PUBLIC
    assert set(noa._HOMES) == PUBLIC - {"__version__"}
    assert dir(noa) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_a_name_is_what_its_home_says(name: str) -> None:
    home = importlib.import_module(noa._HOMES[name])
    assert getattr(noa, name) is getattr(home, noa._ORIGINALS.get(name, name))


def test_the_quick_starts_other_name_is_the_same_class() -> None:
    assert noa.EnhancedModelManager is noa.ModelManager


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchThing"):
        noa.NoSuchThing  # noqa: B018  # looking it up is the test


def test_importing_noa_imports_nothing_else_of_it() -> None:
    program = "import sys, noa; print(sorted(name for name in sys.modules if name.startswith('noa.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['noa.version']"
