"""What upstreams answer when they fail, and which error of ours that is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from noa.dialects import anthropic, openai
from noa.errors import (
    AIProviderError,
    ContextLengthError,
    ModelNotFoundError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ProviderAuthenticationError,
    ProviderResponseError,
    RateLimitError,
    UnsupportedError,
    ValidationError,
)


def error(**fields: Any) -> bytes:
    return msgspec.json.encode({"error": fields})


def decode(status: int, body: bytes, retry_after_s: float | None = None) -> AIProviderError:
    return openai.decode_error(status, body, provider="acme", retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("status", "body", "cls", "retryable"),
    [
        (400, error(message="bad stop", type="invalid_request_error", param="stop"), ValidationError, False),
        (401, error(message="no"), ProviderAuthenticationError, False),
        (403, error(message="no"), ProviderAuthenticationError, False),
        (400, error(message="API key not valid. Please pass a valid API key."), ProviderAuthenticationError, False),
        (402, error(message="pay"), RateLimitError, False),
        (404, error(message="The model x does not exist", code="model_not_found"), ModelNotFoundError, False),
        (400, error(message="no such model", code="model_not_found"), ModelNotFoundError, False),
        (404, b"<html>nginx</html>", ModelNotFoundError, False),
        (408, error(message="slow"), ProviderResponseError, True),
        (413, error(message="big", type="request_too_large"), PayloadTooLargeError, False),
        (418, error(message="teapot"), ProviderResponseError, False),
        (422, b'{"detail": [{"msg": "field required"}]}', ValidationError, False),
        (429, error(message="slow down", code="rate_limit_exceeded"), RateLimitError, True),
        (429, error(message="pay", code="insufficient_quota"), RateLimitError, False),
        (500, error(message="oops"), ProviderResponseError, True),
        (501, error(message="This server does not support embeddings"), UnsupportedError, False),
        (502, b"", ProviderResponseError, True),
        (503, error(message="Loading model", type="unavailable_error", code=503), ModelUnavailableError, True),
        (504, b"", ProviderResponseError, True),
        (529, error(message="Overloaded", type="overloaded_error"), ModelUnavailableError, True),
        (302, b"", ProviderResponseError, False),
    ],
)
@pytest.mark.parametrize("dialect", [openai, anthropic])
def test_each_status_is_one_error_of_ours(
    dialect: Any, status: int, body: bytes, cls: type[AIProviderError], retryable: bool
) -> None:
    raised = dialect.decode_error(status, body, provider="acme", retry_after_s=None)
    assert type(raised) is cls
    assert raised.retryable is retryable
    assert raised.provider == "acme"
    assert "acme" in raised.message
    assert raised.details["upstream_status"] == status


@pytest.mark.parametrize(
    ("body", "prompt", "window"),
    [
        (
            error(
                code=400,
                message="the request exceeds the available context size, try increasing it",
                type="exceed_context_size_error",
                n_prompt_tokens=5000,
                n_ctx=4096,
            ),
            5000,
            4096,
        ),
        (
            error(
                code="context_length_exceeded",
                message="This model's maximum context length is 8192 tokens. However, your messages resulted in "
                "9001 tokens.",
            ),
            9001,
            8192,
        ),
        (
            error(type="invalid_request_error", message="prompt is too long: 210000 tokens > 200000 maximum"),
            210000,
            200000,
        ),
    ],
)
def test_a_prompt_that_does_not_fit_is_told_with_both_numbers(body: bytes, prompt: int, window: int) -> None:
    raised = decode(400, body)
    assert isinstance(raised, ContextLengthError)
    assert raised.details["prompt_tokens"] == prompt
    assert raised.details["context_window"] == window
    assert str(prompt) in raised.message
    assert str(window) in raised.message


def test_a_prompt_that_does_not_fit_is_recognised_without_numbers() -> None:
    raised = decode(400, error(message="input length and `max_tokens` exceed context limit"))
    assert isinstance(raised, ContextLengthError)


def test_the_upstreams_facts_are_kept_for_programs() -> None:
    raised = decode(429, error(message="m", type="tokens", code="rate_limit_exceeded", param=None), retry_after_s=7.5)
    assert raised.retry_after_s == 7.5
    assert raised.details == {
        "upstream_status": 429,
        "upstream_type": "tokens",
        "upstream_code": "rate_limit_exceeded",
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_no_part_of_a_key_is_repeated(status: int) -> None:
    key = "sk-proj-abcdefghijklmnop"
    body = error(
        message=f"Incorrect API key provided: {key}. Header was Bearer 123abcdefghijklmnop", code=key, param=key
    )
    raised = decode(status, body)
    assert "abcdefghijklmnop" not in repr((raised.message, dict(raised.details)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><p>Bad gateway</p>",
        b"\xff\xfe",
        b"x" * 100_000,
        b"null",
        b"[]",
        b'{"error": {}}',
        b"[" * 9999,
    ],
)
@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_junk_becomes_a_sentence_of_bounded_length(status: int, body: bytes) -> None:
    raised = decode(status, body)
    assert len(raised.message) < 700
    assert "<" not in raised.message


@pytest.mark.parametrize(
    "body",
    [
        error(message="why"),
        b'{"error": "why"}',
        b'{"detail": "why"}',
        b'{"object": "error", "message": "why"}',
        b'[{"error": {"message": "why", "code": 400, "status": "INVALID_ARGUMENT"}}]',
        b'{"type": "error", "error": {"type": "invalid_request_error", "message": "why"}}',
        b'{"message": "why", "type": "invalid_request_error", "param": "validation_error", "code": "wrong_api_format"}',
        b'{"error": "Bad Request", "message": "why", "statusCode": 400}',
        b'{"success": false, "errors": [{"code": 7, "message": "why"}]}',
        b'{"status": 400, "title": "Bad Request", "detail": "why"}',
        b'{"error": {"error": {"message": "why"}}}',
        b"why",
    ],
)
def test_every_shape_of_error_is_read(body: bytes) -> None:
    assert decode(400, body).message == "acme refused the request: why"


WRONG_FIELD = [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "No", "input": True}]


@pytest.mark.parametrize(
    "body",
    [
        # Mistral, and FastAPI as vLLM has it.
        {"object": "error", "message": {"detail": WRONG_FIELD}, "type": "invalid_request_error", "param": None},
        {"detail": WRONG_FIELD},
    ],
)
def test_a_list_of_what_is_wrong_names_the_field(body: dict[str, Any]) -> None:
    raised = decode(422, msgspec.json.encode(body))
    assert raised.message == "acme refused the request: body.user: No"
    assert raised.details.get("upstream_type") in (None, "invalid_request_error")


def test_the_words_of_the_service_behind_an_aggregator_are_told() -> None:
    raised = decode(400, error(message="Provider returned error", code=400, metadata={"raw": "too odd"}))
    assert raised.message == "acme refused the request: Provider returned error: too odd"


def test_a_wait_that_stands_in_the_body_counts_unless_a_header_says_another() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    body = msgspec.json.encode([{"error": {"code": 429, "message": "quota", "details": [{"@type": "x"}, info]}}])
    assert decode(429, body).retry_after_s == 34.5
    assert decode(429, body, retry_after_s=7).retry_after_s == 7
