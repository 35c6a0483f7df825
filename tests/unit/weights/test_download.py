"""A download goes on where it broke off, asks for no byte twice, and stores nothing that it should not be."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from noa.errors import ConfigurationError, ModelLoadError, StorageError, ValidationError
from noa.weights import fetch, model_name, size_of_model
from noa.weights.incoming import lasting
from scripted_hub import ScriptedHub, small_gguf

CONTENT = small_gguf(4096)
HALF = len(CONTENT) // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def held(hub: ScriptedHub) -> None:
    hub.files["/m.gguf"] = CONTENT


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


async def at_once(_seconds: float) -> None:
    """A pause that is over."""


async def test_a_connection_that_breaks_off_is_gone_on_with(folder: Path, hub: ScriptedHub) -> None:
    hub.breaks = [HALF, 100]
    path = await fetch(f"{hub.url}/m.gguf", folder, hub.progress, sleep=at_once)
    assert path.read_bytes() == CONTENT
    assert hub.ranges_asked == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]
    assert everything_in(folder) == ["m.gguf"]


async def test_pauses_grow_until_it_gets_no_further_and_the_next_fetch_goes_on(folder: Path, hub: ScriptedHub) -> None:
    pauses: list[float] = []

    async def until_gone(seconds: float) -> None:
        pauses.append(seconds)
        hub.refusal = (503, "")

    hub.breaks = [HALF]
    with pytest.raises(
        ModelLoadError, match=r"it answered 503; .* of the .* are kept, and the same again goes on"
    ) as e:
        await fetch(f"{hub.url}/m.gguf?token=canary", folder, hub.progress, sleep=until_gone)
    assert e.value.retryable
    assert pauses == [1, 2, 4, 8, 16]
    assert not list(folder.glob("*.gguf")), "what is not whole is no model"
    assert "canary" not in "".join(path.read_text("latin-1") for path in folder.rglob("*") if path.is_file())
    hub.refusal = None
    hub.asked.clear()
    assert (await fetch(f"{hub.url}/m.gguf?token=another", folder)).read_bytes() == CONTENT
    assert hub.ranges_asked == [f"bytes={HALF}-"]


async def cancelled_halfway(folder: Path, hub: ScriptedHub, address: str) -> list[str]:
    """What is said when a fetch is cancelled that has come to the middle."""
    arrived, told = asyncio.Event(), list[str]()

    def notice(done: int, _total: int | None) -> None:
        if done == HALF:
            arrived.set()

    hub.breaks = [HALF]
    fetching = asyncio.create_task(fetch(address, folder, notice, announce=told.append))
    await arrived.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    hub.release()
    hub.asked.clear()
    return told


async def test_what_was_cancelled_is_kept_and_it_says_so(folder: Path, hub: ScriptedHub) -> None:
    (said,) = await cancelled_halfway(folder, hub, f"{hub.url}/m.gguf")
    assert "of m.gguf are kept; the same again goes on from there" in said
    await fetch(f"{hub.url}/m.gguf", folder)
    assert hub.ranges_asked == [f"bytes={HALF}-"]


async def test_a_file_that_changed_meanwhile_is_begun_anew(folder: Path, hub: ScriptedHub) -> None:
    await cancelled_halfway(folder, hub, f"{hub.url}/m.gguf")
    hub.files["/m.gguf"] = other = small_gguf(4096, b"\1")
    assert (await fetch(f"{hub.url}/m.gguf", folder)).read_bytes() == other


@pytest.mark.parametrize(("etags", "ranges"), [(False, True), (True, False)])
async def test_a_server_that_cannot_go_on_is_asked_for_everything(
    folder: Path, hub: ScriptedHub, etags: bool, ranges: bool
) -> None:
    hub.etags, hub.ranges, hub.breaks = etags, ranges, [HALF]
    assert (await fetch(f"{hub.url}/m.gguf", folder, hub.progress, sleep=at_once)).read_bytes() == CONTENT


async def test_without_a_way_to_know_the_file_again_nothing_is_kept(folder: Path, hub: ScriptedHub) -> None:
    hub.etags = False
    assert await cancelled_halfway(folder, hub, f"{hub.url}/m.gguf") == []
    assert everything_in(folder) == []


async def test_a_checksum_that_fits_makes_it_resumable_and_one_that_does_not_refuses_it(
    folder: Path, hub: ScriptedHub
) -> None:
    hub.etags = False
    await cancelled_halfway(folder, hub, f"{hub.url}/m.gguf#sha256={SHA256.upper()}")
    await fetch(f"{hub.url}/m.gguf#sha256={SHA256}", folder)
    assert hub.ranges_asked == [f"bytes={HALF}-"]
    hub.files["/n.gguf"] = CONTENT
    with pytest.raises(ModelLoadError, match=r"n\.gguf does not have the SHA-256 it should"):
        await fetch(f"{hub.url}/n.gguf#sha256={'0' * 64}", folder)
    assert everything_in(folder) == ["m.gguf"]
    with pytest.raises(ConfigurationError, match=r"m\.gguf is in the model folder already and differs"):
        await fetch(f"{hub.url}/m.gguf#sha256={'0' * 64}", folder)
    with pytest.raises(ValidationError, match="64 hexadecimal digits"):
        await fetch(f"{hub.url}/m.gguf#sha256=abc", folder)


async def test_all_shards_of_a_model_come_and_appear_together(folder: Path, hub: ScriptedHub) -> None:
    names = [f"big-0000{index}-of-00003.gguf" for index in (1, 2, 3)]
    for name in names:
        hub.files[f"/{name}"] = CONTENT
    del hub.files[f"/{names[2]}"]
    with pytest.raises(ModelLoadError, match="answered 404"):
        await fetch(f"{hub.url}/{names[1]}", folder)
    assert not list(folder.rglob("*.gguf")), "shards of which some are missing are no model"
    hub.files[f"/{names[2]}"] = CONTENT
    hub.asked.clear()
    path = await fetch(f"{hub.url}/{names[1]}", folder)
    assert [asked.path for asked in hub.asked] == [f"/{names[2]}"]
    assert everything_in(folder) == ["big", *(f"big/{name}" for name in names)]
    assert (path.name, model_name(path.name), size_of_model(path)) == (names[0], "big", 3 * len(CONTENT))
    assert await fetch(f"{hub.url}/{names[0]}", folder) == path


async def test_no_room_is_told_before_anything_is_kept(
    folder: Path, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=f"need {len(CONTENT):,} bytes"):
        await fetch(f"{hub.url}/m.gguf", folder)
    assert not list(folder.rglob("*.gguf*"))


async def test_two_at_once_do_not_disturb_each_other(folder: Path, hub: ScriptedHub) -> None:
    folder.mkdir()
    with lasting(folder, "m"), pytest.raises(ModelLoadError, match="m is being fetched by another process"):
        await fetch(f"{hub.url}/m.gguf", folder)
    assert (await fetch(f"{hub.url}/m.gguf", folder)).read_bytes() == CONTENT


async def test_what_came_is_kept_when_the_disk_is_full_at_the_end(
    folder: Path, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="no room left"):
            await fetch(f"{hub.url}/m.gguf", folder)
    hub.asked.clear()
    assert (await fetch(f"{hub.url}/m.gguf", folder)).read_bytes() == CONTENT
    assert hub.asked == []
