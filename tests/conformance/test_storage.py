"""What every storage must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from noa.errors import ValidationError
from noa.models import LoadOptions, ModelCapability, PerformanceMetrics
from noa.state import (
    AliasPointed,
    CapabilityProbed,
    EngineIdentity,
    ModelDropped,
    ModelKept,
    ModelUsage,
    ProcessGone,
    ProcessIntended,
    ProcessRecord,
    ProcessStarted,
    ProfileRecord,
    RequestRecord,
    SizeMeasured,
)
from noa.storage.protocol import StateStore, UsageStore
from noa.storage.sqlite import SIZES_LIMIT, SqliteStateStore
from noa.storage.usage import SqliteUsageStore

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


class Clock:
    """A clock that moves a second each time it is read."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "noa" / "some.db" if request.param == "file" else None


@pytest.fixture
async def state(place: Path | None) -> AsyncIterator[StateStore]:
    store = await SqliteStateStore.open(place, clock=Clock())
    yield store
    await store.aclose()


@pytest.fixture
async def usage(place: Path | None) -> AsyncIterator[UsageStore]:
    store = await SqliteUsageStore.open(place, clock=lambda: NOON)
    yield store
    await store.aclose()


def pointed(name: str, key: str | None, previous: str | None = None) -> AliasPointed:
    return AliasPointed(name=name, key=key, previous=previous, reason="a test")


def served(number: int, key: str = "openai:gpt-4", at: datetime = NOON) -> RequestRecord:
    return RequestRecord(
        request_id=f"request-{number}",
        key=key,
        at=at + timedelta(microseconds=number),
        operation="chat",
        streamed=True,
        success=False,
        latency_ms=12.5,
        ttft_ms=3.25,
        prompt_tokens=7,
        error_code="CONNECTION_ERROR",
    )


async def test_a_new_state_is_empty(state: StateStore) -> None:
    saved = await state.read()
    assert (saved.aliases, saved.models, saved.usage, saved.processes) == ((), (), (), ())


async def test_an_alias_means_what_it_was_pointed_to_last(state: StateStore) -> None:
    await state.write(pointed("current", "a:1"), pointed("prod", "a:1"))
    await state.write(pointed("current", "a:2", previous="a:1"))
    aliases = {record.name: record.key for record in (await state.read()).aliases}
    assert aliases == {"current": "a:2", "prod": "a:1"}


async def test_an_alias_can_come_to_mean_nothing(state: StateStore) -> None:
    await state.write(pointed("current", "a:1"))
    await state.write(pointed("current", None, previous="a:1"))
    assert [(record.name, record.key) for record in (await state.read()).aliases] == [("current", None)]


async def test_the_history_of_an_alias_is_newest_first_and_dated(state: StateStore) -> None:
    await state.write(pointed("current", "a:1"), pointed("prod", "a:9"))
    await state.write(pointed("current", "a:2", previous="a:1"))
    history = await state.alias_history("current")
    assert [(record.key, record.previous, record.at) for record in history] == [
        ("a:2", "a:1", NOON + timedelta(seconds=2)),
        ("a:1", None, NOON + timedelta(seconds=1)),
    ]
    assert [record.key for record in await state.alias_history("current", limit=1)] == ["a:2"]
    assert await state.alias_history("unheard") == []


async def test_kept_models_come_back_oldest_first_with_their_latest_options(state: StateStore) -> None:
    options = LoadOptions(ttl_s=60.5, pin=True, context_size=4096)
    await state.write(ModelKept(key="a:1", options=LoadOptions()))
    await state.write(ModelKept(key="a:2", options=LoadOptions()))
    await state.write(ModelKept(key="a:1", options=options))
    models = (await state.read()).models
    assert [(model.key, model.options) for model in models] == [("a:1", options), ("a:2", LoadOptions())]
    assert models[0].at == NOON + timedelta(seconds=1)


async def test_a_dropped_model_does_not_come_back(state: StateStore) -> None:
    await state.write(ModelKept(key="a:1", options=LoadOptions()), ModelDropped(key="a:1"))
    assert (await state.read()).models == ()


async def test_usage_is_replaced_and_unknown_stays_unknown(state: StateStore) -> None:
    first = ModelUsage(key="a:1", metrics=PerformanceMetrics(), access_count=1, last_accessed=None)
    second = ModelUsage(
        key="a:1",
        metrics=PerformanceMetrics(average_latency=12.5, total_inferences=3, last_benchmarked=NOON),
        access_count=2,
        last_accessed=NOON,
    )
    await state.write(first)
    assert (await state.read()).usage == (first,)
    await state.write(second)
    assert (await state.read()).usage == (second,)


async def test_a_process_is_on_record_from_intent_to_end(state: StateStore) -> None:
    await state.write(ProcessIntended(key="l:1", generation=3, nonce="n1", socket_path="/run/n1"))
    intended = ProcessRecord(key="l:1", nonce="n1", socket_path="/run/n1", pid=None, started_at=None)
    assert (await state.read()).processes == (intended,)
    await state.write(ProcessStarted(nonce="n1", pid=42, started_at=17.25))
    started = ProcessRecord(key="l:1", nonce="n1", socket_path="/run/n1", pid=42, started_at=17.25)
    assert (await state.read()).processes == (started,)
    await state.write(ProcessGone(nonce="n1"))
    assert (await state.read()).processes == ()


def size_of(file: str, size_bytes: int, **changes: Any) -> SizeMeasured:
    facts: dict[str, Any] = {
        "path": file, "file_bytes": 5, "modified_ns": 1_700_000_000_123_456_789, "build": "engine 1",
        "context_size": 4096, "slots": 1, "cache_type": "f16", "gpu_layers": None, "embedding": False, **changes,
    }  # fmt: skip
    return SizeMeasured(engine=EngineIdentity(**facts), size_bytes=size_bytes, by="resident")


async def test_the_latest_size_of_each_engine_comes_back_latest_last(state: StateStore) -> None:
    first, other, again = size_of("a", 7), size_of("b", 8), size_of("a", 9)
    shaped = size_of("a", 20, context_size=8192, gpu_layers=3)
    await state.write(first, other)
    await state.write(shaped, again)
    assert (await state.read()).sizes == (other, shaped, again)


async def test_the_latest_probe_of_each_capability_comes_back(state: StateStore) -> None:
    tools, sight = (
        CapabilityProbed(key="a:1", capability=capability, supported=True, at=NOON, detail="seen", modified_ns=7)
        for capability in (ModelCapability.FUNCTION_CALLING, ModelCapability.VISION)
    )
    denied = msgspec.structs.replace(tools, supported=False, detail=None)
    other = msgspec.structs.replace(tools, key="b:1")
    await state.write(tools, sight, other)
    await state.write(denied)
    assert set((await state.read()).probes) == {denied, sight, other}


async def test_only_so_many_sizes_are_kept(state: StateStore) -> None:
    await state.write(*(size_of(f"m{number}", number) for number in range(SIZES_LIMIT + 5)))
    sizes = (await state.read()).sizes
    assert (len(sizes), sizes[0].size_bytes) == (SIZES_LIMIT, 5)


async def test_a_write_that_fails_in_the_middle_changes_nothing(state: StateStore) -> None:
    await state.write(pointed("prod", "a:1"))
    impossible = ProcessStarted(nonce="n1", pid=2**80, started_at=0.0)
    with pytest.raises(ValidationError):
        await state.write(pointed("prod", "a:2"), impossible)
    assert [record.key for record in (await state.read()).aliases] == ["a:1"]
    await state.write(pointed("prod", "a:3"))
    assert [record.key for record in await state.alias_history("prod")] == ["a:3", "a:1"]


async def test_requests_come_back_whole_and_newest_first(usage: UsageStore) -> None:
    records = [served(number) for number in range(5)]
    for record in records:
        usage.record(record)
    await usage.flush()
    assert await usage.requests() == records[::-1]
    assert await usage.requests(limit=2) == [records[4], records[3]]


async def test_requests_of_one_model_can_be_asked_for(usage: UsageStore) -> None:
    usage.record(served(1, key="a:1"))
    usage.record(served(2, key="a:2"))
    assert await usage.requests("a:1") == [served(1, key="a:1")]
    assert await usage.requests("a:3") == []


async def test_nothing_is_dropped_of_what_fits_the_queue(usage: UsageStore) -> None:
    for number in range(1_234):
        usage.record(served(number))
    assert len(await usage.requests(limit=5_000)) == 1_234
    assert usage.dropped == 0


async def test_profiles_of_a_model_come_back_newest_first(usage: UsageStore) -> None:
    def profile(day: int, key: str = "a:1") -> ProfileRecord:
        at = NOON + timedelta(days=day)
        return ProfileRecord(key=key, at=at, formula_version=1, metrics_json=b"{}", samples_json=b"[\xff]")

    for record in (profile(2), profile(1), profile(3, key="a:2")):
        await usage.add_profile(record)
    assert await usage.profiles("a:1") == [profile(2), profile(1)]
    assert await usage.profiles("a:1", limit=1) == [profile(2)]
