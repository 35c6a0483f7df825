"""Memory and processors shared out among local models, from the manager's face and over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from managed import OWL, PARROT, WREN
from noa.config import Configuration
from noa.errors import ModelLoadError, ModelUnavailableError
from noa.events import Event
from noa.manager import ModelManager
from noa.models import CacheType, LoadOptions, LoadPlan
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.diagnosis import Reason
from noa.runtime.fake import FakeRuntime
from served import manager_of, serving, until

MIB = 1024**2
GIB = 1024**3
DEMO, COPY = "llama.cpp:demo", "llama.cpp:copy"


def nest(size_bytes: int = 4 * GIB) -> FakeProvider:
    return FakeProvider([FakeModel(id=name, owned=True, size_bytes=size_bytes) for name in ("parrot", "owl", "wren")])


async def test_a_model_larger_than_the_budget_is_refused_at_once_and_starts_nothing() -> None:
    runtime = FakeRuntime()
    async with manager_of(nest(), runtime=runtime, memory_budget="3GiB") as manager:
        with pytest.raises(ModelLoadError, match=r"fake:parrot needs 4\.0 GiB .* 3\.0 GiB; load it with a smaller"):
            await manager.load_model(PARROT)
        with pytest.raises(ModelUnavailableError, match=r"needs 4\.0 GiB"):
            await manager.chat("hello", model=PARROT)
        assert runtime.starts == {}


async def test_over_http_that_is_500_for_a_load_and_503_for_a_request() -> None:
    async with manager_of(nest(), memory_budget="3GiB") as manager, serving(manager) as server:
        load = await server.post("/api/v1/models/load", {"key": PARROT})
        assert (load.status, load.error["code"]) == (500, "MODEL_LOAD_ERROR")
        assert load.error["details"] == {"neededBytes": 4 * GIB, "budgetBytes": 3 * GIB}
        chat = await server.post(
            "/v1/chat/completions", {"model": PARROT, "messages": [{"role": "user", "content": ""}]}
        )
        assert (chat.status, chat.headers["retry-after"]) == (503, "60")


async def test_models_make_room_by_bytes() -> None:
    runtime = FakeRuntime()
    async with manager_of(nest(), runtime=runtime, memory_budget="9GiB") as manager:
        for key in (PARROT, OWL, WREN):
            await manager.load_model(key)
        assert [each.key for each in manager.loaded_models] == [OWL, WREN]
        assert runtime.most_live == 2


async def test_what_a_process_was_seen_to_take_counts_from_then_on() -> None:
    runtime = FakeRuntime()
    runtime.memory[PARROT] = 7 * GIB
    async with manager_of(nest(), runtime=runtime, memory_budget="9GiB") as manager:
        await manager.load_model(PARROT)
        assert (await manager.plan_load(OWL)).evicts == (PARROT,)


@pytest.mark.parametrize("reason", [Reason.OUT_OF_MEMORY, Reason.KILLED])
async def test_a_load_that_runs_out_of_memory_is_tried_again_when_an_idle_model_has_gone(reason: Reason) -> None:
    runtime = FakeRuntime()
    async with manager_of(nest(), runtime=runtime, memory_budget="20GiB") as manager:
        await manager.load_model(PARROT)
        runtime.fail(OWL, ModelLoadError("owl has not enough memory.", details={"reason": reason.value}))
        await manager.load_model(OWL)
        assert [each.key for each in manager.loaded_models] == [OWL]
        assert runtime.starts[OWL] == 2


async def test_twice_out_of_memory_is_told_with_the_engines_sentence() -> None:
    runtime = FakeRuntime()
    async with manager_of(nest(), runtime=runtime, memory_budget="20GiB") as manager:
        await manager.load_model(PARROT)
        for _ in range(2):
            runtime.fail(OWL, ModelLoadError("owl has not enough memory.", details={"reason": "out_of_memory"}))
        with pytest.raises(ModelLoadError, match="owl has not enough memory"):
            await manager.load_model(OWL)
        assert runtime.starts[OWL] == 2


async def test_a_plan_over_http_says_what_would_happen_and_nothing_does() -> None:
    runtime = FakeRuntime()
    async with manager_of(nest(), runtime=runtime, memory_budget="9GiB") as manager, serving(manager) as server:
        for key in (PARROT, OWL):
            await manager.load_model(key)
        await asyncio.sleep(0)
        events: list[Event] = []
        manager.on("*", events.append)
        answer = await server.post("/api/v1/models/load", {"key": WREN, "plan": True, "options": {"cacheType": "q8_0"}})
        assert (answer.status, answer.json) == (
            200,
            {
                "plan": {
                    "key": WREN,
                    "fits": True,
                    "neededBytes": 4 * GIB,
                    "basis": "file size",
                    "budgetBytes": 9 * GIB,
                    "usedBytes": 8 * GIB,
                    "evicts": [PARROT],
                    "waitsFor": [],
                    "threads": answer.json["plan"]["threads"],
                }
            },
        )
        assert answer.json["plan"]["threads"] >= 1
        await asyncio.sleep(0)
        assert events == []
        assert [each.key for each in manager.loaded_models] == [PARROT, OWL]
        assert runtime.starts[WREN] == 0
        unknown = await server.post("/api/v1/models/load", {"key": "fake:none", "plan": True})
        assert unknown.status == 404


async def test_a_plan_names_whom_it_would_wait_for() -> None:
    async with manager_of(nest(), max_loaded_models=1) as manager, manager.use(PARROT):
        plan = await manager.plan_load(OWL)
        assert (plan.fits, plan.evicts, plan.waits_for) == (True, (), (PARROT,))


async def test_a_plan_for_more_threads_or_with_an_impossible_budget_says_so() -> None:
    async with manager_of(nest(), memory_budget="1GiB") as manager:
        plan = await manager.plan_load(PARROT, LoadOptions(threads=5))
        assert (plan.fits, plan.threads, plan.needed_bytes, plan.budget_bytes) == (False, 5, 4 * GIB, GIB)


async def test_two_models_in_one_place_take_turns_without_a_swap_for_each_request() -> None:
    runtime = FakeRuntime()
    async with manager_of(nest(), runtime=runtime, max_loaded_models=1) as manager:
        asking = [manager.chat("hi", model=(PARROT, OWL)[number % 2]) for number in range(20)]
        assert len(await asyncio.gather(*asking)) == 20
        assert sum(runtime.starts.values()) <= 4
        assert runtime.most_live == 1


# With the real engine.


def configured(home: Path, demo_model: Path, **settings: Any) -> Configuration:
    """Two models from one file, hard-linked."""
    models = home / "models"
    models.mkdir(parents=True, exist_ok=True)
    for name in ("demo", "copy"):
        if not (models / f"{name}.gguf").exists():
            (models / f"{name}.gguf").hardlink_to(demo_model)
    return Configuration(home=home, context_size=1024, **settings)


@pytest.mark.engine
async def test_the_second_load_of_the_same_file_and_flags_uses_the_measured_figure(
    tmp_path: Path, demo_model: Path
) -> None:
    configuration = configured(tmp_path, demo_model)

    async def plans(manager: ModelManager) -> list[LoadPlan]:
        shapes = (LoadOptions(), LoadOptions(slots=4), LoadOptions(cache_type=CacheType.Q8_0))
        return [await manager.plan_load(DEMO, options) for options in shapes]

    async with ModelManager(configuration=configuration, persistence_path=tmp_path / "state.db") as manager:
        plain, wide, small = await plans(manager)
        assert {plan.basis for plan in (plain, wide, small)} == {"formula"}
        assert small.needed_bytes is not None
        assert plain.needed_bytes is not None
        assert wide.needed_bytes is not None
        assert small.needed_bytes < plain.needed_bytes < wide.needed_bytes
        await manager.load_model(DEMO)
        (loaded,) = manager.loaded_models
        await manager.unload_model(DEMO)
    async with ModelManager(configuration=configuration, persistence_path=tmp_path / "state.db") as manager:
        measured, wide, small = await plans(manager)
        assert [plan.basis for plan in (measured, wide, small)] == ["measured", "formula", "formula"]
        assert measured.needed_bytes is not None
        assert loaded.memory_bytes is not None
        assert measured.needed_bytes == pytest.approx(loaded.memory_bytes, rel=0.1)
        await manager.load_model(DEMO)
        again = await manager.plan_load(DEMO)
        assert again.used_bytes == pytest.approx(measured.needed_bytes, rel=0.1)
    (tmp_path / "models" / "demo.gguf").unlink()
    (tmp_path / "models" / "demo.gguf").write_bytes(demo_model.read_bytes())
    async with ModelManager(configuration=configuration) as manager:
        assert (await plans(manager))[0].basis == "formula", "another file of that name"


@pytest.mark.engine
@pytest.mark.parametrize("room", [{"max_loaded_models": 1}, {"memory_budget": "300MiB"}], ids=["places", "bytes"])
async def test_two_local_models_share_one_place(tmp_path: Path, demo_model: Path, room: dict[str, object]) -> None:
    async with ModelManager(configuration=configured(tmp_path, demo_model, **room)) as manager:
        assert await manager.load_model(DEMO) == DEMO
        plan = await manager.plan_load(COPY)
        assert (plan.fits, plan.evicts) == (True, (DEMO,))
        assert (await manager.switch_model(COPY)).previous_model == DEMO
        assert [each.key for each in manager.loaded_models] == [COPY]
        assert (await manager.chat("Say hello.", max_tokens=2)).model == "copy"
        assert (await manager.switch_model(DEMO)).current_model == DEMO
        answers = await asyncio.gather(
            *(manager.chat("Say hello.", model=(DEMO, COPY)[number % 2], max_tokens=2) for number in range(4))
        )
        assert len(answers) == 4
        await until(lambda: len(manager.loaded_models) == 1)


@pytest.mark.engine
async def test_a_smaller_type_of_cache_reaches_the_engine(tmp_path: Path, demo_model: Path) -> None:
    async with ModelManager(configuration=configured(tmp_path, demo_model)) as manager:
        await manager.load_model(DEMO, options=LoadOptions(cache_type=CacheType.Q8_0))
        assert any("K (q8_0)" in line for line in manager.logs(DEMO))
