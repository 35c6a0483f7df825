"""What a llama.cpp engine refuses, told in our words. The engine's sentences are those of its server."""

from __future__ import annotations

import msgspec
import pytest

from noa.dialects import openai
from noa.errors import AIProviderError, ContextLengthError, UpstreamAnswer
from noa.providers.engine_refusal import explain


def refused(status: int, message: str, **fields: object) -> AIProviderError:
    body = msgspec.json.encode({"error": {"code": status, "message": message, "type": "server_error", **fields}})
    error = openai.decode_error(status, body, provider="llama.cpp")
    error.upstream = UpstreamAnswer(status=status, content_type="application/json", body=body)
    return explain(error, "llama.cpp:x")


@pytest.mark.parametrize(
    ("status", "message", "sentence", "param"),
    [
        (
            501,
            "This server does not support embeddings. Start it with `--embeddings`",
            "llama.cpp:x does not embed; load an embedding model.",
            None,
        ),
        (
            500,
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            "llama.cpp:x takes no image input; send text, or load a model that does.",
            None,
        ),
        (
            400,
            "Field 'temperature': [json.exception.type_error.302] type must be number, but is string",
            "llama.cpp:x refused the request: “temperature”: type must be number, but is string.",
            "temperature",
        ),
        (
            400,
            "[json.exception.out_of_range.403] key 'prompt' not found",
            "llama.cpp:x cannot answer this: “prompt” is missing.",
            "prompt",
        ),
        (
            500,
            "Failed to parse tools: Expected 'tools' to be an array, got 5",
            "llama.cpp:x refused the request: Failed to parse tools: Expected 'tools' to be an array, got 5.",
            None,
        ),
        (
            500,
            "Unknown reasoning format: x",
            "llama.cpp:x refused the request: Unknown reasoning format: x.",
            None,
        ),
    ],
)
def test_a_mistake_of_the_caller_is_told_in_our_words(
    status: int, message: str, sentence: str, param: str | None
) -> None:
    error = refused(status, message)
    assert (error.message, error.upstream, error.provider) == (sentence, None, "llama.cpp")
    answered, body = openai.encode_error(error)
    assert answered == 400
    assert msgspec.json.decode(body)["error"] == {
        "message": sentence,
        "type": "invalid_request_error",
        "param": param,
        "code": "validation_error",
    }


def test_a_prompt_that_is_too_long_has_the_code_that_clients_look_for() -> None:
    error = refused(400, "too long", type="exceed_context_size_error", n_prompt_tokens=9031, n_ctx=4096)
    assert isinstance(error, ContextLengthError)
    assert error.upstream is None
    status, body = openai.encode_error(error)
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (400, "context_length_exceeded")


def test_the_engines_own_trouble_stays_a_bad_gateway_without_a_number_for_a_code() -> None:
    error = refused(500, "Compute error.")
    status, body = openai.encode_error(error)
    assert (status, msgspec.json.decode(body)["error"]["code"], error.upstream) == (502, "provider_error", None)
