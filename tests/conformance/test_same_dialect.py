"""Caller and upstream of one dialect: what either sends reaches the other byte for byte, odd as it may be.

Two things alone are Noa's: the model's name in the question, and the chunk of usage that Noa itself asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from callers import DIALECTS, MODELS, PATHS, House
from said import Said, answer, frames, streamed
from scripted_upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Caller's dialect = upstream's.
PAIRS = ("openai", "claude", "llama.cpp")
SAID = Said(
    text="Ålesund: 7 °C ☔ 🌧", thinking="Hm.", calls=[("c", "f", {"å": 1.50})], signature="s", finish="tool_calls"
)
HI = [{"role": "user", "content": "Hi"}]


def question(upstream: str, **more: Any) -> dict[str, Any]:
    return {"model": MODELS[upstream], "max_tokens": 9, "messages": HI, **more}


async def stream(house: House, upstream: str, scripted: Answer, **more: Any) -> bytes:
    """What a caller that asks for usage gets."""
    path = PATHS[DIALECTS[upstream]]
    house.upstream.script(path, scripted)
    body = question(upstream, stream=True, **more)
    if DIALECTS[upstream] == "openai":
        body.setdefault("stream_options", {"include_usage": True})
    reply = await house.server.post(path, body)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("text/event-stream")
    return reply.body


def odd_frames(dialect: str) -> list[bytes]:
    """A good stream with everything that a careless reader stumbles over."""
    good = frames(SAID, dialect)
    comments = [b": ping\n\n", b":\n\n"]
    if dialect == "anthropic":
        novel = b'event: brand_new\ndata: {"type": "brand_new", "n": 1.50}\n\n'
        unknown = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"novel_delta","x":null}}\n\n'
        )
        return [*comments, good[0], b"id: 7\nretry: 10\n" + good[1], novel, unknown, *good[2:]]
    empty = b'data: {"choices": [], "obfuscation": "xx"}\n\n'
    filtered = b'data:{"choices":[],"prompt_filter_results":[{"a":1.50}],"usage":null}\n\n'
    deep = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"\\u00e5","novel":{"a":[1e2]}},"q":null}]}\n\n'
    second = b'data: {"choices":[{"index":1,"delta":{"content":"another choice"}}]}\n\n'
    return [*comments, filtered, empty, good[0], deep, second, b"id: 7\n" + good[1], *good[2:]]


CUTS: dict[str, int | None] = {
    "as they come": None,
    "all at once": 10**6,
    "by 1": 1,
    "by 2": 2,
    "by 7": 7,
    "by 100": 100,
}


def cut(pieces: Sequence[bytes], size: int | None) -> list[bytes]:
    """The same bytes in other pieces, cut within lines, events, code points and CRLFs."""
    if size is None:
        return list(pieces)
    whole = b"".join(pieces)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("upstream", PAIRS)
async def test_a_stream_is_the_upstreams(house: House, upstream: str, line_end: bytes, size: int | None) -> None:
    pieces = [frame.replace(b"\n", line_end) for frame in odd_frames(DIALECTS[upstream])]
    assert await stream(house, upstream, streamed(cut(pieces, size))) == b"".join(pieces)


@pytest.mark.parametrize("size", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("upstream", ["openai", "llama.cpp"])
async def test_the_usage_that_noa_asked_for_is_taken_out_and_nothing_else(
    house: House, upstream: str, size: int | None
) -> None:
    pieces = odd_frames("openai")
    expected = b"".join([*pieces[:-2], pieces[-1]])
    got = await stream(house, upstream, streamed(cut(pieces, size)), stream_options={})
    assert got == expected
    sent = house.chats("openai")[-1].json
    assert sent["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("upstream", PAIRS)
async def test_a_whole_answer_is_the_upstreams(house: House, upstream: str) -> None:
    dialect = DIALECTS[upstream]
    body = answer(SAID, dialect, stream=False).body
    body = b'  {"novel": {"deep": [1.50, 1e2, "\\u00e5"]},\r\n' + body.lstrip()[1:] + b"\n"
    house.upstream.script(PATHS[dialect], Answer(body=body, content_type="application/json; charset=utf-8"))
    reply = await house.server.post(PATHS[dialect], question(upstream))
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("upstream", PAIRS)
async def test_a_question_is_the_callers_but_for_the_models_name(house: House, upstream: str) -> None:
    dialect = DIALECTS[upstream]
    name = MODELS[upstream]
    body = (
        b'{ "max_tokens" : 9, "novel": {"deep": [1.50, 1e2, "\\u00e5"]}, "model":"%s",'
        b'"messages":[{"role":"user","content":"\\ud83c\\udf27 ' % name.encode() + "å".encode() + b'"}] }'
    )
    await house.server.post(PATHS[dialect], body)
    sent = house.chats(dialect)[-1].body
    for kept in (
        b'"max_tokens":9',
        b'"novel":{"deep": [1.50, 1e2, "\\u00e5"]}',
        b'"messages":[{"role":"user","content":"\\ud83c\\udf27 ' + "å".encode() + b'"}]',
        b'"model":"%s"' % name.partition(":")[2].encode(),
    ):
        assert kept in sent


@pytest.mark.parametrize("upstream", PAIRS)
async def test_a_refusal_is_the_upstreams(house: House, upstream: str) -> None:
    dialect = DIALECTS[upstream]
    body = b'{"type": "error",  "error": {"message": "too hot", "type": "invalid_request_error", "novel": 1.50}}'
    for streams in (False, True):
        house.upstream.script(PATHS[dialect], Answer(status=400, body=body))
        reply = await house.server.post(PATHS[dialect], question(upstream, stream=streams))
        assert (reply.status, reply.body) == (400, body)


async def test_what_concerns_the_dialect_travels_and_no_key_does(house: House) -> None:
    headers = {
        "anthropic-beta": "context-1m-2025-08-07,novel",
        "anthropic-version": "2023-06-01",
        "x-api-key": "the callers",
        "cookie": "a=b",
    }
    await house.server.post("/v1/messages?beta=true", question("claude"), headers)
    sent = house.chats("anthropic")[-1].headers
    assert sent["anthropic-beta"] == headers["anthropic-beta"]
    assert sent["anthropic-version"] == headers["anthropic-version"]
    assert sent["x-api-key"] != headers["x-api-key"]
    assert "cookie" not in sent


async def test_a_model_of_another_name_is_only_renamed(house: House) -> None:
    await house.server.post("/v1/chat/completions", json.dumps({"messages": HI, "model": "openai/gpt-4"}).encode())
    assert house.chats("openai")[-1].json == {"messages": HI, "model": "gpt-4"}
