"""What clients try that were written for other servers: compressed bodies, HEAD, other health checks, other origins."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import aiohttp
import msgspec
import pytest

from managed import birds
from noa.config import Secret
from served import Answer, Served, manager_of, serving

CHAT = "/v1/chat/completions"
HELLO = {"model": "fake:parrot", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
PLAIN = msgspec.json.encode(HELLO)
APP = "https://app.example"


def raw_deflate(body: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(body) + squeezer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(PLAIN)),
        ("GZip", gzip.compress(PLAIN[:20]) + gzip.compress(PLAIN[20:])),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", raw_deflate(PLAIN)),
        ("identity", PLAIN),
    ],
    ids=["gzip", "gzip in two parts", "zlib", "raw deflate", "as it is"],
)
async def test_a_compressed_body_is_read(encoding: str, body: bytes) -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        answer = await server.post(CHAT, body, {"Content-Encoding": encoding})
        assert (answer.status, answer.json["model"]) == (200, "parrot")


async def test_a_compressed_body_is_read_by_the_management_api_too() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        body = gzip.compress(b'{"key": "fake:parrot"}')
        answer = await server.post("/api/v1/models/load", body, {"Content-Encoding": "gzip"})
        assert (answer.status, answer.json["key"]) == (200, "fake:parrot")


@pytest.mark.parametrize(
    ("encoding", "body", "status", "sentence"),
    [
        ("gzip", gzip.compress(b" " * 200_000), 413, "decompressed"),
        ("gzip", gzip.compress(b" " * 600) * 3, 413, "decompressed"),
        ("gzip", gzip.compress(PLAIN)[:-9], 400, "too early"),
        ("gzip", PLAIN, 400, "Content-Encoding"),
        ("deflate", b"\xff\xff\xff", 400, "Content-Encoding"),
        ("br", b"x", 415, "Content-Encoding is “br”"),
        ("gzip, gzip", b"x", 415, "gzip and deflate"),
    ],
    ids=["a bomb", "a bomb in parts", "cut off", "plain", "junk", "unknown", "twice"],
)
async def test_what_unfolds_to_too_much_or_to_nothing_is_refused(
    encoding: str, body: bytes, status: int, sentence: str
) -> None:
    async with manager_of(birds(), max_body_bytes=1024) as manager, serving(manager) as server:
        refused = await server.post(CHAT, body, {"Content-Encoding": encoding})
        assert refused.status == status, refused.body
        assert sentence in refused.error["message"]


async def test_a_list_may_be_asked_for_without_its_body() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        for path in ("/v1/models", "/v1/models/fake:parrot", "/metrics"):
            head = await server.ask("HEAD", path)
            assert (head.status, head.body) == (200, b"")
        assert (await server.ask("HEAD", CHAT)).status == 405


async def test_health_is_where_monitors_look_for_it_and_asks_for_no_key() -> None:
    async with manager_of(birds(), api_key=Secret("the-key")) as manager, serving(manager) as server:
        for path in ("/health", "/v1/health", "/api/v1/status/live"):
            answer = await server.get(path)
            assert (answer.status, answer.json) == (200, {"status": "alive"})


async def test_the_beginning_of_one_models_name_is_answered_with_the_whole() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        assert "did you mean fake:parrot?" in (await server.post(CHAT, {**HELLO, "model": "par"})).error["message"]
        assert "did you mean fake:wren?" in (await server.post(CHAT, {**HELLO, "model": "fake:w"})).error["message"]


async def preflight(server: Served, origin: str, **headers: str) -> Answer:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return await server.ask("OPTIONS", CHAT, headers={**asked, **headers})


def allowed(answer: Answer) -> dict[str, Any]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("access-control")}


async def test_a_page_of_another_origin_is_let_in_where_that_is_configured() -> None:
    managed = manager_of(birds(), allowed_origins=(APP,), api_key=Secret("the-key"))
    async with managed as manager, serving(manager) as server:
        asked = await preflight(server, APP)
        assert (asked.status, asked.body) == (204, b"")
        assert allowed(asked)["access-control-allow-origin"] == APP
        assert allowed(asked)["access-control-allow-headers"] == "authorization, content-type"
        answer = await server.post(CHAT, HELLO, {"Origin": APP, "Authorization": "Bearer the-key"})
        assert answer.status == 200
        assert allowed(answer)["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
        refused = await server.post(CHAT, HELLO, {"Origin": APP})
        assert refused.status == 401
        assert allowed(refused)["access-control-allow-origin"] == APP, "the page may read why"


async def test_no_other_origin_is() -> None:
    async with manager_of(birds(), allowed_origins=(APP,)) as manager, serving(manager) as server:
        for origin in ("https://evil.example", "http://app.example", f"{APP}:8443", "null"):
            assert allowed(await preflight(server, origin)) == {}
            refused = await server.post(CHAT, HELLO, {"Origin": origin})
            assert refused.status == 421
            assert allowed(refused) == {}
        assert (await preflight(server, APP, Host="evil.example")).status == 421
        simple = aiohttp.FormData({"model": "x"})
        async with server.session.post(server.url + CHAT, data=simple, headers={"Origin": APP}) as answer:
            assert answer.status == 400, "a form of an allowed origin is no JSON all the same"


async def test_by_default_there_are_no_other_origins() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        asked = await preflight(server, APP)
        assert asked.status == 405
        assert allowed(asked) == {}
        assert "vary" not in (await server.get("/v1/models")).headers
