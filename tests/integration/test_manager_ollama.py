"""The manager over an Ollama on a real socket: its models load and unload like any other, there and here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noa.config import Configuration, ProviderConfig
from noa.errors import ModelLoadError, ModelNotFoundError, ProviderConnectionError
from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelStatus
from noa.providers import vigil
from noa.runtime.fake import FakeRuntime
from scripted_ollama import ScriptedOllama
from scripted_router import ScriptedRouter
from served import until

MODELS = ("llama3.2:latest", "qwen3:8b")
LLAMA, QWEN = (f"ollama:{model}" for model in MODELS)


@pytest.fixture
async def ollama() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama(models=MODELS) as ollama:
        yield ollama


def manager_of(home: Path, url: str, kind: str = "ollama") -> ModelManager:
    configuration = Configuration(home=home, providers=(ProviderConfig(type=kind, base_url=url),))
    return ModelManager(configuration=configuration, runtime=FakeRuntime())


async def test_loading_switching_and_unloading_reach_ollama(ollama: ScriptedOllama, tmp_path: Path) -> None:
    phases: list[Event] = []
    manager = manager_of(tmp_path, ollama.url)
    manager.on("model-loading", phases.append)
    async with manager:
        assert await manager.load_model("ollama:llama3.2") == LLAMA
        assert ollama.loaded == {"llama3.2:latest": -1}
        assert (await manager.chat("Hi", model="llama3.2")).text == ollama.reply
        assert ollama.loaded == {"llama3.2:latest": -1}
        await manager.switch_model(QWEN)
        assert (await manager.chat("Hi")).text == ollama.reply
        await manager.unload_model(LLAMA)
        assert ollama.loaded == {"qwen3:8b": -1}
    assert [event.data["phase"] for event in phases if event.data["key"] == LLAMA] == [
        "starting",
        "loading",
        "verifying",
    ]
    assert ollama.loaded == {"qwen3:8b": -1}, "an Ollama that is not ours goes on when we stop"


async def test_what_somebody_else_unloads_there_is_unloaded_here_and_loads_on_demand(
    ollama: ScriptedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vigil, "INTERVAL_S", 0.01)
    gone: list[Event] = []
    manager = manager_of(tmp_path, ollama.url)
    manager.on("model-unloaded", gone.append)
    async with manager:
        await manager.load_model(LLAMA)
        ollama.loaded.clear()
        await until(lambda: gone)
        assert gone[0].data["reason"] == "unloaded elsewhere"
        assert manager.loaded_models == []
        assert manager.engine.status(LLAMA) is ModelStatus.UNLOADED
        assert manager.engine.current_key == LLAMA
        assert (await manager.chat("Hi")).text == ollama.reply
        assert ollama.loaded == {"llama3.2:latest": -1}
        await manager.unload_model(LLAMA)
        await until(lambda: not manager.engine._launcher._vigil._tasks)


async def test_the_same_holds_for_a_llama_cpp_router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "INTERVAL_S", 0.01)
    async with ScriptedRouter() as router, manager_of(tmp_path, router.url, "llama.cpp") as manager:
        await manager.load_model("llama.cpp:x")
        router.status["x"] = {"value": "unloaded"}
        await until(lambda: manager.engine.status("llama.cpp:x") is ModelStatus.UNLOADED)


async def test_a_load_that_fails_there_fails_here(ollama: ScriptedOllama, tmp_path: Path) -> None:
    ollama.broken.add("qwen3:8b")
    async with manager_of(tmp_path, ollama.url) as manager:
        await manager.load_model(LLAMA)
        with pytest.raises(ModelLoadError, match="more system memory"):
            await manager.switch_model(QWEN)
        assert manager.engine.current_key == LLAMA
        with pytest.raises(ModelNotFoundError):
            await manager.load_model("ollama:absent")


async def test_an_ollama_that_is_not_there_delays_nobody_and_is_found_when_it_comes(tmp_path: Path) -> None:
    async with ScriptedOllama(models=MODELS) as closed:
        url, port = closed.url, closed.port
    async with manager_of(tmp_path, url) as manager:
        with pytest.raises(ProviderConnectionError, match=r"ollama cannot be reached .* Check OLLAMA_HOST"):
            await manager.load_model(LLAMA)
        async with ScriptedOllama(models=MODELS, port=port):
            await manager.discover_models()
            assert await manager.load_model(LLAMA) == LLAMA
