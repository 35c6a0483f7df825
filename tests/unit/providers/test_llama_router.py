"""A llama.cpp server in router mode loads and unloads at our word; a plain one is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from noa.chat import ChatRequest, Message, TextPart
from noa.config import ProviderConfig, Secret
from noa.errors import (
    ModelLoadError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderResponseError,
    ValidationError,
)
from noa.providers.fake import FakeProvider
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.protocol import Lifecycled
from scripted_router import ScriptedRouter
from scripted_upstream import ScriptedUpstream, json_answer
from served import until

ASK = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Hi"),)),))


@pytest.fixture
async def router() -> AsyncIterator[ScriptedRouter]:
    async with ScriptedRouter() as router:
        yield router


@pytest.fixture
async def provider(router: ScriptedRouter) -> AsyncIterator[LlamaCppProvider]:
    provider = LlamaCppProvider(ProviderConfig(type="llama.cpp", base_url=f"{router.url}/v1"), ())
    yield provider
    await provider.aclose()


async def load(provider: LlamaCppProvider, model_id: str = "x") -> list[str]:
    """The phases it told of."""
    phases: list[str] = []
    await provider.load(model_id, phases.append)
    return phases


def test_only_a_provider_whose_backend_has_a_lifecycle_is_asked(provider: LlamaCppProvider) -> None:
    assert isinstance(provider, Lifecycled)
    assert not isinstance(FakeProvider(), Lifecycled)


async def test_a_model_is_loaded_when_the_router_says_so_and_gone_when_it_says_so(
    provider: LlamaCppProvider, router: ScriptedRouter
) -> None:
    with pytest.raises(ValidationError, match="not loaded"):
        await provider.complete(ASK, "x")
    assert await load(provider) == ["loading"]
    assert (await provider.complete(ASK, "x")).text == router.reply
    assert await load(provider) == []
    await provider.unload("x")
    assert router.status["x"]["value"] == "unloaded"
    await provider.unload("x")
    assert router.orders == {("load", "x"): 1, ("unload", "x"): 1}


@pytest.mark.parametrize("value", ["loaded", "sleeping"])
async def test_what_serves_already_is_left_as_it_is(
    provider: LlamaCppProvider, router: ScriptedRouter, value: str
) -> None:
    router.status["x"] = {"value": value}
    assert await load(provider) == []
    assert not router.orders


async def test_a_load_that_somebody_else_began_is_waited_for(
    provider: LlamaCppProvider, router: ScriptedRouter
) -> None:
    router._order("load", "x")
    assert await load(provider) == ["loading"]
    assert router.orders == {("load", "x"): 1}
    # Somebody is faster between our question and our order: the refusal says so, and asking again does.
    router.script("/models", json_answer({"data": [{"id": "x", "status": {"value": "unloaded"}}]}))
    await load(provider)
    assert router.orders == {("load", "x"): 2}


async def test_a_process_that_ends_while_it_loads_is_a_failed_load(
    provider: LlamaCppProvider, router: ScriptedRouter
) -> None:
    router.broken.add("x")
    with pytest.raises(ModelLoadError, match=r"llama\.cpp:x .* ended with code 1; see that server's log"):
        await load(provider)
    router.broken.clear()
    assert await load(provider) == ["loading"], "an old failure is no new one"


async def test_a_model_that_is_unloaded_while_it_loads_is_told_apart(
    provider: LlamaCppProvider, router: ScriptedRouter
) -> None:
    router.polls = None
    loading = asyncio.create_task(load(provider))
    await until(lambda: router.orders)
    router.status["x"] = {"value": "unloaded"}
    with pytest.raises(ModelLoadError, match="unloaded there meanwhile") as caught:
        await loading
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ModelLoadError),
        (401, ProviderAuthenticationError),
        (404, ModelNotFoundError),
        (500, ProviderResponseError),
    ],
)
async def test_a_refused_load_says_what_the_router_said(
    provider: LlamaCppProvider, router: ScriptedRouter, status: int, error: type[Exception]
) -> None:
    router.script("/models/load", json_answer({"error": {"message": "model limit reached"}}, status))
    with pytest.raises(error, match=rf"llama\.cpp:x .*{status}: model limit reached"):
        await load(provider)


async def test_a_load_that_is_cancelled_can_be_undone(provider: LlamaCppProvider, router: ScriptedRouter) -> None:
    router.polls = None
    loading = asyncio.create_task(load(provider))
    await until(lambda: router.orders)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    router.polls = 1
    await provider.unload("x")
    assert router.status["x"]["value"] == "unloaded"


async def test_a_download_of_somebody_elses_is_not_cancelled_by_an_unload(
    provider: LlamaCppProvider, router: ScriptedRouter
) -> None:
    router.status["x"] = {"value": "downloading"}
    await provider.unload("x")
    assert not router.orders


async def test_a_plain_server_is_told_nothing() -> None:
    async with ScriptedUpstream(models=("x",)) as server:
        provider = LlamaCppProvider(ProviderConfig(type="llama.cpp", base_url=server.url), ())
        assert await load(provider) == []
        await provider.unload("x")
        assert {(each.method, each.path) for each in server.requests} == {("GET", "/models")}
        await provider.aclose()


async def test_the_key_goes_to_the_router_too_and_is_in_no_message() -> None:
    async with ScriptedRouter(key="canary") as router:
        config = ProviderConfig(type="llama.cpp", base_url=router.url, api_key=Secret("canary"))
        provider = LlamaCppProvider(config, ())
        await load(provider)
        assert router.requests[-1].headers["authorization"] == "Bearer canary"
        router.script("/models/unload", json_answer({"error": {"message": "no canary here"}}, 500))
        with pytest.raises(ProviderResponseError) as caught:
            await provider.unload("x")
        assert "canary" not in caught.value.message
        await provider.aclose()


async def test_a_router_that_is_down_is_named(provider: LlamaCppProvider, router: ScriptedRouter) -> None:
    await router.aclose()
    with pytest.raises(ProviderConnectionError, match="LLAMA_CPP_BASE_URL"):
        await load(provider)
