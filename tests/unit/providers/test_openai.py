from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from noa.chat import ChatRequest, Message, TextPart, Usage
from noa.config import ProviderConfig, Secret
from noa.errors import (
    ContextLengthError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderResponseError,
    ValidationError,
)
from noa.models import ModelCapability
from noa.providers.openai import OpenAIProvider
from noa.providers.protocol import Dialect, RawRequest
from scripted_upstream import Answer, ScriptedUpstream, events_answer, json_answer

CHAT = "/v1/chat/completions"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
async def provider(server: ScriptedUpstream) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(ProviderConfig(type="openai", api_key=Secret("k3y"), base_url=f"{server.url}/v1"))
    yield provider
    await provider.aclose()


def raw(stream: bool = True, path: str = "/chat/completions", **fields: object) -> RawRequest:
    body = {"model": "gpt-4", "messages": [], "prompt": "Hi", "stream": stream, **fields}
    return RawRequest(
        dialect=Dialect.OPENAI, path=path, body=msgspec.json.encode(body), model_id="gpt-4", stream=stream
    )


async def read(provider: OpenAIProvider, request: RawRequest) -> tuple[bytes, Usage | None]:
    response = await provider.open(request)
    return b"".join([chunk async for chunk in response.chunks()]), response.usage


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
async def test_usage_is_asked_for_and_taken_out_again(
    server: ScriptedUpstream, provider: OpenAIProvider, path: str
) -> None:
    body, usage = await read(provider, raw(path=path, stream_options={"include_obfuscation": False}))
    assert server.requests[-1].json["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert b'"usage": {' not in body
    assert body.endswith(b"data: [DONE]\n\n")
    assert usage == Usage(prompt_tokens=9, completion_tokens=3)


async def test_whoever_asks_for_usage_sends_and_gets_everything_untouched(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    request = raw(stream_options={"include_usage": True}, unknown={"kept": [1.50]})
    body, usage = await read(provider, request)
    assert server.requests[-1].body == request.body
    assert b'"usage": {' in body
    assert usage is not None


async def test_after_a_stream_its_connection_is_used_again(server: ScriptedUpstream, provider: OpenAIProvider) -> None:
    end = events_answer({"choices": [{"finish_reason": "stop"}]}, "[DONE]", end_delay_s=0.05)
    server.script(CHAT, end, end)
    for _ in range(2):
        await read(provider, raw())
    assert server.accepted == 1


async def test_a_stream_ends_with_its_terminator_even_if_the_line_stays_open(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    server.script(CHAT, events_answer({"choices": [{"finish_reason": "stop"}]}, "[DONE]", hang=True))
    assert (await read(provider, raw()))[0].endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_ends_before_it_said_anything_is_no_answer(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    server.script(CHAT, events_answer("[DONE]"))
    with pytest.raises(ProviderResponseError, match="ended before it was finished"):
        await read(provider, raw())


async def test_a_whole_answer_goes_both_ways_untouched(server: ScriptedUpstream, provider: OpenAIProvider) -> None:
    odd = b'{"choices": [ ],  "own_field": 1.50, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
    server.script(CHAT, Answer(body=odd, content_type="application/json; charset=utf-8"))
    request = raw(stream=False, unknown=1)
    body, usage = await read(provider, request)
    assert server.requests[-1].body == request.body
    assert (body, usage) == (odd, Usage(prompt_tokens=3, completion_tokens=4))


async def test_a_service_that_does_not_know_the_usage_option_is_served_without_it(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    message = "Extra inputs are not permitted: stream_options"
    server.script(CHAT, json_answer({"error": {"message": message, "type": "invalid_request_error"}}, 422))
    for _ in range(2):
        body, _ = await read(provider, raw())
        assert b"friend." in body
    asked = ["stream_options" in request.json for request in server.requests]
    assert asked == [True, False, False]


async def test_a_refusal_of_the_callers_own_option_is_the_callers(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    server.script(CHAT, json_answer({"error": {"message": "stream_options is odd"}}, 400))
    with pytest.raises(ValidationError):
        await provider.open(raw(stream_options={"include_usage": True}))
    assert len(server.requests) == 1


async def test_a_refusal_keeps_the_upstreams_answer(server: ScriptedUpstream, provider: OpenAIProvider) -> None:
    refusal = {"error": {"message": "too long", "code": "context_length_exceeded", "own": 1}}
    server.script(CHAT, json_answer(refusal, 400))
    with pytest.raises(ContextLengthError) as caught:
        await provider.open(raw())
    upstream = caught.value.upstream
    assert upstream is not None
    assert (upstream.status, upstream.content_type) == (400, "application/json")
    assert msgspec.json.decode(upstream.body) == refusal


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body=b"<html>Welcome</html>", content_type="text/html"), "web page"),
        (Answer(body=b'{"choices": ['), "no JSON object"),
        (Answer(body=b"[]"), "no JSON object"),
        (Answer(body=b""), "no JSON object"),
        (json_answer({"error": {"message": "it broke", "code": 500}}), "it broke"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_nonsense_with_status_200_is_a_bad_gateway(
    server: ScriptedUpstream, provider: OpenAIProvider, answer: Answer, words: str, stream: bool
) -> None:
    server.script(CHAT, answer)
    with pytest.raises(ProviderResponseError, match=words) as caught:
        await provider.open(raw(stream))
    assert caught.value.provider == "openai"


async def test_a_service_that_does_not_stream_is_found_out(server: ScriptedUpstream, provider: OpenAIProvider) -> None:
    server.script(CHAT, json_answer({"choices": []}))
    with pytest.raises(ProviderResponseError, match="did not stream"):
        await provider.open(raw())


async def test_a_service_without_a_list_is_verified_by_being_reached(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    for path in ("/v1/models", "/v1/models/gpt-4o"):
        server.always(path, Answer(status=404, body=b"no such page", content_type="text/plain"))
    assert await provider.list_models() == []
    model = await provider.verify("gpt-4o")
    assert (model.id, model.context_window) == ("gpt-4o", 128_000)
    assert (await provider.health()).up


async def test_a_model_that_is_only_listed_is_verified(server: ScriptedUpstream, provider: OpenAIProvider) -> None:
    server.models = ("vendor/model:free",)
    server.always("/v1/models/vendor%2Fmodel%3Afree", Answer(status=404, body=b"{}"))
    assert (await provider.verify("vendor/model:free")).id == "vendor/model:free"
    with pytest.raises(ModelNotFoundError):
        await provider.verify("vendor/other")


async def test_the_default_model_stands_in_for_an_empty_list(server: ScriptedUpstream) -> None:
    server.models = ()
    config = ProviderConfig(type="openai", name="mine", base_url=f"{server.url}/v1", default_model="house-model")
    provider = OpenAIProvider(config)
    assert [offer.model.key for offer in await provider.list_models()] == ["mine:house-model"]
    await provider.aclose()


async def test_a_missing_key_says_which_to_set(server: ScriptedUpstream) -> None:
    server.key = "wanted"
    provider = OpenAIProvider(ProviderConfig(type="openai", base_url=f"{server.url}/v1"))
    with pytest.raises(ProviderAuthenticationError, match=r"none is set\. Set OPENAI_API_KEY\."):
        await provider.list_models()
    await provider.aclose()


async def test_what_the_service_says_of_a_model_goes_before_the_table(
    server: ScriptedUpstream, provider: OpenAIProvider
) -> None:
    rows = [{"id": "gpt-4", "context_length": 99, "owned_by": "me"}, {"id": "gpt-4-0613"}, {"id": "own-model"}]
    server.script("/v1/models", json_answer({"data": rows}))
    offers = {offer.model.id: offer.model for offer in await provider.list_models()}
    assert [model.context_window for model in offers.values()] == [99, 8192, None]
    assert offers["gpt-4"].metadata == {"ownedBy": "me"}
    assert ModelCapability.FUNCTION_CALLING not in offers["own-model"].capabilities


@pytest.mark.parametrize(("is_itself", "field"), [(True, "max_completion_tokens"), (False, "max_tokens")])
def test_only_openai_itself_has_renamed_the_limit(is_itself: bool, field: str) -> None:
    base_url = "https://api.openai.com/v1" if is_itself else "http://127.0.0.1:1/v1"
    provider = OpenAIProvider(ProviderConfig(type="openai", base_url=base_url))
    request = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Hi"),)),), max_tokens=5)
    assert msgspec.json.decode(provider._raw(request, "m", None, stream=False).body)[field] == 5


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"status": "ok"}', b""])
async def test_an_answer_that_is_no_list_of_models_is_no_sign_of_health(
    server: ScriptedUpstream, provider: OpenAIProvider, body: bytes
) -> None:
    assert (await provider.health()).up
    server.script("/v1/models", Answer(body=body))
    health = await provider.health()
    assert not health.up
    assert "list of models" in (health.error or "")
