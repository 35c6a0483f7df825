"""The manager over providers that are values: requests, leases, figures and events as a program sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from managed import OWL, PARROT, birds, manager_over, names, watched
from noa.errors import (
    AIProviderError,
    ConflictError,
    ModelNotFoundError,
    ModelUnavailableError,
    RateLimitError,
)
from noa.models import ModelCapability, ModelStatus
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from served import until


async def test_the_events_of_a_life_have_the_quick_starts_names_and_fields() -> None:
    provider = birds(owned=True)
    manager = manager_over(provider)
    async with watched(manager) as events:
        await manager.load_model(PARROT)
        await manager.chat("hello", max_tokens=5)
        await manager.profile_model(PARROT, 2)
        await manager.unload_model(PARROT)
        await manager.save_state()
        await asyncio.sleep(0)
    by_name = {event.type: event.data for event in events}
    order = list(dict.fromkeys(names(events)))
    expected = [
        "model-registered",
        "provider-discovered",
        "initialized",
        "model-loading",
        "model-warming-up",
        "model-warmed-up",
        "model-loaded",
        "inference-complete",
        "profiling-started",
        "profiling-completed",
        "model-unloaded",
        "state-saved",
    ]
    assert [name for name in order if name in expected] == expected
    assert by_name["model-loaded"]["key"] == PARROT
    assert by_name["model-loaded"]["provider"] == "fake"
    started = by_name["profiling-started"]
    assert (started["key"], started["test_count"]) == (PARROT, 2)
    assert by_name["profiling-completed"]["metrics"] is not None
    assert set(by_name["inference-complete"]) >= {"model_key", "latency", "tokens_generated"}
    assert by_name["state-saved"] == {"path": None}
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_an_unload_that_takes_too_long_is_a_conflict_and_force_cuts_the_caller() -> None:
    provider = birds()
    stuck = asyncio.Event()

    async def wait(_seconds: float) -> None:
        await stuck.wait()

    provider._sleep = wait
    async with manager_over(provider) as manager:
        await manager.load_model(PARROT)
        asking = asyncio.create_task(manager.chat("hi"))
        await until(lambda: provider.in_flight)
        with pytest.raises(ConflictError, match="in use"):
            await manager.unload_model(PARROT, drain_s=0.01)
        assert manager.engine.status(PARROT) is ModelStatus.LOADED
        await manager.unload_model(PARROT, force=True)
        with pytest.raises(ModelUnavailableError, match="by force"):
            await asking
        assert provider.in_flight == 0


async def test_inferences_of_ones_own_move_the_averages_by_a_fifth() -> None:
    async with manager_over(birds()) as manager:
        assert manager.performance_metrics(PARROT) is None
        manager.record_inference(PARROT, 100.0, 50, True)
        manager.record_inference(PARROT, 200.0, 50, True)
        metrics = manager.performance_metrics(PARROT)
        assert metrics is not None
        assert metrics.average_latency == pytest.approx(100 + 0.2 * 100)
        assert metrics.tokens_per_second == pytest.approx(500 + 0.2 * (250 - 500))
        assert (metrics.success_rate, metrics.total_inferences) == (1.0, 2)
        manager.record_inference(PARROT, 300.0, None, False)
        metrics = manager.performance_metrics(PARROT)
        assert metrics is not None
        assert metrics.success_rate == pytest.approx(0.8)
        assert [line.latency_ms for line in manager.performance_history(PARROT)] == [100.0, 200.0, 300.0]


async def test_without_tracking_requests_leave_no_figures() -> None:
    async with manager_over(birds(), enable_performance_tracking=False) as manager:
        await manager.chat("hi", model=PARROT)
        assert manager.performance_metrics(PARROT) is None


async def test_the_best_measured_model_is_switched_to() -> None:
    async with manager_over(birds()) as manager:
        await manager.load_model(PARROT)
        with pytest.raises(ModelNotFoundError, match="profile one first"):
            await manager.auto_switch_to_best_model("chat_completion")
        manager.record_inference(PARROT, 2000.0, 10, True)
        manager.record_inference(OWL, 100.0, 100, True)
        result = await manager.auto_switch_to_best_model(ModelCapability.CHAT_COMPLETION)
        assert result.current_model == OWL


async def test_statistics_count_the_fleet() -> None:
    async with manager_over(birds(), birds(name="other")) as manager:
        await manager.load_model(PARROT)
        await manager.chat("hi")
        statistics = manager.statistics()
        assert statistics.total_models == 6
        assert (statistics.loaded_models, statistics.current_model, statistics.total_inferences) == (1, PARROT, 1)
        assert statistics.provider_counts == {"fake": 3, "other": 3}
        assert statistics.capability_counts["chat_completion"] == 6
        assert statistics.status_counts == {"available": 5, "loaded": 1}


async def test_capabilities_are_the_providers_word() -> None:
    async with manager_over(birds()) as manager:
        assert ModelCapability.STREAMING in await manager.detect_capabilities(PARROT)
        assert manager.supports_capability(PARROT, "streaming")
        assert not manager.supports_capability(PARROT, ModelCapability.VISION)
        with pytest.raises(ModelNotFoundError):
            manager.supports_capability("fake:dodo", "vision")


async def test_streams_and_embeddings_are_served() -> None:
    can = (ModelCapability.EMBEDDINGS, ModelCapability.CHAT_COMPLETION)
    provider = FakeProvider([FakeModel(id="parrot", capabilities=can)])
    async with manager_over(provider) as manager:
        pieces = [piece async for piece in manager.stream("one two three", model="parrot")]
        assert "".join(pieces) == "one two three"
        assert len(pieces) == 3
        assert len((await manager.embed(["a", "b"])).vectors) == 2
        async with manager.use() as model:
            assert model.key == PARROT
            assert [piece async for piece in model.stream("four five")] == ["four", " five"]
            assert len((await model.embed("a")).vectors) == 1
        assert manager.engine.active()[0].in_flight == 0


async def test_leaving_a_lease_ends_the_streams_that_were_opened_on_it() -> None:
    provider = birds()
    async with manager_over(provider) as manager:
        async with manager.use(PARROT) as model:
            stream = model.stream("one two three")
            assert await anext(stream) == "one"
            assert provider.in_flight == 1
        assert provider.in_flight == 0
        assert manager.loaded_models[0].in_flight == 0
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.parametrize("stage", ["loading", "waiting for the upstream", "in the middle of a stream"])
async def test_a_caller_who_goes_away_gives_everything_back(stage: str) -> None:
    runtime, provider = FakeRuntime(), birds(owned=True)
    stuck = asyncio.Event()

    async def wait(_seconds: float) -> None:
        await stuck.wait()

    async with manager_over(provider, runtime=runtime) as manager:
        began: Callable[[], object]
        if stage == "loading":
            gate = runtime.hold_start(PARROT)
            began = lambda: manager.engine.waiting  # noqa: E731  # one of three
        else:
            await manager.load_model(PARROT)
            provider._sleep = wait
            began = lambda: provider.in_flight  # noqa: E731  # one of three
        if stage == "in the middle of a stream":
            provider.piece_delay_s = 1.0

        async def ask() -> None:
            async for _ in manager.stream("one two", model=PARROT):
                pass

        asking = asyncio.create_task(ask())
        await until(began)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert provider.in_flight == 0
        if stage == "loading":
            gate.set_result(None)
            await until(lambda: manager.loaded_models)
        assert [each.in_flight for each in manager.loaded_models] == [0]
        assert manager.engine.waiting == 0


async def test_a_failed_answer_is_the_callers_and_counts_against_the_model() -> None:
    provider = birds()
    async with manager_over(provider) as manager:
        await manager.load_model(PARROT)
        provider.fail(RateLimitError("Slow down.", provider="fake", retry_after_s=3.0))
        with pytest.raises(RateLimitError):
            await manager.chat("hi")
        metrics = manager.performance_metrics(PARROT)
        assert metrics is not None
        assert metrics.success_rate == 0.0
        assert manager.loaded_models[0].in_flight == 0


async def test_every_question_about_an_unknown_model_is_answered_alike() -> None:
    async with manager_over(birds()) as manager:
        questions: list[Callable[[str], Awaitable[object]]] = [
            manager.load_model,
            manager.unload_model,
            manager.switch_model,
            manager.profile_model,
            manager.detect_capabilities,
            manager.profiles,
        ]
        for ask in questions:
            with pytest.raises(AIProviderError) as raised:
                await ask("fake:dodo")
            assert isinstance(raised.value, ModelNotFoundError)
            assert raised.value.provider == "fake"
