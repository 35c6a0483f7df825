"""Live figures: what counts in them, and that a crash does not lose them."""

from __future__ import annotations

from pathlib import Path

import pytest

from managed import OWL, birds, manager_over
from noa import bootstrap
from noa.errors import ContextLengthError, ValidationError
from noa.storage.sqlite import SqliteStateStore
from served import until


async def test_what_a_caller_did_wrong_is_not_held_against_the_model() -> None:
    bird = birds()
    async with manager_over(bird) as manager:
        await manager.chat("hoo", OWL)
        for error in (ValidationError("“messages” is no list."), ContextLengthError("Too long.")):
            bird.fail(error, times=1)
            with pytest.raises(type(error)):
                await manager.chat("hoo", OWL)
        metrics = manager.performance_metrics(OWL)
        assert metrics is not None
        assert (metrics.success_rate, metrics.total_inferences) == (1.0, 1)


async def test_an_answer_that_comes_whole_has_no_time_to_first_token() -> None:
    async with manager_over(birds()) as manager:
        await manager.chat("hoo", OWL)
        async for _ in manager.stream("hoo", OWL):
            pass
        whole, streamed = manager.performance_history(OWL)
        assert whole.ttft_ms is None
        assert streamed.ttft_ms is not None


async def test_figures_are_on_disk_soon_after_the_request_without_a_clean_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "KEEP_FIGURES_S", 0.01)
    written: list[int] = []
    write = SqliteStateStore.write

    async def watching(store: SqliteStateStore, *changes: object) -> None:
        await write(store, *changes)  # type: ignore[arg-type]  # what is passed on is what came
        written.extend(1 for change in changes if type(change).__name__ == "ModelUsage")

    monkeypatch.setattr(SqliteStateStore, "write", watching)
    async with manager_over(birds(), path=tmp_path / "state.db") as manager:
        await manager.chat("hoo", OWL)
        await until(lambda: len(written) > 0)
        count = len(written)
    assert count == 1, "what did not change is not written again"


async def test_the_history_of_an_earlier_run_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with manager_over(birds(), path=path) as manager:
        await manager.chat("hoo", OWL)
    async with manager_over(birds(), path=path) as manager:
        await manager.chat("hoo", OWL)
        assert len(manager.performance_history(OWL)) == 2
        assert manager.live_spread(OWL).overhead_ms.samples == 2
        metrics = manager.performance_metrics(OWL)
        assert metrics is not None
        assert metrics.total_inferences == 2
