from __future__ import annotations

import sys
from pathlib import Path

import pytest

from noa.chat import ChatRequest
from noa.config import Configuration, ProviderConfig
from noa.errors import ConfigurationError
from noa.manager import ModelManager
from noa.providers.claude import ClaudeProvider
from noa.providers.factory import ProviderFactory
from noa.providers.fake import FakeProvider
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.ollama import OllamaProvider
from noa.providers.openai import OpenAIProvider
from noa.runtime.fake import FakeRuntime


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("openai", OpenAIProvider),
        ("claude", ClaudeProvider),
        ("anthropic", ClaudeProvider),
        ("llama.cpp", LlamaCppProvider),
        ("groq", OpenAIProvider),
        ("ollama", OllamaProvider),
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
    with pytest.raises(ConfigurationError, match=r"no provider type “mine”; known are claude, .*, openai"):
        ProviderFactory().create(ProviderConfig(type="mine"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers two providers, one of them broken."""
    info = tmp_path / "elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    offered = "elsewhere = elsewhere:make\nbroken = elsewhere:absent\nclumsy = elsewhere:clumsy\n"
    (info / "entry_points.txt").write_text(f"[noa.providers]\n{offered}")
    (tmp_path / "elsewhere.py").write_text(
        "from noa.providers.fake import FakeProvider\n"
        "def make(config): return FakeProvider(name=config.name)\n"
        "def clumsy(config): raise RuntimeError('no such luck')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)


@pytest.mark.usefixtures("package")
def test_installed_packages_offer_providers() -> None:
    provider = ProviderFactory().create(ProviderConfig(type="elsewhere", name="far"))
    assert isinstance(provider, FakeProvider)
    assert provider.name == "far"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("type_name", "why"),
    [
        ("broken", "elsewhere:absent of the package elsewhere: module"),
        ("clumsy", "elsewhere:clumsy of the package elsewhere: no such luck"),
    ],
)
async def test_a_package_that_is_broken_is_named_and_harms_nobody(
    type_name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = ProviderFactory().create(ProviderConfig(type=type_name, name="far"))
    health = await provider.health()
    assert not health.up
    assert f"far could not be made by {why}" in (health.error or "")
    request = ChatRequest(messages=())
    for attempt in (provider.list_models(), provider.verify("x"), provider.complete(request, "x")):
        with pytest.raises(ConfigurationError, match="of the package elsewhere"):
            await attempt
    assert "could not be made" in caplog.text
    await provider.aclose()


@pytest.mark.usefixtures("package")
async def test_beside_a_broken_package_the_others_serve(tmp_path: Path) -> None:
    broken, whole = ProviderConfig(type="broken"), ProviderConfig(type="elsewhere")
    configuration = Configuration(home=tmp_path, providers=(broken, whole))
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager:
        reports = {report.provider: report for report in await manager.discover_models()}
        assert reports["elsewhere"].up
        assert "elsewhere:absent" in (reports["broken"].error or "")
        with pytest.raises(ConfigurationError, match="elsewhere:absent"):
            await manager.load_model("broken:x")
