"""The JSON snapshot: readable, replaced whole, and able to fill an empty database."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noa.errors import ConfigurationError, ConflictError, StorageError
from noa.models import LoadOptions, ModelCapability, PerformanceMetrics
from noa.state import (
    AliasPointed,
    AliasRecord,
    CapabilityProbed,
    EngineIdentity,
    KeptModel,
    ModelUsage,
    ProcessRecord,
    SavedState,
    SizeMeasured,
)
from noa.storage.snapshot import read_snapshot, write_snapshot
from noa.storage.sqlite import SqliteStateStore

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
STATE = SavedState(
    aliases=(
        AliasRecord(name="current", key="a:1", previous=None, reason="Tests sind schön", at=NOON),
        AliasRecord(name="prod", key=None, previous="a:1", reason="gone", at=NOON),
    ),
    models=(KeptModel(key="a:1", options=LoadOptions(pin=True, ttl_s=1.5), at=NOON),),
    usage=(ModelUsage(key="a:1", metrics=PerformanceMetrics(average_latency=2.5), access_count=3, last_accessed=NOON),),
    processes=(ProcessRecord(key="l:1", nonce="n", socket_path="/run/n", pid=7, started_at=1.25),),
    sizes=(
        SizeMeasured(
            engine=EngineIdentity(
                path="/m/a.gguf",
                file_bytes=5,
                modified_ns=1_700_000_000_123_456_789,
                build="engine 1",
                context_size=4096,
                slots=1,
                cache_type="f16",
                gpu_layers=None,
                embedding=False,
            ),
            size_bytes=9,
            by="allocation",
        ),
    ),
    probes=(
        CapabilityProbed(key="a:1", capability=ModelCapability.VISION, supported=False, at=NOON, detail="it saw red"),
    ),
)


def test_a_snapshot_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "data" / "state.json"
    write_snapshot(path, STATE)
    assert read_snapshot(path) == STATE


def test_a_snapshot_is_readable_by_people_and_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_snapshot(path, STATE)
    text = path.read_text(encoding="utf-8")
    assert '\n      "key": "a:1"' in text or '\n        "key": "a:1"' in text
    assert "Tests sind schön" in text
    assert json.loads(text)["version"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_snapshot_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_snapshot(path, STATE)
    write_snapshot(path, SavedState())
    assert read_snapshot(path) == SavedState()
    assert list(tmp_path.iterdir()) == [path]


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_snapshot(path, STATE)

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StorageError, match="the disk is full"):
        write_snapshot(path, SavedState())
    assert read_snapshot(path) == STATE
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_no_snapshot(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path / "state.json") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{\n  "version": 1,\n  "state": {,}\n}', "line 3, column 13"),
        (b"", "line 1"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[]", "no “version”"),
        (b'{"models": []}', "no “version”"),
        (b'{"version": 1, "state": {"models": [{"key": 7}]}}', r"\$\.state\.models\[0\]"),
    ],
)
def test_a_file_that_is_no_snapshot_is_refused_with_the_place(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason) as refused:
        read_snapshot(path)
    assert str(path) in refused.value.message


def test_a_newer_noas_snapshot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"version": 2, "state": {}}')
    with pytest.raises(ConfigurationError, match="version 2, and this Noa knows 1"):
        read_snapshot(path)


async def test_an_empty_database_is_filled_from_a_snapshot() -> None:
    store = await SqliteStateStore.open()
    await store.restore(STATE)
    assert await store.read() == STATE
    await store.aclose()


async def test_a_database_that_holds_a_state_is_never_overwritten_by_a_snapshot() -> None:
    store = await SqliteStateStore.open()
    await store.write(AliasPointed(name="current", key="b:1", previous=None, reason="newer"))
    before = await store.read()
    with pytest.raises(ConflictError):
        await store.restore(STATE)
    assert await store.read() == before
    await store.aclose()
