"""Streams that break, for every caller on every upstream: an error in the caller's dialect, never a short answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callers import DIALECTS, MODELS, PATHS, APIError, House
from said import Said, frames, streamed
from scripted_upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAID = Said(text="The answer is forty-two.")
HI: list[Any] = [{"role": "user", "content": "Hi"}]
#: Pieces of the stream that come before it breaks: its head, and part of the text.
HEAD = {"openai": 2, "anthropic": 4}
#: What belongs to the end: a reason and a terminator, in any part of which a break leaves the answer unfinished.
TAIL = {"openai": 3, "anthropic": 3}


def failing(dialect: str, kind: str = "overloaded_error") -> bytes:
    """An error event, as the upstream's dialect has it."""
    error = {"message": f"The model says {kind}.", "type": kind}
    if dialect == "anthropic":
        return b"event: error\ndata: %s\n\n" % json.dumps({"type": "error", "error": error}).encode()
    return b"data: %s\n\n" % json.dumps({"error": error}).encode()


def broken(dialect: str) -> dict[str, Answer]:
    """The ways to break. An error that comes at once is one that asking again does not mend."""
    whole = frames(SAID, dialect)
    begun, rest = whole[: HEAD[dialect]], whole[HEAD[dialect] :]
    return {
        "no terminator": streamed(whole[: -TAIL[dialect]]),
        "only a terminator": streamed(whole[-1:]),
        "an error inside": streamed([*begun, failing(dialect)]),
        "an error at once": streamed([failing(dialect, "invalid_request_error")]),
        "broken JSON": streamed([*begun, b'event: x\ndata: {"choices": [{"delta":\n\n', *rest]),
        "no JSON": streamed([*begun, b"data: <html>Bad gateway</html>\n\n"]),
        "no UTF-8": streamed([*begun, b'data: {"id": "\xff\xfe"}\n\n', *rest]),
        "cut within an event": streamed([*begun, rest[0][:-9]]),
        "cut within the line": streamed(begun, truncate=True),
        "reset": streamed(begun, reset=True),
    }


@pytest.mark.parametrize("how", broken("openai"))
@pytest.mark.parametrize("upstream", ["openai", "claude", "llama.cpp"])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_the_sdk_raises(house: House, caller: str, upstream: str, how: str) -> None:
    dialect = DIALECTS[upstream]
    scripted = broken(dialect)[how]
    for _ in range(2):
        house.upstream.script(PATHS[dialect], scripted)
    with pytest.raises(APIError):
        await house.ask(caller, True, model=MODELS[upstream], max_tokens=9, messages=HI)

    body = {"model": MODELS[upstream], "max_tokens": 9, "messages": HI, "stream": True}
    reply = await house.server.post(PATHS[caller], body)
    assert b"[DONE]" not in reply.body
    assert b"message_stop" not in reply.body
    if reply.status != 200:
        assert reply.error["message"]
        return
    last = reply.body.decode().strip().split("\n\n")[-1]
    if caller == "anthropic":
        assert last.startswith("event: error\n")
    error = json.loads(last.partition("data: ")[2])["error"]
    assert error["message"]
    assert error["type"]


async def test_a_stream_that_anthropic_did_not_stop_is_not_finished(house: House) -> None:
    """Everything but ``message_stop``: its SDK would take that for a whole answer."""
    for caller in ("openai", "anthropic"):
        house.upstream.script(PATHS["anthropic"], streamed(frames(SAID, "anthropic")[:-1]))
        with pytest.raises(APIError):
            await house.ask(caller, True, model=MODELS["claude"], max_tokens=9, messages=HI)


@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_an_answer_whose_reason_came_is_whole_without_done(house: House, caller: str) -> None:
    """Some services leave ``[DONE]`` out; the reason for ending came, so nothing of the answer is missing."""
    house.upstream.script(PATHS["openai"], streamed(frames(SAID, "openai")[:-1]))
    heard = await house.ask(caller, True, model=MODELS["openai"], max_tokens=9, messages=HI)
    assert (heard.text, heard.finish) == (SAID.text, "stop")


async def test_an_error_right_after_the_head_is_still_a_status(house: House) -> None:
    """The status line waits for something of the answer itself, and Anthropic's head is none."""
    scripted = streamed([*frames(SAID, "anthropic")[:3], failing("anthropic", "not_found_error")])
    for path in PATHS.values():
        house.upstream.script(PATHS["anthropic"], scripted)
        body = {"model": MODELS["claude"], "max_tokens": 9, "messages": HI, "stream": True}
        reply = await house.server.post(path, body)
        assert reply.status == 404
        assert "not_found_error" in reply.error["message"]
