"""An upstream's failures, for callers of either dialect: the SDK's exception, what it reads in it, and no secret."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from callers import CANARY, DIALECTS, MODELS, PATHS, House
from scripted_upstream import Answer, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

HI: list[Any] = [{"role": "user", "content": "Hi"}]
TOO_LONG = "prompt is too long: 300 tokens > 200 maximum"

#: The upstream's status, type and words → the caller's status, its type by dialect, and a part of the message.
FAILURES: dict[str, tuple[int, str, str, int, dict[str, str], str]] = {
    "a wrong request": (
        400,
        "invalid_request_error",
        "temperature is too hot",
        400,
        {"openai": "invalid_request_error", "anthropic": "invalid_request_error"},
        "temperature is too hot",
    ),
    "too long": (
        400,
        "invalid_request_error",
        TOO_LONG,
        400,
        {"openai": "invalid_request_error", "anthropic": "invalid_request_error"},
        "300 tokens",
    ),
    "no such model": (
        404,
        "not_found_error",
        "model: nope",
        404,
        {"openai": "not_found_error", "anthropic": "not_found_error"},
        "nope",
    ),
    "too large": (
        413,
        "request_too_large",
        "over 32 MB",
        413,
        {"openai": "invalid_request_error", "anthropic": "request_too_large"},
        "over 32 MB",
    ),
    "no credit": (
        429,
        "insufficient_quota",
        "You exceeded your quota",
        429,
        {"openai": "rate_limit_error", "anthropic": "rate_limit_error"},
        "quota",
    ),
    "a wrong key": (
        401,
        "authentication_error",
        f"Incorrect API key provided: {CANARY}",
        502,
        {"openai": "server_error", "anthropic": "api_error"},
        "refused its key",
    ),
    "a failure of its own": (
        500,
        "api_error",
        f"Internal error while handling Bearer {CANARY}",
        502,
        {"openai": "server_error", "anthropic": "api_error"},
        "failed with status 500",
    ),
}


async def ask(house: House, caller: str, upstream: str, stream: bool) -> Any:
    """The exception that the SDK raises."""
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
        await house.ask(caller, stream, model=MODELS[upstream], max_tokens=9, messages=HI)
    return caught.value


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("upstream", ["openai", "claude", "llama.cpp"])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_told_in_the_callers_dialect(
    house: House, name: str, caller: str, upstream: str, stream: bool
) -> None:
    their_status, kind, words, status, types, told = FAILURES[name]
    dialect = DIALECTS[upstream]
    body = {"type": "error", "error": {"message": words, "type": kind}, "request_id": "req_theirs"}
    scripted = json_answer(body, their_status, headers={"request-id": "req_theirs"})
    house.upstream.script(PATHS[dialect], scripted)
    error = await ask(house, caller, upstream, stream)
    assert error.status_code == status
    assert error.request_id == error.response.headers["x-request-id"] != "req_theirs"
    assert CANARY not in f"{error} {error.response.headers} {error.response.text}"
    if caller == dialect and 400 <= their_status < 500 and their_status != 401:
        assert error.response.json() == body, "its own words, since the caller reads them"
        return
    read = error.response.json()
    assert told in read["error"]["message"]
    assert read["error"]["type"] == types[caller]
    if caller == "anthropic":
        assert (read["type"], read["request_id"]) == ("error", error.request_id)
        if name == "too long":
            assert "prompt is too long" in read["error"]["message"], "by which its clients know that they must shorten"
    else:
        assert read["error"].keys() == {"message", "type", "param", "code"}
        if name == "too long":
            assert read["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("upstream", ["openai", "claude", "llama.cpp"])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_when_to_come_back_is_told_in_the_header_that_sdks_obey(house: House, caller: str, upstream: str) -> None:
    body = {"type": "error", "error": {"message": "slow down", "type": "rate_limit_error"}}
    dialect = DIALECTS[upstream]
    # Longer than Noa itself waits before it tries again.
    house.upstream.always(PATHS[dialect], json_answer(body, 429, headers={"retry-after-ms": "45500"}))
    try:
        error = await ask(house, caller, upstream, stream=False)
    finally:
        house.upstream._always.clear()
    assert isinstance(error, openai.RateLimitError | anthropic.RateLimitError)
    assert error.response.headers["retry-after"] == "46"
    assert "slow down" in str(error)


async def test_a_key_that_cannot_be_mended_is_not_tried_again(house: House) -> None:
    house.upstream.script(PATHS["openai"], json_answer({"error": {"message": "no"}}, 401))
    error = await ask(house, "openai", "openai", stream=False)
    assert error.response.headers["x-should-retry"] == "false"


async def test_a_key_inside_a_stream_is_taken_out(house: House) -> None:
    for upstream, dialect in DIALECTS.items():
        error = {"type": "error", "error": {"type": "api_error", "message": f"no route for {CANARY}"}}
        event = b"event: error\ndata: %s\n\n" % json.dumps(error).encode()
        for caller in ("openai", "anthropic"):
            house.upstream.script(PATHS[dialect], Answer(content_type="text/event-stream", chunks=(event,)))
            body = {"model": MODELS[upstream], "max_tokens": 9, "messages": HI, "stream": True}
            reply = await house.server.post(PATHS[caller], body)
            assert "no route" in reply.error["message"]
            assert CANARY.encode() not in reply.body


async def test_every_answer_names_the_request_in_its_own_dialect(house: House) -> None:
    for upstream in MODELS:
        completion = await house.openai.chat.completions.create(model=MODELS[upstream], max_tokens=9, messages=HI)
        assert (completion._request_id or "").startswith("req_")
        message = await house.anthropic.messages.create(model=MODELS[upstream], max_tokens=9, messages=HI)
        assert (message._request_id or "").startswith("req_")
    raw = await house.anthropic.messages.with_raw_response.create(
        model=MODELS["claude"], max_tokens=9, messages=HI, extra_headers={"x-request-id": "mine-7"}
    )
    assert raw.headers["request-id"] == raw.headers["x-request-id"] == "mine-7"
    assert raw.headers["x-upstream-request-id"] == "req-1"


# What is not inference.


async def test_tokens_are_counted_by_who_would_answer(house: House) -> None:
    for upstream in ("claude", "llama.cpp"):
        counted = await house.anthropic.messages.count_tokens(model=MODELS[upstream], messages=HI, system="Be brief.")
        assert counted.input_tokens == 9
        sent = house.upstream.requests[-1]
        assert sent.path == "/v1/messages/count_tokens"
        assert sent.json == {"model": MODELS[upstream].partition(":")[2], "messages": HI, "system": "Be brief."}


async def test_tokens_that_nobody_counts_are_not_guessed(house: House) -> None:
    with pytest.raises(anthropic.BadRequestError, match="Noa does not guess"):
        await house.anthropic.messages.count_tokens(model=MODELS["openai"], messages=HI)
    house.upstream.script("/v1/messages/count_tokens", json_answer({"error": {"message": "File Not Found"}}, 404))
    with pytest.raises(anthropic.BadRequestError, match="counts no tokens"):
        await house.anthropic.messages.count_tokens(model=MODELS["llama.cpp"], messages=HI)
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    asked: list[Any] = [{"role": "user", "content": [document]}]
    with pytest.raises(anthropic.BadRequestError, match="messages\\[0\\]"):
        await house.anthropic.messages.count_tokens(model=MODELS["llama.cpp"], messages=asked)


async def test_a_count_is_no_inference_in_the_figures(house: House) -> None:
    async def inferences() -> object:
        metrics = (await house.server.get(f"/api/v1/models/{MODELS['claude']}/metrics")).json["metrics"]
        return metrics and metrics["totalInferences"]

    await house.anthropic.messages.create(model=MODELS["claude"], max_tokens=9, messages=HI)
    before = await inferences()
    await house.anthropic.messages.count_tokens(model=MODELS["claude"], messages=HI)
    assert await inferences() == before


async def test_models_are_listed_in_the_callers_dialect(house: House) -> None:
    await house.openai.chat.completions.create(model=MODELS["openai"], messages=HI)
    theirs = [model async for model in house.anthropic.models.list()]
    ours = [model async for model in house.openai.models.list()]
    assert [model.id for model in theirs] == [model.id for model in ours]
    assert {MODELS["openai"], "current"} <= {model.id for model in theirs}
    one = await house.anthropic.models.retrieve(MODELS["openai"])
    assert (one.type, one.id, one.max_input_tokens) == ("model", MODELS["openai"], 8192)
    assert one.created_at.year >= 2026
    assert (await house.openai.models.retrieve(MODELS["openai"])).object == "model"
    with pytest.raises(anthropic.NotFoundError) as missing:
        await house.anthropic.models.retrieve("nope:x")
    assert missing.value.response.json()["type"] == "error"


async def test_models_come_by_the_page_where_pages_are_asked_for(house: House) -> None:
    everything = [model.id async for model in house.anthropic.models.list()]
    paged = [model.id async for model in house.anthropic.models.list(limit=2)]
    assert paged == everything
    page = await house.anthropic.models.list(limit=2)
    assert page.has_more
    before = await house.anthropic.models.list(before_id=everything[3], limit=2)
    assert [model.id for model in before.data] == everything[1:3]
    wrong = await house.server.get("/v1/models?limit=0", {"anthropic-version": "2023-06-01"})
    assert (wrong.status, wrong.json["type"]) == (400, "error")
