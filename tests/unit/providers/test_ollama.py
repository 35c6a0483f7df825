"""Ollama lists, loads and lets go at our word, whichever version it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from noa.config import ProviderConfig
from noa.errors import ModelLoadError, ModelNotFoundError, ProviderAuthenticationError
from noa.models import EvidenceSource, ModelCapability, PriceSource
from noa.providers.ollama import OllamaProvider
from noa.providers.protocol import Lifecycled, Locality
from scripted_ollama import ScriptedOllama
from scripted_upstream import json_answer
from served import until

CHAT, EMBEDDER, CLOUD = "llama3.2:latest", "nomic-embed-text:v1.5", "gpt-oss:120b-cloud"


@pytest.fixture(params=[False, True], ids=["older", "newer"])
async def ollama(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedOllama]:
    models = (CHAT, EMBEDDER)
    async with ScriptedOllama(models=models, embedders=(EMBEDDER,), cloud=(CLOUD,), modern=request.param) as scripted:
        yield scripted


@pytest.fixture
async def provider(ollama: ScriptedOllama) -> AsyncIterator[OllamaProvider]:
    provider = OllamaProvider(ProviderConfig(type="ollama", base_url=ollama.url))
    yield provider
    await provider.aclose()


async def load(provider: OllamaProvider, model_id: str = CHAT) -> list[str]:
    """The phases it told of."""
    phases: list[str] = []
    await provider.load(model_id, phases.append)
    return phases


async def test_what_it_says_of_its_models_is_listed(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    offers = {offer.model.id: offer for offer in await provider.list_models()}
    assert set(offers) == {CHAT, EMBEDDER, CLOUD}
    chat = offers[CHAT]
    assert (chat.locality, chat.size_bytes, chat.other_ids) == (Locality.REMOTE, 4_000_000, ("llama3.2",))
    assert chat.model.context_window == 8192
    facts = {"family": "llama", "parameterSize": "8.0B", "quantization": "Q4_K_M", "digest": f"d-{CHAT}"}
    assert chat.model.metadata == facts
    assert {ModelCapability.CHAT_COMPLETION, ModelCapability.FUNCTION_CALLING} <= set(chat.model.capabilities)
    assert offers[EMBEDDER].model.capabilities == (ModelCapability.EMBEDDINGS,)
    assert offers[EMBEDDER].other_ids == ()
    denied = {each.capability for each in chat.model.evidence if not each.supported}
    assert denied == {ModelCapability.VISION, ModelCapability.EMBEDDINGS}
    assert {each.source for each in chat.model.evidence} == {EvidenceSource.DECLARED}


async def test_only_what_runs_elsewhere_has_a_price(provider: OllamaProvider) -> None:
    prices = {offer.model.id: offer.model.price for offer in await provider.list_models()}
    chat = prices[CHAT]
    assert chat is not None
    assert (chat.is_free, chat.source) == (True, PriceSource.LOCAL)
    assert prices[CLOUD] is None


async def test_a_model_is_asked_about_once_and_again_when_it_has_changed(
    provider: OllamaProvider, ollama: ScriptedOllama
) -> None:
    for _ in range(2):
        await provider.list_models()
    shows = [request for request in ollama.requests if request.path == "/api/show"]
    assert len(shows) == (0 if ollama.modern else 3)
    tag = {"name": CHAT, "digest": "another"}
    ollama.script("/api/tags", json_answer({"models": [tag]}))
    await provider.list_models()
    assert len([request for request in ollama.requests if request.path == "/api/show"]) == len(shows) + 1


async def test_a_model_that_cannot_be_described_is_listed_all_the_same(
    ollama: ScriptedOllama, provider: OllamaProvider, caplog: pytest.LogCaptureFixture
) -> None:
    ollama.modern = False
    ollama.script("/api/show", *[json_answer({"error": "corrupt"}, 500)] * 3)
    offers = await provider.list_models()
    assert len(offers) == 3
    assert ModelCapability.CHAT_COMPLETION in offers[0].model.capabilities
    assert "corrupt" in caplog.text


async def test_a_loaded_model_stays_until_it_is_unloaded(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    assert isinstance(provider, Lifecycled)
    assert await load(provider) == ["loading"]
    assert ollama.loaded == {CHAT: -1}
    assert await provider.resident() == {CHAT, CLOUD}
    await provider.unload(CHAT)
    assert ollama.loaded == {}
    await provider.unload(CHAT)
    assert ollama.orders == {("load", CHAT): 1, ("unload", CHAT): 1}


async def test_what_somebody_else_had_loaded_is_made_to_stay(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    ollama.loaded[CHAT] = 300
    assert await load(provider) == []
    assert ollama.loaded == {CHAT: -1}


async def test_a_model_that_only_embeds_is_loaded_too(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    assert await load(provider, EMBEDDER) == ["loading"]
    assert ollama.loaded == {EMBEDDER: -1}
    await provider.unload(EMBEDDER)
    assert ollama.loaded == {}


async def test_what_runs_in_its_cloud_is_never_loaded_and_never_gone(
    ollama: ScriptedOllama, provider: OllamaProvider
) -> None:
    assert await load(provider, CLOUD) == []
    assert await provider.resident() == {CLOUD}
    await provider.unload(CLOUD)
    assert not ollama.orders


async def test_a_load_that_fails_says_what_ollama_said(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    ollama.broken.add(CHAT)
    with pytest.raises(ModelLoadError, match=r"ollama:llama3\.2:latest could not .* requires more system memory"):
        await load(provider)


async def test_a_model_that_is_not_pulled_says_how_to(provider: OllamaProvider) -> None:
    for attempt in (load(provider, "absent"), provider.verify("absent")):
        with pytest.raises(ModelNotFoundError, match="ollama pull absent"):
            await attempt


async def test_a_model_that_goes_while_it_is_loaded_is_told_as_missing(
    ollama: ScriptedOllama, provider: OllamaProvider
) -> None:
    ollama.script("/api/generate", json_answer({"error": f"model '{CHAT}' not found"}, 404))
    with pytest.raises(ModelNotFoundError, match="does not have this model"):
        await load(provider)


async def test_a_load_that_is_cancelled_lets_go_of_ollama(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    ollama.script("/api/generate", json_answer({}, delay_s=60))
    loading = asyncio.create_task(load(provider))
    await until(lambda: any(request.path == "/api/generate" for request in ollama.requests))
    loading.cancel()
    await asyncio.wait_for(ollama.gone.wait(), 1)
    await asyncio.gather(loading, return_exceptions=True)


async def test_an_ollama_behind_a_key_is_sent_it(ollama: ScriptedOllama, provider: OllamaProvider) -> None:
    ollama.key = "wanted"
    with pytest.raises(ProviderAuthenticationError, match="ollama"):
        await provider.list_models()
