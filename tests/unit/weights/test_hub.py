"""Models of Hugging Face, from a scripted hub: what is chosen, that it is checked, who is let in."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import huggingface_hub.constants as hub_settings
import pytest

from noa.errors import ConfigurationError, ModelLoadError, StorageError, ValidationError
from noa.weights import fetch
from scripted_hub import COMMIT, ScriptedHub, small_gguf

CONTENT = small_gguf(4096)
TOKEN = "hf_canary"


@pytest.fixture(autouse=True)
def settings(hub: ScriptedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads the environment when it is imported, so what it read is changed instead."""
    hub.hold("org/repo", "M-Q4_K_M.gguf", CONTENT)
    hub.hold("org/repo", "M-Q8_0.gguf", small_gguf(8192))
    hub.hold("org/repo", "mmproj-F16.gguf", small_gguf(8))
    monkeypatch.setattr(hub_settings, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        hub_settings, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(hub_settings, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_settings, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(hub_settings, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(hub_settings, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


async def test_it_says_what_it_chose_and_fetches_that_alone(folder: Path, hub: ScriptedHub) -> None:
    told: list[str] = []
    path = await fetch("hf:org/repo", folder, announce=told.append)
    assert path == folder / "M-Q4_K_M.gguf"
    assert path.read_bytes() == CONTENT
    assert told == [f"Q4_K_M of org/repo: M-Q4_K_M.gguf, {len(CONTENT) / 1e6:.1f} MB."]
    assert [asked.path for asked in hub.asked] == [f"/org/repo/resolve/{COMMIT}/M-Q4_K_M.gguf"]
    assert await fetch("hf:org/repo:q4_k_m", folder) == path
    assert len(hub.asked) == 1


async def test_a_file_can_be_named(folder: Path) -> None:
    assert (await fetch("hf:org/repo/M-Q8_0.gguf", folder)).name == "M-Q8_0.gguf"


async def test_what_broke_off_is_gone_on_with_by_the_next_fetch(folder: Path, hub: ScriptedHub) -> None:
    half = len(CONTENT) // 2

    async def gone(_seconds: float) -> None:
        hub.refusal = (500, "")

    hub.breaks = [half]
    with pytest.raises(ModelLoadError, match="are kept, and the same again goes on from there"):
        await fetch("hf:org/repo", folder, hub.progress, sleep=gone)
    hub.refusal = None
    hub.asked.clear()
    assert (await fetch("hf:org/repo", folder)).read_bytes() == CONTENT
    assert hub.ranges_asked == [f"bytes={half}-"]


async def test_a_file_that_was_damaged_on_its_way_is_not_stored(folder: Path, hub: ScriptedHub) -> None:
    hub.files[f"/org/repo/resolve/{COMMIT}/M-Q4_K_M.gguf"] = CONTENT[:-1] + b"!"
    with pytest.raises(ModelLoadError, match=r"M-Q4_K_M\.gguf does not have the SHA-256 it should"):
        await fetch("hf:org/repo", folder)
    assert list(folder.iterdir()) == []


async def test_shards_come_together(folder: Path, hub: ScriptedHub) -> None:
    for index in (1, 2):
        hub.hold("org/big", f"Q4_K_M/B-Q4_K_M-0000{index}-of-00002.gguf", CONTENT)
    seen: list[tuple[int, int | None]] = []
    path = await fetch("hf:org/big", folder, lambda *now: seen.append(now))
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "B-Q4_K_M-00001-of-00002.gguf",
        "B-Q4_K_M-00002-of-00002.gguf",
    ]
    assert seen[-1] == (2 * len(CONTENT), 2 * len(CONTENT))


async def test_an_unknown_precision_lists_what_there_is(folder: Path, hub: ScriptedHub) -> None:
    with pytest.raises(ValidationError, match=r"org/repo has no Q3_K_M; it has Q4_K_M \(.* MB\), Q8_0 \(.* MB\)\."):
        await fetch("hf:org/repo:Q3_K_M", folder)
    assert hub.asked == []


async def test_no_room_is_told_before_a_byte_is_asked_for(
    folder: Path, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=f"need {len(CONTENT):,} bytes"):
        await fetch("hf:org/repo", folder)
    assert hub.asked == []


@pytest.mark.parametrize("refused", ["listing_refusal", "refusal"])
async def test_a_gated_repository_says_what_to_do(folder: Path, hub: ScriptedHub, refused: str) -> None:
    setattr(hub, refused, (403, "GatedRepo"))
    with pytest.raises(ConfigurationError) as caught:
        await fetch("hf:org/repo", folder)
    assert f"accept its licence at {hub.url}/org/repo, and set HF_TOKEN" in caught.value.message


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (401, "RepoNotFound", ModelLoadError, "There is no org/repo at .* or it is private: .* set HF_TOKEN"),
        (404, "RepoNotFound", ModelLoadError, "There is no org/repo at"),
        (403, "", ConfigurationError, "does not accept HF_TOKEN"),
        (503, "", ModelLoadError, "answered 503; try again later"),
    ],
)
async def test_a_repository_that_cannot_be_listed_is_told(
    folder: Path,
    hub: ScriptedHub,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    error: type[Exception],
    says: str,
) -> None:
    if "HF_TOKEN" in says and error is ConfigurationError:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.listing_refusal = (status, code)
    with pytest.raises(error, match=says):
        await fetch("hf:org/repo", folder)


async def test_a_hub_that_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_settings, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelLoadError, match=r"http://127\.0\.0\.1:1 could not be asked for org/repo: no connection"):
        await fetch("hf:org/repo", folder)


async def test_the_token_is_for_the_hub_and_not_for_where_it_sends_us(
    folder: Path, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with ScriptedHub() as elsewhere:
        elsewhere.files, hub.moved = hub.files, elsewhere.url
        await fetch("hf:org/repo", folder)
        assert {asked.authorization for asked in hub.listings + hub.asked} == {f"Bearer {TOKEN}"}
        assert [asked.authorization for asked in elsewhere.asked] == [None]


async def test_what_another_program_has_fetched_is_copied_if_it_is_the_same(
    folder: Path, hub: ScriptedHub, tmp_path: Path
) -> None:
    cached = tmp_path / "cache" / "models--org--repo" / "snapshots" / COMMIT
    cached.mkdir(parents=True)
    (cached / "M-Q4_K_M.gguf").write_bytes(CONTENT)
    (cached / "M-Q8_0.gguf").write_bytes(small_gguf(8192, b"\1"))
    assert (await fetch("hf:org/repo", folder)).read_bytes() == CONTENT
    assert hub.asked == []
    assert (await fetch("hf:org/repo:Q8_0", folder)).read_bytes() == small_gguf(8192)
    assert len(hub.asked) == 1


@pytest.mark.parametrize("source", ["hf:", "hf:repo", "hf:a/b/c", "hf:a/b:Q4/x", "hf:a/b/m.gguf:Q4_0", "hf:../b"])
async def test_a_source_that_makes_no_sense_is_refused(folder: Path, hub: ScriptedHub, source: str) -> None:
    with pytest.raises(ValidationError):
        await fetch(source, folder)
    assert hub.listings == []


async def test_without_the_extra_it_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigurationError, match=r"needs the extra “hub”: pip install 'noa\[hub\]'"):
        await fetch("hf:org/repo", folder)


async def test_a_token_is_seen_in_no_message_and_no_file(
    folder: Path, hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.refusal = (401, "")
    with pytest.raises(ConfigurationError) as caught:
        await fetch("hf:org/repo", folder)
    assert TOKEN not in repr(caught.value)
    assert not [path for path in await asyncio.to_thread(lambda: list(folder.rglob("*"))) if path.is_file()]
