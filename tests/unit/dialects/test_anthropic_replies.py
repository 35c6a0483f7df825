"""Messages, streams of them, errors and models, read and written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from noa.chat import (
    ChatEvent,
    ChatReply,
    ImagePart,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    ToolCallDelta,
    ToolCallPart,
    Usage,
    UsageReported,
)
from noa.dialects import anthropic
from noa.dialects.anthropic import StreamDecoder, StreamEncoder
from noa.dialects.sse import SseEvent, SseParser
from noa.errors import (
    AIProviderError,
    AuthenticationError,
    ContextLengthError,
    ModelNotLoadedError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ProviderAuthenticationError,
    ProviderResponseError,
    ProviderTimeoutError,
    RateLimitError,
    UnsupportedError,
    ValidationError,
)

REPLY = ChatReply(
    id="msg_1",
    model="m",
    created=0,
    parts=(
        ThinkingPart(text="hm", signature="sig"),
        ThinkingPart(text="", redacted="xyz"),
        TextPart(text="Hi"),
        ToolCallPart(id="c", name="f", arguments='{"a": 1.50}'),
    ),
    finish_reason="tool_calls",
    usage=Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3),
)


def test_a_reply_survives_the_wire() -> None:
    assert anthropic.decode_reply(anthropic.encode_reply(REPLY)) == REPLY


def test_a_written_reply_is_what_anthropic_clients_parse() -> None:
    parsed = AnthropicMessage.model_validate_json(anthropic.encode_reply(REPLY), strict=True)
    assert parsed.stop_reason == "tool_use"
    assert [block.type for block in parsed.content] == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert (parsed.usage.input_tokens, parsed.usage.output_tokens) == (4, 7)


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(prompt_tokens=5, completion_tokens=2)),
        (
            {
                "input_tokens": 5,
                "output_tokens": 2,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 0,
                "output_tokens_details": {"thinking_tokens": 1},
            },
            Usage(prompt_tokens=105, completion_tokens=2, cached_tokens=100, cache_write_tokens=0, reasoning_tokens=1),
        ),
        ({"output_tokens": 2, "cache_read_input_tokens": 9}, Usage(completion_tokens=2, cached_tokens=9)),
    ],
)
def test_cached_tokens_are_counted_exactly_once(wire: dict[str, int], usage: Usage) -> None:
    body = msgspec.json.encode({"id": "x", "model": "m", "content": [], "usage": wire})
    reply = anthropic.decode_reply(body)
    assert reply.usage == usage
    written = msgspec.json.decode(anthropic.encode_reply(reply))["usage"]
    assert written == {"input_tokens": None, **wire}


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "length"),
        (None, None),
    ],
)
def test_reasons_for_ending_are_mapped(wire: str | None, reason: str | None) -> None:
    body = msgspec.json.encode({"id": "x", "model": "m", "content": [], "stop_reason": wire})
    assert anthropic.decode_reply(body, created=3).finish_reason == reason


def test_unknown_usage_is_null_and_not_zero() -> None:
    body = anthropic.encode_reply(msgspec.structs.replace(REPLY, usage=None))
    assert msgspec.json.decode(body)["usage"] == {"input_tokens": None, "output_tokens": None}


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"content": "x"}', b'{"content": [{"text": "x"}]}'])
def test_nonsense_is_blamed_on_the_provider(body: bytes) -> None:
    with pytest.raises(ProviderResponseError, match="acme"):
        anthropic.decode_reply(body, provider="acme")


def test_what_cannot_be_translated_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="server_tool_use"):
        anthropic.decode_reply(b'{"content": [{"type": "server_tool_use"}]}')
    for part in (ImagePart(url="https://x.test"), ToolCallPart(id="c", name="f", arguments="[1]")):
        with pytest.raises(UnsupportedError):
            anthropic.encode_reply(msgspec.structs.replace(REPLY, parts=(part,)))


def event(kind: str, **fields: Any) -> SseEvent:
    return SseEvent(kind, msgspec.json.encode({"type": kind, **fields}).decode(), None)


def block(index: int, content_block: dict[str, Any], *deltas: dict[str, Any]) -> list[SseEvent]:
    return [
        event("content_block_start", index=index, content_block=content_block),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def read(*events: SseEvent) -> list[ChatEvent]:
    decoder = StreamDecoder(provider="acme", created=5)
    told = [canonical for wire in events for canonical in decoder.feed(wire)]
    decoder.close()
    return told


START = event(
    "message_start",
    message={
        "id": "msg_1",
        "model": "m",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1},
    },
)
END = event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})


def test_a_stream_is_read() -> None:
    assert read(
        START,
        event("ping"),
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "sig"},
        ),
        *block(1, {"type": "redacted_thinking", "data": "xyz"}),
        *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}, {"type": "citations_delta"}),
        *block(
            3,
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"x":'},
            {"type": "input_json_delta", "partial_json": "1}"},
        ),
        *block(4, {"type": "tool_use", "id": "b", "name": "g", "input": {}}),
        event("something_new", index=9),
        END,
        event("message_stop"),
        event("content_block_delta", index=2, delta={"type": "text_delta", "text": "after the end"}),
    ) == [
        ReplyStarted(id="msg_1", model="m", created=5),
        UsageReported(usage=Usage(prompt_tokens=8, completion_tokens=1, cached_tokens=3)),
        ThinkingDelta(text="hm"),
        ThinkingDelta(signature="sig"),
        ThinkingDelta(redacted="xyz"),
        TextDelta(text="Hi"),
        ToolCallDelta(index=0, id="a", name="f"),
        ToolCallDelta(index=0, arguments='{"x":'),
        ToolCallDelta(index=0, arguments="1}"),
        ToolCallDelta(index=1, id="b", name="g"),
        ToolCallDelta(index=1, arguments="{}"),
        ReplyFinished(finish_reason="tool_calls"),
        UsageReported(usage=Usage(prompt_tokens=8, completion_tokens=9, cached_tokens=3)),
    ]


@pytest.mark.parametrize(
    "events", [[], [START], [START, *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "H"})]]
)
def test_a_stream_that_stops_too_early_is_never_a_clean_end(events: list[SseEvent]) -> None:
    with pytest.raises(ProviderResponseError, match="acme ended before it was finished"):
        read(*events)


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (event("error", error={"type": "overloaded_error", "message": "m"}), ModelUnavailableError),
        (event("error", error={"type": "authentication_error", "message": "sk-secret"}), ProviderAuthenticationError),
        (event("error", error={"type": "api_error", "message": "m"}), ProviderResponseError),
        (event("content_block_start", index=0), ProviderResponseError),
        (SseEvent("message_start", "{", None), ProviderResponseError),
        (SseEvent(None, "[DONE]", None), ProviderResponseError),
    ],
)
def test_errors_inside_a_stream_are_raised_as_what_they_are(wire: SseEvent, error: type[Exception]) -> None:
    with pytest.raises(error, match="acme"):
        StreamDecoder(provider="acme").feed(wire)


def test_blocks_of_server_tools_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="server_tool_use"):
        StreamDecoder(provider="acme").feed(
            event("content_block_start", index=0, content_block={"type": "server_tool_use", "id": "s", "name": "n"})
        )


CONVERSATION: list[ChatEvent] = [
    ReplyStarted(id="x", model="m", created=5),
    ThinkingDelta(text="hm"),
    ThinkingDelta(signature="sig"),
    ThinkingDelta(redacted="xyz"),
    TextDelta(text="H"),
    TextDelta(text="i"),
    ToolCallDelta(index=0, id="a", name="f"),
    ToolCallDelta(index=0, arguments='{"x":1}'),
    ToolCallDelta(index=1, id="b", name="g"),
    ToolCallDelta(index=1, arguments="{}"),
    ReplyFinished(finish_reason="tool_calls"),
    UsageReported(usage=Usage(prompt_tokens=8, completion_tokens=9, cached_tokens=3)),
]


def written(events: list[ChatEvent]) -> list[SseEvent]:
    encoder = StreamEncoder()
    return SseParser().feed(b"".join(encoder.encode(told) for told in events) + encoder.close())


def test_a_written_stream_is_read_back() -> None:
    [started, *rest] = read(*written(CONVERSATION))
    assert started == CONVERSATION[0]
    assert rest[1:] == CONVERSATION[1:]


def test_a_written_stream_is_what_anthropic_clients_parse() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    events = written(CONVERSATION)
    for wire in events:
        assert adapter.validate_json(wire.data).type == wire.event
    kinds = [wire.event for wire in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    opened = [msgspec.json.decode(wire.data)["index"] for wire in events if wire.event == "content_block_start"]
    closed = [msgspec.json.decode(wire.data)["index"] for wire in events if wire.event == "content_block_stop"]
    assert opened == closed == [0, 1, 2, 3, 4]


def test_a_failed_stream_ends_in_an_error_and_without_message_stop() -> None:
    [wire] = SseParser().feed(StreamEncoder().error(ModelUnavailableError("later")))
    assert wire.event == "error"
    assert msgspec.json.decode(wire.data) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "later"},
    }


def test_mixed_up_calls_are_refused_and_not_garbled() -> None:
    encoder = StreamEncoder()
    encoder.encode(ToolCallDelta(index=0, id="a", name="f"))
    encoder.encode(ToolCallDelta(index=1, id="b", name="g"))
    with pytest.raises(ProviderResponseError, match="mixed up"):
        encoder.encode(ToolCallDelta(index=0, arguments="{}"))


@pytest.mark.parametrize(
    ("error", "status", "kind", "message"),
    [
        (ValidationError("x"), 400, "invalid_request_error", "x"),
        (ContextLengthError("x"), 400, "invalid_request_error", "prompt is too long: x"),
        (AuthenticationError("x"), 401, "authentication_error", "x"),
        (ProviderAuthenticationError("x"), 502, "api_error", "x"),
        (ModelNotLoadedError("x"), 404, "not_found_error", "x"),
        (PayloadTooLargeError("x"), 413, "request_too_large", "x"),
        (RateLimitError("x"), 429, "rate_limit_error", "x"),
        (ModelUnavailableError("x"), 503, "overloaded_error", "x"),
        (ProviderTimeoutError("x"), 504, "timeout_error", "x"),
        (AIProviderError("x"), 500, "api_error", "x"),
    ],
)
def test_errors_are_written_as_anthropic_clients_expect(
    error: AIProviderError, status: int, kind: str, message: str
) -> None:
    answered, body = anthropic.encode_error(error)
    assert answered == status
    assert msgspec.json.decode(body) == {"type": "error", "error": {"type": kind, "message": message}}


def test_models_are_read_page_by_page_and_written() -> None:
    body = msgspec.json.encode(
        {
            "data": [
                {
                    "type": "model",
                    "id": "claude-x",
                    "display_name": "Claude X",
                    "created_at": "2026-01-02T03:04:05Z",
                    "max_input_tokens": 200000,
                    "capabilities": {},
                }
            ],
            "has_more": True,
            "last_id": "claude-x",
        }
    )
    [row] = anthropic.decode_models(body)
    assert (row.id, row.display_name, row.max_input_tokens) == ("claude-x", "Claude X", 200000)
    assert row.created_at is not None
    assert row.created_at.year == 2026
    assert anthropic.next_page(body) == "claude-x"
    ours = anthropic.encode_models([anthropic.ModelRow(id="a:b")])
    [row] = anthropic.decode_models(ours)
    assert (row.id, row.display_name) == ("a:b", "a:b")
    assert anthropic.next_page(ours) is None
    assert msgspec.json.decode(anthropic.encode_models([]))["data"] == []
