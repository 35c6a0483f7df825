"""The current model is left for a better one by itself, if that is switched on; else, or where it fails, it stays."""

from __future__ import annotations

import pytest

from managed import OWL, WREN, birds, manager_over, watched
from noa.errors import ProviderResponseError
from noa.manager import ModelManager
from noa.providers.fake import FakeProvider
from served import until


async def go_wrong(manager: ModelManager, bird: FakeProvider) -> None:
    """Two models have served well; then the current one fails ten times on end."""
    await manager.switch_model(OWL)
    for _ in range(5):
        manager.record_inference(OWL, 500.0, 20, success=True)
        manager.record_inference(WREN, 100.0, 20, success=True)
    bird.fail(ProviderResponseError("Nonsense.", provider="fake"), times=10)
    for _ in range(10):
        with pytest.raises(ProviderResponseError):
            await manager.chat("hoo")


async def test_a_current_model_that_scores_low_is_left_for_a_better_one_and_the_event_says_why() -> None:
    bird = birds()
    manager = manager_over(bird, enable_auto_switch=True, auto_switch_threshold=0.7)
    async with watched(manager) as events:
        await go_wrong(manager, bird)
        await until(lambda: manager.engine.current_key == WREN)
        await until(lambda: any(event.data.get("current_model") == WREN for event in events))
        switched = next(event.data for event in events if event.data.get("current_model") == WREN)
        assert (switched["previous_model"], switched["current_model"]) == (OWL, WREN)
        assert f"{OWL} scores 0.2" in str(switched["reason"])
        assert "below 0.70" in str(switched["reason"])
        assert (await manager.chat("hoo")).text == "hoo"
        assert bird.requests["wren"] == 1


async def test_nothing_moves_by_itself_unless_it_is_switched_on() -> None:
    bird = birds()
    async with manager_over(bird) as manager:
        await go_wrong(manager, bird)
        assert manager.engine.current_key == OWL


async def test_a_model_that_cannot_be_loaded_leaves_the_current_one_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bird = birds()
    async with manager_over(bird, enable_auto_switch=True, auto_switch_threshold=0.7) as manager:
        del bird.models["wren"]
        await go_wrong(manager, bird)
        await until(lambda: "did not switch to fake:wren by itself" in caplog.text)
        assert manager.engine.current_key == OWL
        assert (await manager.chat("hoo")).text == "hoo"
