"""Chat completions, errors, models and embeddings, read and written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion

from noa.chat import (
    ChatReply,
    EmbeddingReply,
    EmbeddingRequest,
    ImagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from noa.dialects import openai
from noa.errors import (
    AIProviderError,
    AuthenticationError,
    ContextLengthError,
    ModelNotFoundError,
    ModelUnavailableError,
    ProviderAuthenticationError,
    ProviderResponseError,
    ProviderTimeoutError,
    RateLimitError,
    UnsupportedError,
    ValidationError,
)


def completion(message: dict[str, Any], **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": fields.pop("reason", "stop")}
    return msgspec.json.encode({"id": "x", "model": "m", "created": 5, "choices": [choice], **fields})


REPLY = ChatReply(
    id="x",
    model="m",
    created=5,
    parts=(
        ThinkingPart(text="hm"),
        TextPart(text="Hi"),
        ToolCallPart(id="c", name="f", arguments='{"a": 1.50}'),
    ),
    finish_reason="tool_calls",
    usage=Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3),
)


def test_a_reply_survives_the_wire() -> None:
    assert openai.decode_reply(openai.encode_reply(REPLY)) == REPLY


def test_a_written_reply_is_what_openai_clients_parse() -> None:
    parsed = ChatCompletion.model_validate_json(openai.encode_reply(REPLY), strict=True)
    assert parsed.choices[0].message.content == "Hi"
    assert parsed.choices[0].finish_reason == "tool_calls"
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 17
    assert parsed.usage.prompt_tokens_details is not None
    assert parsed.usage.prompt_tokens_details.cached_tokens == 4


@pytest.mark.parametrize(
    ("body", "parts", "reason"),
    [
        (completion({"content": ""}), (), "stop"),
        (completion({"content": None, "reasoning": "r"}, reason="length"), (ThinkingPart(text="r"),), "length"),
        (completion({"content": [{"type": "text", "text": "a"}]}, reason="eos"), (TextPart(text="a"),), "stop"),
        (completion({"content": None, "refusal": "No."}), (TextPart(text="No."),), "content_filter"),
        (completion({"content": "a"}, reason="who knows"), (TextPart(text="a"),), None),
        (
            completion({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, reason="function_call"),
            (ToolCallPart(id="", name="f", arguments='{"a":1}'),),
            "tool_calls",
        ),
    ],
)
def test_the_variations_of_services_are_read(body: bytes, parts: tuple[Any, ...], reason: str | None) -> None:
    reply = openai.decode_reply(body)
    assert reply.parts == parts
    assert reply.finish_reason == reason
    assert reply.usage is None


def test_unknown_counts_stay_unknown() -> None:
    reply = openai.decode_reply(completion({"content": "a"}, usage={"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}))
    assert reply.usage == Usage(prompt_tokens=3, cached_tokens=2)
    assert msgspec.json.decode(openai.encode_reply(reply))["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": None,
        "total_tokens": None,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": 1}]}']
)
def test_nonsense_is_blamed_on_the_provider(body: bytes) -> None:
    with pytest.raises(ProviderResponseError, match="acme") as caught:
        openai.decode_reply(body, provider="acme")
    assert caught.value.provider == "acme"


def test_an_error_in_an_answer_of_success_is_raised_as_what_it_is() -> None:
    body = b'{"error": {"message": "slow down", "code": 429}}'
    with pytest.raises(RateLimitError, match="slow down"):
        openai.decode_reply(body, provider="acme")


def test_what_an_answer_cannot_hold_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        openai.encode_reply(msgspec.structs.replace(REPLY, parts=(ImagePart(url="https://x.test"),)))


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (ValidationError("x", details={"param": "stop"}), 400, "invalid_request_error", "validation_error"),
        (AuthenticationError("x"), 401, "authentication_error", "invalid_api_key"),
        (ProviderAuthenticationError("x"), 502, "server_error", "provider_authentication_error"),
        (RateLimitError("x"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (
            RateLimitError("x", details={"upstream_code": "insufficient_quota"}),
            429,
            "rate_limit_error",
            "insufficient_quota",
        ),
        (ModelNotFoundError("x"), 404, "not_found_error", "model_not_found"),
        (ContextLengthError("x"), 400, "invalid_request_error", "context_length_exceeded"),
        (ModelUnavailableError("x"), 503, "server_error", "model_unavailable"),
        (ProviderTimeoutError("x"), 504, "server_error", "connection_error"),
        (UnsupportedError("x", details={"upstream_code": "odd"}), 400, "invalid_request_error", "odd"),
        (AIProviderError("x"), 500, "server_error", "internal_error"),
    ],
)
def test_errors_are_written_as_openai_clients_expect(error: AIProviderError, status: int, kind: str, code: str) -> None:
    answered, body = openai.encode_error(error)
    assert answered == status
    assert msgspec.json.decode(body) == {
        "error": {"message": "x", "type": kind, "param": error.details.get("param"), "code": code}
    }


@pytest.mark.parametrize(
    ("row", "context"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"context_length": 8192, "name": "M"}, 8192),
        ({"context_window": 100, "max_completion_tokens": 10}, 100),
        ({"meta": {"n_ctx_train": 2048, "size": 5}}, 2048),
        ({"created": 1.5}, None),
    ],
)
def test_models_are_read_with_the_context_that_services_say(row: dict[str, Any], context: int | None) -> None:
    for document in ({"object": "list", "data": [{"id": "m", **row}]}, [{"id": "m", **row}]):
        [model] = openai.decode_models(msgspec.json.encode(document))
        assert (model.id, model.context) == ("m", context)


def test_models_are_written_as_openai_clients_parse_them() -> None:
    document = msgspec.json.decode(openai.encode_models([("openai:gpt-4", 7, "openai")]))
    assert document["object"] == "list"
    assert Model.model_validate(document["data"][0], strict=True).owned_by == "openai"


def test_a_list_of_models_that_is_none_is_blamed_on_the_provider() -> None:
    with pytest.raises(ProviderResponseError, match="no list of models"):
        openai.decode_models(b'{"detail": "hm"}', provider="acme")


def test_embedding_requests_are_read_and_written() -> None:
    request = openai.decode_embedding_request(b'{"input": "a", "model": "e", "encoding_format": "base64", "user": "u"}')
    assert request == EmbeddingRequest(inputs=("a",), model="e", extra={"encoding_format": "base64", "user": "u"})
    assert openai.decode_embedding_request(b'{"input": ["a", "b"], "dimensions": 3}').inputs == ("a", "b")
    assert msgspec.json.decode(openai.encode_embedding_request(request, "up")) == {
        "model": "up",
        "input": ["a"],
        "user": "u",
    }


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (b'{"input": []}', ValidationError, "at least one text"),
        (b"{}", ValidationError, "input is missing"),
        (b'{"input": [null]}', ValidationError, r"input\[0\] is missing"),
        (b'{"input": "a", "encoding_format": "hex"}', ValidationError, "one of float, base64"),
        (b'{"input": [1, 2]}', UnsupportedError, "token numbers"),
        (b'{"input": [[1], [2]]}', UnsupportedError, "token numbers"),
    ],
)
def test_wrong_embedding_requests_are_refused(body: bytes, error: type[AIProviderError], said: str) -> None:
    with pytest.raises(error, match=said):
        openai.decode_embedding_request(body)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_embeddings_survive_the_wire_in_the_order_of_their_inputs(encoding_format: str) -> None:
    reply = EmbeddingReply(model="e", vectors=((0.5, -1.0), (2.0, 0.25)), usage=Usage(prompt_tokens=3))
    body = openai.encode_embedding_reply(reply, encoding_format=encoding_format)
    if encoding_format == "float":
        CreateEmbeddingResponse.model_validate_json(body)
    document = msgspec.json.decode(body)
    document["data"].reverse()
    assert openai.decode_embedding_reply(msgspec.json.encode(document)) == reply


@pytest.mark.parametrize(
    "body", [b"{}", b'{"data": [{"embedding": "!"}]}', b'{"data": [{"embedding": "QUJD"}]}', b'{"data": [{}]}']
)
def test_broken_embeddings_are_blamed_on_the_provider(body: bytes) -> None:
    with pytest.raises(ProviderResponseError, match="acme"):
        openai.decode_embedding_reply(body, provider="acme")
