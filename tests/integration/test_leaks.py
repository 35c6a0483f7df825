"""However often models come and go: files, tasks, threads, processes and memory are where they were."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fleet import ONE, TWO, fleet_on, two_models
from managed import OWL, PARROT, birds, manager_over
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime

#: What one more cycle may add to the memory in use, in bytes, once everything that is bounded is full.
BYTES_A_CYCLE = 1024
#: How many threads asyncio keeps for what blocks; it starts them one by one, when it happens to need one more.
POOL = min(32, (os.cpu_count() or 1) + 4)


def threads_of_ours() -> int:
    """How many threads there are, but for the loop's own pool, which it fills as it needs and keeps."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


async def come_and_go(manager: ModelManager, times: int) -> None:
    for _ in range(times):
        await manager.load_model(PARROT)
        await manager.switch_model(OWL)
        await manager.chat("Hello.", model=PARROT)
        await manager.unload_model(PARROT)
        await manager.unload_model(OWL)


@contextmanager
def traced() -> Iterator[None]:
    """Count what is allocated. From the beginning on, since only what was counted is seen to be freed."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


async def settled_memory() -> int:
    """The bytes that are in use when nothing is under way."""
    await asyncio.sleep(0.05)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_a_thousand_loads_and_unloads_leave_nothing(tmp_path: Path) -> None:
    process, runtime = psutil.Process(), FakeRuntime()
    tasks, threads, files = asyncio.all_tasks(), threads_of_ours(), process.num_fds()
    async with manager_over(birds(owned=True), runtime=runtime, path=tmp_path / "state.db") as manager:
        with traced():
            await come_and_go(manager, 10)
            running, open_files = len(asyncio.all_tasks()), process.num_fds()
            await come_and_go(manager, 490)
            runtime.processes.clear()
            half = await settled_memory()
            await come_and_go(manager, 500)
            runtime.processes.clear()
            grown = await settled_memory() - half
        assert grown / 500 < BYTES_A_CYCLE
        assert len(asyncio.all_tasks()) == running
        assert process.num_fds() == open_files
        assert runtime.starts == runtime.stops == {PARROT: 1000, OWL: 1000}
    assert asyncio.all_tasks() == tasks
    assert process.num_fds() == files
    assert threads_of_ours() == threads


@pytest.mark.engine
@pytest.mark.parametrize("cycles", [10, pytest.param(50, marks=(pytest.mark.nightly, pytest.mark.timeout(300)))])
async def test_real_processes_leave_nothing_in_their_manager(
    tmp_path: Path, short_folder: Path, demo_model: Path, cycles: int
) -> None:
    async with fleet_on(two_models(tmp_path, demo_model, TMPDIR=str(short_folder))) as fleet:
        server = psutil.Process(fleet.server.process.pid)

        async def cycle() -> tuple[int, int]:
            await fleet.do("load", ONE)
            await fleet.do("switch", TWO)
            await fleet.do("unload", ONE)
            await fleet.do("unload", TWO)
            assert server.children() == []
            [folder] = short_folder.iterdir()
            assert list(folder.iterdir()) == []
            return server.num_fds(), server.num_threads()

        for _ in range(2):
            await cycle()
        first = await cycle()
        for _ in range(cycles - 3):
            last = await cycle()
        assert last[0] == first[0]
        assert last[1] - first[1] <= POOL
    assert list(short_folder.iterdir()) == []
