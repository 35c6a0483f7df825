"""Profiles as a manager makes them and its server tells them: limits, progress, stops, cold starts, history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from managed import OWL, PARROT, birds, manager_over, watched
from noa.errors import ConflictError, UnsupportedError, ValidationError
from noa.manager import ModelManager
from noa.models import ModelCapability, ModelStatus, Price, PriceSource
from noa.providers.fake import FakeModel, FakeProvider
from noa.providers.protocol import Offer
from noa.runtime.fake import FakeRuntime
from served import Served, manager_of, serving, until

PRICE = Price(input=1.0, output=10.0, source=PriceSource.PROVIDER)


class DearProvider(FakeProvider):
    """One whose models have a price."""

    def _offer(self, model: FakeModel) -> Offer:
        offer = super()._offer(model)
        return msgspec.structs.replace(offer, model=msgspec.structs.replace(offer.model, price=PRICE))


class Clock:
    """Seconds that pass only while somebody sleeps on it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def dear() -> FakeProvider:
    return DearProvider([FakeModel(id="parrot", reply="a few words")], name="openai")


@pytest.fixture
async def manager(dear: FakeProvider) -> AsyncIterator[ModelManager]:
    runtime = FakeRuntime()
    runtime.memory[PARROT] = 123_000_000
    async with manager_of(dear, birds(owned=True), runtime=runtime) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager) as server:
        yield server


DEAR = "openai:parrot"
PROFILE = f"/api/v1/models/{DEAR}/profile"


async def test_the_answer_has_the_quick_starts_shape_and_the_rest_beside_it(server: Served) -> None:
    answer = (await server.post(PROFILE, {"testCount": 3, "mode": "quick", "maxTokens": 16, "maxCost": 1.0})).json
    assert (answer["success"], answer["key"]) == (True, DEAR)
    assert answer["message"] == f"{DEAR} was measured with 3 requests."
    metrics = answer["metrics"]
    assert metrics["successRate"] == 1.0
    assert metrics["averageLatency"] > 0
    assert (metrics["testCount"], metrics["maxTokens"], metrics["stopped"]) == (3, 16, None)
    assert (metrics["ttftMs"]["samples"], metrics["itlMs"]["samples"]) == (3, 6)
    assert metrics["memoryUsage"] is None
    words = metrics["promptTokens"]
    assert metrics["costUsd"] == pytest.approx((words * 1.0 + 4 * 3 * 10.0) / 1e6)


@pytest.mark.parametrize("body", [{"mode": "slow"}, {"maxCost": -1}, {"maxTokens": 0}, {"tests": 5}])
async def test_what_no_profile_can_do_is_refused(server: Served, dear: FakeProvider, body: dict[str, Any]) -> None:
    answer = await server.post(PROFILE, body)
    assert (answer.status, answer.error["code"]) == (400, "VALIDATION_ERROR")
    assert not dear.requests


async def test_an_estimate_sends_nothing_and_says_what_it_would_cost(server: Served, dear: FakeProvider) -> None:
    quick = (await server.post(PROFILE, {"testCount": 3, "maxTokens": 100, "estimate": True})).json["estimate"]
    full = (await server.post(PROFILE, {"mode": "full", "estimate": True})).json["estimate"]
    assert not dear.requests
    assert (quick["requests"], quick["completionTokens"]) == (4, 400)
    assert quick["costUsd"] == pytest.approx((quick["promptTokens"] * 1.0 + 400 * 10.0) / 1e6)
    assert quick["price"]["source"] == "provider"
    assert full["requests"] > 100
    local = (await server.post(f"/api/v1/models/{PARROT}/profile", {"estimate": True})).json["estimate"]
    assert local["costUsd"] == 0


async def test_a_limit_ends_a_profile_before_it_is_reached(server: Served, dear: FakeProvider) -> None:
    answer = (await server.post(PROFILE, {"testCount": 100, "maxCost": 0.01})).json
    metrics = answer["metrics"]
    assert metrics["stopped"] == "max-cost"
    assert metrics["costUsd"] <= 0.01
    assert 0 < metrics["testCount"] < 100
    assert "more than maxCost allows" in answer["message"]


async def test_a_limit_for_a_model_of_unknown_price_is_refused() -> None:
    async with manager_of(FakeProvider(name="openai")) as manager:
        with pytest.raises(ValidationError, match="What openai:parrot costs is not known"):
            await manager.profile_model(DEAR, max_cost=1.0)
        assert manager.estimate_profile(DEAR).cost_usd is None


async def test_a_profile_that_is_stopped_answers_with_what_it_has(server: Served, dear: FakeProvider) -> None:
    begun = asyncio.create_task(server.post(PROFILE, {"testCount": 50}))
    await until(lambda: dear.requests["parrot"] >= 1)
    dear.latency_s = 30
    await until(lambda: dear.in_flight)
    stopped = await server.ask("DELETE", PROFILE)
    answer = await begun
    assert stopped.json["metrics"] == answer.json["metrics"]
    assert (stopped.status, answer.status, answer.json["metrics"]["stopped"]) == (200, 200, "asked")
    assert "was stopped after" in answer.json["message"]
    assert not dear.in_flight
    again = await server.ask("DELETE", PROFILE)
    assert (again.status, again.error["code"]) == (409, "CONFLICT")


async def test_a_profile_that_nobody_waits_for_goes_on(server: Served, manager: ModelManager) -> None:
    begun = await server.post(PROFILE, {"testCount": 2, "wait": False})
    assert (begun.status, begun.json["status"], begun.json["key"]) == (202, "profiling", DEAR)
    async with asyncio.timeout(5):
        async for event in manager.events.listen(0):
            if event.type == "profiling-completed":
                break
    history = (await server.get(f"/api/v1/models/{DEAR}/history")).json
    assert history["profiles"][0]["metrics"]["testCount"] == 2


async def test_a_model_is_profiled_once_at_a_time(manager: ModelManager, dear: FakeProvider) -> None:
    dear.latency_s = 30
    first = asyncio.create_task(manager.profile_model(DEAR))
    await until(lambda: dear.in_flight)
    with pytest.raises(ConflictError, match="is being profiled already"):
        await manager.profile_model(DEAR)
    await manager.stop_profile(DEAR)
    assert (await first).stopped == "asked"


async def test_whoever_cancels_a_profile_is_told_by_an_event_what_it_had() -> None:
    provider = birds()
    manager = manager_over(provider)
    async with watched(manager) as events:
        profile = asyncio.create_task(manager.profile_model(PARROT, 50))
        await until(lambda: provider.requests["parrot"] >= 3)
        provider.latency_s = 30
        await until(lambda: provider.in_flight)
        profile.cancel()
        with pytest.raises(asyncio.CancelledError):
            await profile
        await asyncio.sleep(0)
    [stopped] = [event.data for event in events if event.type == "profiling-stopped"]
    metrics: Any = stopped["metrics"]
    assert metrics.test_count >= 1
    progress = [event.data for event in events if event.type == "profiling-progress"]
    assert [each["done"] for each in progress] == list(range(1, len(progress) + 1))
    assert {(each["total"], each["stage"]) for each in progress} == {(51, "test")}


async def test_a_model_that_makes_no_conversation_is_not_profiled() -> None:
    embedder = FakeModel(id="embedder", capabilities=(ModelCapability.EMBEDDINGS,))
    async with manager_of(FakeProvider([embedder])) as manager:
        with pytest.raises(UnsupportedError, match="makes embeddings"):
            await manager.profile_model("fake:embedder")


# Cold starts.


async def test_a_load_that_the_profile_needs_is_its_cold_start(manager: ModelManager) -> None:
    first = await manager.profile_model(PARROT, 1)
    again = await manager.profile_model(PARROT, 1)
    assert first.cold_start_ms is not None
    assert first.first_request_ms is not None
    assert first.cold_start_ms > first.first_request_ms
    assert again.cold_start_ms is None
    assert (again.memory_usage, again.peak_memory_usage) == (123.0, 123.0)


async def test_an_idle_model_is_started_anew_where_that_is_allowed_and_is_in_use_again_after(
    manager: ModelManager,
) -> None:
    await manager.load_model(PARROT)
    await manager.load_model(OWL)
    await manager.switch_model(PARROT)
    metrics = await manager.profile_model(PARROT, 1, cold_start=True)
    assert metrics.cold_start_ms is not None
    assert manager.engine.current_key == PARROT
    assert manager.engine.status(PARROT) is ModelStatus.LOADED


async def test_a_model_in_use_is_not_taken_away_for_its_cold_start(manager: ModelManager) -> None:
    async with manager.use(PARROT):
        metrics = await manager.profile_model(PARROT, 1, cold_start=True)
    assert (metrics.cold_start_ms, metrics.failures) == (None, 0)


async def test_a_remote_model_has_no_cold_start(manager: ModelManager) -> None:
    metrics = await manager.profile_model(DEAR, 1, cold_start=True)
    assert metrics.cold_start_ms is None


# History.


async def test_the_second_profile_is_compared_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("noa.manager.profiles.time", clock)
    dear = DearProvider([FakeModel(id="parrot", reply="a few words")], name="openai", sleep=clock.sleep)
    async with manager_of(dear) as manager, serving(manager) as server:
        dear.latency_s = 0.001
        await server.post(PROFILE, {"testCount": 8})
        dear.latency_s = 0.02
        answer = (await server.post(PROFILE, {"testCount": 8})).json
        history = (await server.get(f"/api/v1/models/{DEAR}/history")).json
    [ttft, *_] = answer["metrics"]["comparison"]["changes"]
    assert (ttft["figure"], ttft["significant"]) == ("ttftMs", True)
    assert ttft["change"] == pytest.approx(19)
    assert "slower than on" in answer["message"]
    assert [past["metrics"]["comparison"] is None for past in history["profiles"]] == [False, True]
