"""The table of ``docs/events.md`` is what is told: no type is missing or made up, and no data."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from managed import OWL, PARROT, WREN, birds
from noa.client import NoaClient
from noa.client_answers import ServerEvent
from noa.errors import ProviderResponseError
from noa.failover import _EVENTS as BREAKER_EVENTS
from served import Served, manager_of, serving

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| `([\w-]+)` \| (.+?) \|", (ROOT / "docs" / "events.md").read_text(encoding="utf-8"), re.MULTILINE
)
TABLE = {name: set(re.findall(r"`(\w+)`", data)) for name, data in ROWS}


def published() -> Iterator[str]:
    """The types that the code publishes: the constants that any ``publish`` is called with."""
    yield from BREAKER_EVENTS.values()
    for path in (ROOT / "src" / "noa").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            named = node.args[0]
            if node.func.attr in {"publish", "_publish"} and isinstance(named, ast.Constant):
                yield str(named.value)


def test_every_event_is_in_the_table_once_and_every_one_there_is_told() -> None:
    assert len(TABLE) == len(ROWS)
    assert set(published()) == set(TABLE)


def test_the_quick_starts_events_are_all_told() -> None:
    quick_start = """initialized model-registered model-updated provider-discovered model-loading model-loaded
    model-load-error model-warming-up model-warmed-up model-switched model-unloaded model-evicted profiling-started
    profiling-completed state-saved state-restored inference-complete"""
    assert set(quick_start.split()) <= TABLE.keys()


async def listened(server: Served, until_type: str, after: int) -> list[ServerEvent]:
    """What the server tells after an event, up to one of this type."""
    heard: list[ServerEvent] = []
    async with NoaClient(server.url) as client:
        async for event in client.events(after):
            heard.append(event)
            if event.type == until_type:
                break
    return heard


@pytest.fixture
async def heard() -> list[ServerEvent]:
    """A busy day, from the second event on."""
    bird = birds(owned=True)
    async with manager_of(bird, max_loaded_models=2) as manager, serving(manager) as server:
        await manager.load_model(PARROT, warmup=True)
        await manager.load_model(OWL)
        await manager.switch_model(WREN)
        await manager.point_alias("prod", OWL)
        await manager.split_alias("prod", {WREN: 10})
        await manager.unsplit_alias("prod")
        await manager.remove_alias("prod")
        await manager.chat("hoo")
        await manager.profile_model(WREN, test_count=1, max_tokens=4)
        bird.fail(ProviderResponseError("Nonsense.", provider="fake"))
        with pytest.raises(ProviderResponseError):
            await manager.chat("hoo")
        await manager.unload_model(WREN)
        async with asyncio.timeout(10):
            await manager.save_state()
            return await listened(server, "state-saved", 1)


async def test_no_event_has_data_that_the_table_lacks(heard: list[ServerEvent]) -> None:
    unknown = {(event.type, name) for event in heard for name in event.data.keys() - TABLE[event.type]}
    assert unknown == set()
    assert len({event.type for event in heard}) > 12


async def test_a_listener_that_comes_back_gets_all_that_came_meanwhile(heard: list[ServerEvent]) -> None:
    sequences = [event.sequence for event in heard]
    assert sequences == list(range(2, 2 + len(sequences)))
