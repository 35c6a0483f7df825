"""Events are numbered, delivered in order and later, remembered for a while, and no listener can harm another."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from noa.events import LISTENER_BACKLOG, REPLAY_LIMIT, Event, EventBus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_events_are_numbered_and_dated() -> None:
    bus = EventBus(lambda: NOON)
    data = {"key": "a"}
    first = bus.publish("model-loaded", data)
    data["key"] = "changed later"
    assert (first.sequence, first.time, first.data) == (1, NOON, {"key": "a"})
    assert bus.publish("model-loaded", {}).sequence == bus.sequence == 2


async def test_a_handler_is_called_later_and_in_order() -> None:
    bus = EventBus()
    seen: list[int] = []
    bus.on("x", lambda event: seen.append(event.sequence))
    bus.publish("x", {})
    bus.publish("y", {})
    bus.publish("x", {})
    assert seen == []
    await bus.aclose()
    assert seen == [1, 3]


async def test_a_star_hears_everything_and_off_ends_it() -> None:
    bus = EventBus()
    seen: list[str] = []

    def note(event: Event) -> None:
        seen.append(event.type)

    bus.on("*", note)
    bus.publish("x", {})
    await asyncio.sleep(0)
    bus.off("*", note)
    bus.off("*", note)
    bus.publish("y", {})
    await bus.aclose()
    assert seen == ["x"]


async def test_a_handler_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    seen: list[int] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("broken")

    async def broken_later(_event: Event) -> None:
        raise RuntimeError("broken later")

    bus.on("x", broken)
    bus.on("x", broken_later)
    bus.on("x", lambda event: seen.append(event.sequence))
    with caplog.at_level(logging.CRITICAL, "noa.events"):
        bus.publish("x", {})
        bus.publish("x", {})
        await bus.aclose()
    assert seen == [1, 2]


async def test_closing_waits_for_handlers_that_still_run() -> None:
    bus = EventBus()
    gate, seen = asyncio.Event(), []

    async def slow(event: Event) -> None:
        await gate.wait()
        seen.append(event.sequence)

    bus.on("x", slow)
    bus.publish("x", {})
    closing = asyncio.create_task(bus.aclose())
    await asyncio.sleep(0)
    gate.set()
    await closing
    assert seen == [1]


async def test_a_listener_gets_what_it_missed_and_then_what_comes() -> None:
    bus = EventBus()
    for _ in range(3):
        bus.publish("x", {})
    async with aclosing(bus.listen(after=1)) as events:  # type: ignore[type-var]  # it is an async generator
        assert [(await anext(events)).sequence for _ in range(2)] == [2, 3]
        bus.publish("x", {})
        assert (await anext(events)).sequence == 4


async def test_nothing_is_lost_or_doubled_between_the_past_and_the_present() -> None:
    bus = EventBus()
    bus.publish("x", {})
    bus.publish("x", {})
    events = bus.listen(after=0)
    assert (await anext(events)).sequence == 1
    bus.publish("x", {})
    assert [(await anext(events)).sequence for _ in range(2)] == [2, 3]
    await bus.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_the_past_is_bounded() -> None:
    bus = EventBus()
    for _ in range(REPLAY_LIMIT + 5):
        bus.publish("x", {})
    assert (await anext(bus.listen(after=0))).sequence == 6


async def test_a_listener_that_falls_far_behind_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    events = bus.listen()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    with caplog.at_level(logging.CRITICAL, "noa.events"):
        for _ in range(LISTENER_BACKLOG + 10):
            bus.publish("x", {})
    assert (await waiting).sequence == 1
    rest = [event.sequence async for event in events]
    assert len(rest) < LISTENER_BACKLOG
    assert rest == list(range(2, 2 + len(rest)))
