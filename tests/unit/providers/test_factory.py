from __future__ import annotations

import sys
from pathlib import Path

import pytest

from noa.config import ProviderConfig
from noa.errors import ConfigurationError
from noa.providers.claude import ClaudeProvider
from noa.providers.factory import ProviderFactory
from noa.providers.fake import FakeProvider
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.openai import OpenAIProvider


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("openai", OpenAIProvider),
        ("claude", ClaudeProvider),
        ("anthropic", ClaudeProvider),
        ("llama.cpp", LlamaCppProvider),
        ("groq", OpenAIProvider),
    ],
)
def test_the_type_says_which_class(type_name: str, kind: type) -> None:
    config = ProviderConfig(type=type_name)
    provider = ProviderFactory().create(config)
    assert type(provider) is kind
    assert provider.name == config.name


async def test_llama_cpp_is_given_its_folders(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"junk")
    provider = ProviderFactory().create(ProviderConfig(type="llama.cpp"), folders=[tmp_path])
    assert [offer.model.id for offer in await provider.list_models()] == ["x"]


@pytest.mark.parametrize("type_name", ["mine", "openai", "llama.cpp"])
def test_what_is_registered_goes_first(type_name: str) -> None:
    factory = ProviderFactory()
    factory.register(type_name, lambda config: FakeProvider(name=config.name))
    assert isinstance(factory.create(ProviderConfig(type=type_name)), FakeProvider)


def test_factories_do_not_share_registrations() -> None:
    ProviderFactory().register("mine", lambda config: FakeProvider(name=config.name))
    with pytest.raises(ConfigurationError, match=r"no provider type “mine”; known are claude, llama\.cpp, openai"):
        ProviderFactory().create(ProviderConfig(type="mine"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers two providers, one of them broken."""
    info = tmp_path / "elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[noa.providers]\nelsewhere = elsewhere:make\nbroken = elsewhere:absent\n")
    (tmp_path / "elsewhere.py").write_text(
        "from noa.providers.fake import FakeProvider\ndef make(config): return FakeProvider(name=config.name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)


@pytest.mark.usefixtures("package")
def test_installed_packages_offer_providers() -> None:
    provider = ProviderFactory().create(ProviderConfig(type="elsewhere", name="far"))
    assert isinstance(provider, FakeProvider)
    assert provider.name == "far"


@pytest.mark.usefixtures("package")
def test_a_package_that_is_broken_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="elsewhere:absent could not be loaded"):
        ProviderFactory().create(ProviderConfig(type="broken"))
    assert "could not be loaded" in caplog.text
