"""What ``current`` means is told alike everywhere, also while that model is not loaded, or not there at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from managed import OWL, PARROT, birds, manager_over, names, watched
from noa.errors import ModelNotFoundError, ModelUnavailableError
from noa.manager import ModelManager
from noa.models import LoadOptions, ModelStatus
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from served import Served, serving, until

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


class Folder(FakeProvider):
    """Plays a model folder: ``models`` are the files that are in it now."""

    lists_files = True


def folder(*files: str) -> Folder:
    return Folder([FakeModel(id=name, owned=True) for name in files])


async def told_by(server: Served) -> dict[str, Any]:
    """What each view says of the model in use: its key, and where it stands."""
    current = (await server.get("/api/v1/models/current")).json["model"]
    loaded = (await server.get("/api/v1/models/loaded")).json["currentModel"]
    assert current == loaded
    health = (await server.get("/api/v1/status/health")).json
    statistics = (await server.get("/api/v1/models/statistics")).json["statistics"]
    assert health["currentModel"] == statistics["currentModel"] == (current["key"] if current else None)
    return {"model": current, "problems": health["problems"], "health": health["status"]}


@asynccontextmanager
async def restarted_without_the_file(path: Path) -> AsyncIterator[tuple[ModelManager, list[Any], Folder]]:
    async with manager_over(folder("parrot", "owl"), path=path) as manager:
        await manager.load_model(OWL)
        await manager.switch_model(PARROT)
        await manager.unload_model(OWL)
    provider = folder("owl")
    manager = manager_over(provider, path=path)
    async with watched(manager) as events:
        yield manager, events, provider


async def test_after_a_restart_without_its_file_every_view_tells_the_same_story(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "noa.absences")
    async with (
        restarted_without_the_file(tmp_path / "state.db") as (manager, events, _),
        serving(manager) as server,
    ):
        story = f"“current” means {PARROT}, but its file parrot.gguf is in no model folder"
        said = [record.message for record in caplog.records if record.name == "noa.absences"]
        assert said == [f"{story}; put it back. Or choose another model: noa switch KEY"]
        missing = next(event for event in events if event.type == "model-missing")
        assert (missing.data["key"], missing.data["alias"]) == (PARROT, "current")
        assert story in missing.data["error"]

        told = await told_by(server)
        assert (told["model"]["key"], told["model"]["status"]) == (PARROT, "unloaded")
        assert (told["model"]["loadedAt"], told["model"]["model"]["id"]) == (None, "parrot")
        assert story in told["model"]["error"]
        assert (told["health"], told["problems"]) == ("degraded", [told["model"]["error"]])
        current = manager.current_model
        assert current is not None
        assert current.key == PARROT

        refused = await server.post("/v1/chat/completions", CHAT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert story in refused.error["message"]
        assert "noa switch" in refused.error["message"]
        with pytest.raises(ModelUnavailableError, match="noa switch"):
            await manager.chat("hi")


async def test_a_request_for_a_current_model_that_is_gone_names_what_is_loaded_instead(tmp_path: Path) -> None:
    async with restarted_without_the_file(tmp_path / "state.db") as (manager, _, _):
        await manager.load_model(OWL)
        with pytest.raises(ModelUnavailableError, match=rf"{PARROT}.*{OWL} is loaded"):
            await manager.chat("hi")
        assert manager.engine.current_key == PARROT
        assert (await manager.switch_model(OWL)).previous_model == PARROT
        assert (await manager.chat("hi")).model == "owl"


async def test_the_current_model_serves_again_when_its_file_is_back(tmp_path: Path) -> None:
    async with restarted_without_the_file(tmp_path / "state.db") as (manager, events, provider):
        provider.models["parrot"] = FakeModel(id="parrot", owned=True)
        await manager.discover_models()  # The restore may be asking just now, and shares its answer.
        await manager.discover_models()
        assert (await manager.chat("hi")).model == "parrot"
        current = manager.current_model
        assert current is not None
        assert (current.status, current.error) == (ModelStatus.LOADED, None)
        await manager.unload_model(PARROT)
        assert names(events).count("model-missing") == 1


async def test_other_aliases_tell_the_same_of_their_models(tmp_path: Path) -> None:
    provider = folder("parrot", "owl")
    manager = manager_over(provider)
    async with watched(manager) as events:
        await manager.point_alias("prod", PARROT, load=False)
        del provider.models["parrot"]
        await manager.discover_models()
        await manager.discover_models()
        with pytest.raises(ModelUnavailableError, match=r"“prod” means fake:parrot, .* noa alias set prod KEY"):
            await manager.chat("hi", model="prod")
        assert [event.data["alias"] for event in events if event.type == "model-missing"] == ["prod"]
        with pytest.raises(ModelNotFoundError):
            await manager.chat("hi", model=PARROT)


async def test_the_current_model_is_shown_wherever_it_stands() -> None:
    runtime = FakeRuntime()
    provider = birds(owned=True)
    async with manager_over(provider, runtime=runtime, max_loaded_models=1) as manager, serving(manager) as server:
        assert (await told_by(server))["model"] is None
        await manager.load_model(PARROT)
        assert (await told_by(server))["model"]["status"] == "loaded"
        await manager.load_model(OWL)
        told = (await told_by(server))["model"]
        assert (told["key"], told["status"], told["loadedAt"], told["error"]) == (PARROT, "unloaded", None, None)
        hold = runtime.hold_start(PARROT)
        asking = server.session.post(server.url + "/v1/chat/completions", json=CHAT)
        async with asking_in_background(asking):
            await until(lambda: manager.engine.status(PARROT) is ModelStatus.LOADING)
            told = (await told_by(server))["model"]
            assert (told["key"], told["status"], told["loadedAt"]) == (PARROT, "loading", None)
            hold.set_result(None)
        assert (await told_by(server))["model"]["status"] == "loaded"
        await manager.unload_model(PARROT)
        assert (await told_by(server))["model"] is None


@asynccontextmanager
async def asking_in_background(request: Any) -> AsyncIterator[None]:
    """The block runs while a request waits; after it, it must succeed."""

    async def ask() -> int:
        async with request as answer:
            await answer.read()
            return int(answer.status)

    task = asyncio.create_task(ask())
    yield
    assert await task == 200


async def test_a_loaded_model_says_how_its_process_was_started() -> None:
    runtime = FakeRuntime()
    runtime.memory[PARROT] = 5
    async with manager_over(birds(owned=True), birds(name="far"), runtime=runtime) as manager:
        await manager.load_model(PARROT, options=LoadOptions(context_size=512, slots=3, threads=2))
        await manager.load_model("far:owl")
        [ours, far] = manager.loaded_models
        assert (ours.context_size, ours.slots, ours.threads) == (512, 3, 2)
        assert (far.context_size, far.slots, far.threads) == (None, None, None)


async def test_what_a_process_takes_is_not_read_for_whoever_asks() -> None:
    runtime = FakeRuntime()
    runtime.memory[PARROT] = 5
    async with manager_over(birds(owned=True), runtime=runtime) as manager:
        await manager.load_model(PARROT)
        assert manager.loaded_models[0].memory_bytes == 5
        runtime.memory[PARROT] = 7
        assert manager.loaded_models[0].memory_bytes == 5
        await manager.engine.look_at_memory()
        assert manager.loaded_models[0].memory_bytes == 7


# Bare ids while a provider is down.


async def test_a_bare_id_that_a_provider_had_before_it_went_down_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with manager_over(birds(name="far"), birds(name="near"), path=path) as manager:
        await manager.chat("hi", model="far:wren")
    far = birds(name="far")
    far.up = False
    near = FakeProvider([FakeModel(id="robin")], name="near")
    async with manager_over(far, near, path=path) as manager, serving(manager) as server:
        refused = await server.post("/v1/chat/completions", {**CHAT, "model": "wren"})
        assert refused.status == 503
        assert "“wren” is a model of far, which cannot be asked now" in refused.error["message"]
        unknown = await server.post("/v1/chat/completions", {**CHAT, "model": "stork"})
        assert unknown.status == 404
        assert "far could not be asked and may have it" in unknown.error["message"]
        assert (await server.post("/v1/chat/completions", {**CHAT, "model": "robin"})).status == 200
        far.up = True
        await manager.discover_models()
        unknown = await server.post("/v1/chat/completions", {**CHAT, "model": "stork"})
        assert "may have it" not in unknown.error["message"]
