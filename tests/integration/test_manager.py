"""The manager over providers and processes that are values: how models come, stay and go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from managed import OWL, PARROT, birds, manager_over, names, watched
from noa.errors import (
    ConfigurationError,
    ModelLoadError,
    ModelNotLoadedError,
    ModelUnavailableError,
    ProviderAuthenticationError,
    StateInUseError,
)
from noa.models import LoadOptions, ModelStatus
from noa.providers.fake import FakeProvider
from noa.runtime.fake import FakeRuntime
from served import until


async def test_a_model_is_loaded_used_and_unloaded_again() -> None:
    provider = birds()
    async with manager_over(provider) as manager:
        assert manager.loaded_models == []
        key = await manager.load_model("fake", "parrot")
        assert key == PARROT
        assert [each.key for each in manager.loaded_models] == [PARROT]
        current = manager.current_model
        assert current is not None
        assert current.model.name == "parrot"
        assert provider.verified == {"parrot": 1}
        reply = await manager.chat("hello there")
        assert (reply.text, provider.requests["parrot"]) == ("hello there", 1)
        assert await manager.unload_model(PARROT) == PARROT
        assert manager.loaded_models == []
        assert manager.engine.current_key is None
        with pytest.raises(ModelNotLoadedError):
            await manager.unload_model(PARROT)


async def test_switching_moves_current_and_announces_it() -> None:
    manager = manager_over(birds())
    async with watched(manager) as events:
        await manager.load_model(PARROT)
        result = await manager.switch_model(OWL, "for a change")
        assert (result.previous_model, result.current_model, result.reason) == (PARROT, OWL, "for a change")
        assert [each.key for each in manager.loaded_models] == [PARROT, OWL]
        assert (await manager.chat("hi")).model == "owl"
        await asyncio.sleep(0)
        switched = next(event for event in events if event.type == "model-switched")
        assert switched.data["previous_model"] == PARROT
        assert switched.data["current_model"] == OWL
        assert switched.data["reason"] == "for a change"
        assert switched.data["timestamp"] is not None


async def test_a_model_that_does_not_load_says_why_and_the_old_one_stays() -> None:
    runtime = FakeRuntime()
    manager = manager_over(birds(owned=True), runtime=runtime)
    async with watched(manager) as events:
        await manager.load_model(PARROT)
        runtime.fail(OWL, ModelLoadError("owl.gguf is corrupt; fetch it again.", provider="fake"))
        with pytest.raises(ModelLoadError, match=r"owl\.gguf is corrupt"):
            await manager.switch_model(OWL)
        assert (await manager.chat("still here?")).model == "parrot"
        entry = manager.registry.get(OWL)
        assert entry is not None
        assert (entry.status, entry.error) == (ModelStatus.FAILED, "owl.gguf is corrupt; fetch it again.")
        with pytest.raises(ModelUnavailableError) as refused:
            await manager.chat("hello", model=OWL)
        assert refused.value.retry_after_s is not None
        await asyncio.sleep(0)
        assert "model-load-error" in names(events)


async def test_wrong_credentials_fail_the_load_of_a_remote_model() -> None:
    class Refusing(FakeProvider):
        async def verify(self, model_id: str) -> Any:
            raise ProviderAuthenticationError(f"The key for {self.name} is refused.", provider=self.name)

    async with manager_over(Refusing()) as manager:
        with pytest.raises(ProviderAuthenticationError, match="refused"):
            await manager.load_model(PARROT)


async def test_one_model_is_started_once_however_many_ask() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime) as manager:
        gate = runtime.hold_start(PARROT)
        asking = [asyncio.create_task(manager.chat("hi", model=PARROT)) for _ in range(20)]
        loading = [asyncio.create_task(manager.load_model(PARROT)) for _ in range(5)]
        await until(lambda: runtime.starts[PARROT])
        gate.set_result(None)
        await asyncio.gather(*asking, *loading)
        assert runtime.starts == {PARROT: 1}
        assert runtime.violations == []


async def test_the_least_recently_used_model_makes_room() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime, max_loaded_models=2) as manager:
        for key in (PARROT, OWL):
            await manager.load_model(key)
        for _ in range(3):
            await manager.chat("hi", model=PARROT)
        await manager.chat("hi", model=OWL)
        await manager.load_model("fake:wren")
        assert [each.key for each in manager.loaded_models] == [OWL, "fake:wren"]
        assert runtime.most_live == 2


async def test_a_model_in_use_is_not_evicted_and_who_waits_gets_the_place_afterwards() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime, max_loaded_models=1) as manager:
        async with manager.use(PARROT):
            with pytest.raises(ModelUnavailableError, match="no room"):
                await manager.load_model(OWL, wait_s=0.05)
            waiting = asyncio.create_task(manager.chat("hi", model=OWL))
            await until(lambda: manager.engine.waiting)
            assert runtime.stops == {}
        assert (await waiting).model == "owl"
        assert runtime.stops == {PARROT: 1}


async def test_a_time_to_live_counts_from_the_last_use() -> None:
    runtime = FakeRuntime()
    manager = manager_over(birds(owned=True), runtime=runtime)
    async with watched(manager) as events:
        async with manager.use(PARROT):
            await manager.load_model(PARROT, ttl=0.0)
            assert runtime.stops == {}
        await until(lambda: "model-evicted" in names(events))
        assert manager.engine.current_key == PARROT
        assert (await manager.chat("hi")).model == "parrot"


async def test_what_was_loaded_and_current_is_so_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with manager_over(birds(owned=True), path=path) as manager:
        await manager.load_model(PARROT, ttl=500.0, options=LoadOptions(context_size=512))
        await manager.load_model(OWL)
        await manager.switch_model(OWL)
        await manager.load_model("fake:wren")
        await manager.unload_model("fake:wren")
        await manager.chat("count me")
        assert await manager.save_state() == path
    runtime = FakeRuntime()
    again = manager_over(birds(owned=True), runtime=runtime, path=path)
    async with watched(again) as events:
        assert (await again.chat("hi")).model == "owl"
        await until(lambda: len(again.loaded_models) == 2)
        assert {each.key: each.ttl_s for each in again.loaded_models} == {PARROT: 500.0, OWL: None}
        assert runtime.starts == {PARROT: 1, OWL: 1}
        assert {process.spec.key: process.spec.context_size for process in runtime.processes}[PARROT] == 512
        restored = next(event for event in events if event.type == "state-restored")
        assert restored.data["models"] == 2
        metrics = again.performance_metrics(OWL)
        assert metrics is not None
        assert metrics.total_inferences == 2


async def test_what_is_unloaded_while_it_is_restored_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with manager_over(birds(owned=True), path=path) as manager:
        await manager.load_model(PARROT)
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime, path=path) as manager:
        runtime.hold_start(PARROT)
        await until(lambda: manager.engine.status(PARROT) is ModelStatus.LOADING)
        await manager.unload_model(PARROT)
        assert runtime.live() == []
    async with manager_over(birds(owned=True), path=path) as manager:
        await asyncio.sleep(0)
        assert manager.engine.status(PARROT) is ModelStatus.AVAILABLE
        assert manager.current_model is None


async def test_two_managers_do_not_share_one_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with manager_over(birds(), path=path) as manager:
        manager.announce("http://localhost:3001")
        with pytest.raises(StateInUseError, match="http://localhost:3001"):
            await manager_over(birds(), path=path).initialize()
    async with manager_over(birds(), path=path):
        pass


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_default_model_is_loaded_at_start_if_that_is_wanted(wanted: bool) -> None:
    async with manager_over(birds(), default_model="owl", auto_load_default=wanted) as manager:
        if wanted:
            await until(lambda: manager.current_model)
            assert manager.engine.current_key == OWL
        else:
            assert manager.loaded_models == []
            assert manager.engine.status(OWL) is ModelStatus.AVAILABLE


async def test_a_process_that_crashes_is_started_again() -> None:
    runtime = FakeRuntime()
    provider = birds(owned=True)
    manager = manager_over(provider, runtime=runtime)
    async with watched(manager) as events:
        await manager.load_model(PARROT)
        first = runtime.live(PARROT)[0]
        first.crash(error="fake:parrot ran out of memory.")
        await until(lambda: "model-crashed" in names(events))
        entry = manager.registry.get(PARROT)
        assert entry is not None
        assert (entry.status, entry.error) == (ModelStatus.UNLOADED, "fake:parrot ran out of memory.")
        assert (await manager.chat("hi")).model == "parrot"
        assert runtime.starts == {PARROT: 2}
        assert provider.forgotten == [first.endpoint]


async def test_a_manager_that_is_closed_leaves_no_task_and_no_process_behind() -> None:
    before = asyncio.all_tasks()
    runtime, provider = FakeRuntime(), birds(owned=True)
    manager = manager_over(provider, runtime=runtime)
    await manager.initialize()
    await manager.initialize()
    await manager.load_model(PARROT)
    runtime.hold_start(OWL)
    loading = asyncio.create_task(manager.load_model(OWL))
    waiting = asyncio.create_task(manager.chat("hi", model=OWL))
    await until(lambda: len(runtime.live()) == 2)
    await manager.destroy()
    await manager.destroy()
    for task in (loading, waiting):
        with pytest.raises(ModelUnavailableError, match="shutting down"):
            await task
    assert runtime.live() == []
    assert provider.closed
    assert asyncio.all_tasks() == before
    with pytest.raises(ConfigurationError, match="not running"):
        await manager.chat("hi")
