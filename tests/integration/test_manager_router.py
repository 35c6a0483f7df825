"""The manager over a llama.cpp router on a real socket: what is loaded and unloaded here is so there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noa.config import Configuration, ProviderConfig
from noa.errors import ModelLoadError
from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelStatus
from noa.runtime.fake import FakeRuntime
from scripted_router import ScriptedRouter
from served import until

X, OTHER = "llama.cpp:x", "llama.cpp:other"


@pytest.fixture
async def router() -> AsyncIterator[ScriptedRouter]:
    async with ScriptedRouter() as router:
        yield router


def manager_of(router: ScriptedRouter, home: Path) -> ModelManager:
    provider = ProviderConfig(type="llama.cpp", base_url=router.url)
    configuration = Configuration(home=home, providers=(provider,))
    return ModelManager(configuration=configuration, runtime=FakeRuntime())


async def test_loading_and_unloading_reach_the_router(router: ScriptedRouter, tmp_path: Path) -> None:
    events: list[Event] = []
    manager = manager_of(router, tmp_path)
    manager.on("model-loading", events.append)
    async with manager:
        await asyncio.gather(*(manager.load_model(X) for _ in range(5)))
        assert router.status["x"]["value"] == "loaded"
        assert (await manager.chat("Hi", model=X)).text == router.reply
        await manager.switch_model(OTHER)
        assert (await manager.chat("Hi")).text == router.reply
        await manager.unload_model(X)
        assert (router.status["x"]["value"], router.status["other"]["value"]) == ("unloaded", "loaded")
    assert [event.data["phase"] for event in events if event.data["key"] == X] == ["starting", "loading", "verifying"]
    assert router.orders == {("load", "x"): 1, ("load", "other"): 1, ("unload", "x"): 1}
    assert router.status["other"]["value"] == "loaded", "a server that is not ours goes on when we stop"


async def test_a_load_that_fails_there_fails_here(router: ScriptedRouter, tmp_path: Path) -> None:
    router.broken.add("x")
    async with manager_of(router, tmp_path) as manager:
        await manager.load_model(OTHER)
        with pytest.raises(ModelLoadError, match="ended with code 1"):
            await manager.switch_model(X)
        assert manager.engine.current_key == OTHER
        assert manager.engine.status(X) is ModelStatus.FAILED


async def test_an_unload_overtakes_the_load(router: ScriptedRouter, tmp_path: Path) -> None:
    router.polls = None
    async with manager_of(router, tmp_path) as manager:
        loading = asyncio.create_task(manager.load_model(X))
        await until(lambda: router.orders["load", "x"])
        router.polls = 1
        await manager.unload_model(X)
        await asyncio.gather(loading, return_exceptions=True)
        assert router.status["x"]["value"] == "unloaded"
        assert manager.loaded_models == []


async def test_a_router_that_is_gone_keeps_no_model_loaded_here(
    router: ScriptedRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with manager_of(router, tmp_path) as manager:
        await manager.load_model(X)
        await router.aclose()
        await manager.unload_model(X)
        assert manager.loaded_models == []
    assert "may still be loaded where it runs" in caplog.text
