"""The fake keeps the promises tests of the engine build on."""

from __future__ import annotations

import asyncio

import pytest

from noa.errors import ModelLoadError
from noa.runtime.fake import FakeRuntime
from noa.runtime.protocol import EngineProcess, EngineSpec, Progress, Runtime
from noa.state import ProcessGone, ProcessIntended, ProcessStarted

KEY = "llama.cpp:m"
SPEC = EngineSpec(key=KEY, generation=1, path="/m.gguf", alias="m", context_size=512)


class Journal(list[ProcessIntended | ProcessStarted | ProcessGone]):
    async def __call__(self, entry: ProcessIntended | ProcessStarted | ProcessGone) -> None:
        self.append(entry)

    @property
    def kinds(self) -> list[type]:
        return [type(entry) for entry in self]


def silent(_phase: str) -> None:
    pass


def when_loading(event: asyncio.Event) -> Progress:
    return lambda phase: event.set() if phase == "loading" else None


async def test_it_starts_and_stops_as_a_runtime_does() -> None:
    fake, journal = FakeRuntime(), Journal()
    runtime: Runtime = fake
    process: EngineProcess = await runtime.start(SPEC, journal, silent)
    fake.memory[KEY] = 10
    assert process.memory_bytes() == 10
    await process.stop()
    assert (await process.exited).expected
    assert process.memory_bytes() is None
    assert journal.kinds == [ProcessIntended, ProcessStarted, ProcessGone]
    assert (fake.starts[KEY], fake.stops[KEY], fake.live()) == (1, 1, [])


async def test_a_held_start_is_alive_and_waits_for_the_test() -> None:
    fake, journal = FakeRuntime(), Journal()
    hold = fake.hold_start(KEY)
    loading = asyncio.Event()
    starting = asyncio.create_task(fake.start(SPEC, journal, when_loading(loading)))
    await loading.wait()
    assert fake.live(KEY)
    assert not starting.done()
    hold.set_result(None)
    await starting
    await fake.aclose()


async def test_a_start_cancelled_or_made_to_fail_leaves_nothing_alive() -> None:
    fake, journal = FakeRuntime(), Journal()
    fake.hold_start(KEY)
    loading = asyncio.Event()
    starting = asyncio.create_task(fake.start(SPEC, journal, when_loading(loading)))
    await loading.wait()
    assert fake.live(KEY)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert fake.live() == []

    fake.hold_start(KEY).set_result(None)
    fake.fail(KEY, ModelLoadError("It is corrupt."))
    with pytest.raises(ModelLoadError):
        await fake.start(SPEC, journal, silent)
    assert fake.live() == []
    assert journal.kinds == [ProcessIntended, ProcessStarted, ProcessGone] * 2
    await fake.start(SPEC, journal, silent)


async def test_a_held_stop_keeps_the_process_alive_and_a_crash_is_unexpected() -> None:
    fake, journal = FakeRuntime(), Journal()
    process = await fake.start(SPEC, journal, silent)
    hold = fake.hold_stop(KEY)
    stopping = asyncio.create_task(process.stop())
    await asyncio.sleep(0)
    assert process.alive
    process.crash()
    hold.set_result(None)
    await stopping
    exit_ = await process.exited
    assert (exit_.code, exit_.expected) == (-9, False)
    assert journal.kinds[-1] is ProcessGone


async def test_a_second_live_process_for_one_key_is_a_violation() -> None:
    fake, journal = FakeRuntime(), Journal()
    await fake.start(SPEC, journal, silent)
    with pytest.raises(AssertionError):
        await fake.start(SPEC, journal, silent)
    assert fake.violations == [KEY]
