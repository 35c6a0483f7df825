"""Streams of chunks: read, written, and put together into a whole answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from noa.chat import (
    ChatEvent,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from noa.dialects.openai import StreamAssembler, StreamDecoder, StreamEncoder
from noa.dialects.sse import SseEvent, SseParser
from noa.errors import (
    ContextLengthError,
    ModelUnavailableError,
    ProviderAuthenticationError,
    ProviderResponseError,
    RateLimitError,
)

STARTED = ReplyStarted(id="x", model="m", created=5)
DONE = SseEvent(None, "[DONE]", None)


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **fields: Any) -> SseEvent:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return SseEvent(None, msgspec.json.encode({**head, "choices": choices, **fields}).decode(), None)


def read(*events: SseEvent) -> list[ChatEvent]:
    decoder = StreamDecoder(provider="acme")
    told = [canonical for event in events for canonical in decoder.feed(event)]
    decoder.close()
    return told


def call(index: int | None, **fields: Any) -> dict[str, Any]:
    numbered = {} if index is None else {"index": index}
    return {"tool_calls": [{**numbered, **fields}]}


def test_a_stream_is_read() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    assert read(
        chunk(prompt_filter_results=[], id="", model=""),
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk(call(0, id="c0", type="function", function={"name": "f", "arguments": ""})),
        chunk(call(1, id="c1", type="function", function={"name": "g", "arguments": "{}"})),
        chunk(call(0, function={"arguments": '{"a":1}'})),
        chunk({}, "tool_calls"),
        chunk(usage=usage),
        DONE,
        chunk({"content": "after the end"}),
    ) == [
        STARTED,
        ThinkingDelta(text="hm"),
        TextDelta(text="Hel"),
        TextDelta(text="lo"),
        ToolCallDelta(index=0, id="c0", name="f"),
        ToolCallDelta(index=1, id="c1", name="g", arguments="{}"),
        ToolCallDelta(index=0, arguments='{"a":1}'),
        ReplyFinished(finish_reason="tool_calls"),
        UsageReported(usage=Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1)),
    ]


def test_calls_without_numbers_are_told_apart_by_their_ids() -> None:
    events = read(
        chunk(call(None, id="a", function={"name": "f", "arguments": "{"})),
        chunk(call(None, function={"arguments": "}"})),
        chunk(call(None, id="b", function={"name": "g", "arguments": "{}"})),
        chunk({}, "stop"),
    )
    assert [event.index for event in events if isinstance(event, ToolCallDelta)] == [0, 0, 1]


def test_a_refusal_is_text_that_ends_with_the_filter() -> None:
    assert read(chunk({"refusal": "No."}), chunk({}, "stop"))[1:] == [
        TextDelta(text="No."),
        ReplyFinished(finish_reason="content_filter"),
    ]


def test_a_reason_for_ending_or_the_terminator_finishes_the_stream() -> None:
    read(chunk({"content": "a"}), chunk({}, "length"))
    read(chunk({"content": "a"}), DONE)


@pytest.mark.parametrize("events", [[], [chunk({"content": "a"})], [chunk({"content": "a"}), chunk(usage={})]])
def test_a_stream_that_stops_too_early_is_never_a_clean_end(events: list[SseEvent]) -> None:
    with pytest.raises(ProviderResponseError, match="acme ended before it was finished"):
        read(*events)
    assembler = StreamAssembler(provider="acme")
    for event in events:
        assembler.feed(event)
    with pytest.raises(ProviderResponseError, match="acme ended before it was finished"):
        assembler.body()


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (
            SseEvent(None, '{"error": {"message": "m", "code": 503, "type": "unavailable_error"}}', None),
            ModelUnavailableError,
        ),
        (SseEvent(None, '{"error": {"message": "m", "type": "rate_limit_error"}}', None), RateLimitError),
        (
            SseEvent(None, '{"error": {"message": "sk-secret", "code": "invalid_api_key"}}', None),
            ProviderAuthenticationError,
        ),
        (SseEvent(None, '{"error": {"message": "m", "type": "exceed_context_size_error"}}', None), ContextLengthError),
        (SseEvent(None, '{"error": "it broke"}', None), ProviderResponseError),
        (SseEvent("error", '{"message": "it broke"}', None), ProviderResponseError),
        (SseEvent(None, "{", None), ProviderResponseError),
        (SseEvent(None, "[1]", None), ProviderResponseError),
    ],
)
def test_errors_inside_a_stream_are_raised_as_what_they_are(event: SseEvent, error: type[Exception]) -> None:
    with pytest.raises(error, match="acme"):
        StreamDecoder(provider="acme").feed(event)
    with pytest.raises(error, match="acme"):
        StreamAssembler(provider="acme").feed(event)


CONVERSATION: list[ChatEvent] = [
    STARTED,
    ThinkingDelta(text="hm"),
    TextDelta(text="Hi"),
    ToolCallDelta(index=0, id="c", name="f"),
    ToolCallDelta(index=0, arguments='{"a":1}'),
    ToolCallDelta(index=1, id="d", name="g", arguments="{}"),
    ReplyFinished(finish_reason="tool_calls"),
    UsageReported(usage=Usage(prompt_tokens=3, completion_tokens=2)),
]


def test_a_written_stream_is_read_back() -> None:
    encoder = StreamEncoder(include_usage=True)
    wire = b"".join(encoder.encode(event) for event in CONVERSATION) + encoder.close()
    assert read(*SseParser().feed(wire)) == CONVERSATION


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_written_stream_is_what_openai_clients_parse(include_usage: bool) -> None:
    encoder = StreamEncoder(include_usage=include_usage)
    wire = b"".join(encoder.encode(event) for event in CONVERSATION) + encoder.close()
    *events, end = SseParser().feed(wire)
    assert end == DONE
    chunks = [ChatCompletionChunk.model_validate_json(event.data, strict=True) for event in events]
    assert {(parsed.id, parsed.created, parsed.model) for parsed in chunks} == {("x", 5, "m")}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [parsed.usage is not None for parsed in chunks].count(True) == int(include_usage)
    assert ("usage" in events[0].data) is include_usage
    assert (chunks[-1].choices == []) is include_usage


def test_usage_that_nobody_reported_is_not_made_up() -> None:
    assert StreamEncoder(include_usage=True).close() == b"data: [DONE]\n\n"


def test_a_failed_stream_ends_in_an_error_and_without_the_terminator() -> None:
    wire = StreamEncoder().error(RateLimitError("slow down"))
    [event] = SseParser().feed(wire)
    assert msgspec.json.decode(event.data)["error"]["message"] == "slow down"
    assert b"[DONE]" not in wire


def test_chunks_are_put_together_with_everything_that_came() -> None:
    assembler = StreamAssembler(provider="acme")
    logprob = {"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": []}
    other = {"index": 1, "delta": {"content": "Other"}, "finish_reason": "stop"}
    for event in (
        chunk({"role": "assistant", "content": None}, system_fingerprint="b1", prompt_progress={"total": 5}),
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning_content": "m"}),
        chunk(None, choices=[{"index": 0, "delta": {"content": "H"}, "logprobs": {"content": [logprob]}}]),
        chunk(None, choices=[{"index": 0, "delta": {"content": "i"}, "logprobs": {"content": [logprob]}}, other]),
        chunk({}, "length", timings={"predicted_ms": 1.5}),
        chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
        DONE,
        chunk({"content": "after the end"}),
    ):
        assembler.feed(event)
    body = msgspec.json.decode(assembler.body())
    assert body == {
        "id": "x",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "reasoning_content": "hm", "content": "Hi"},
                "logprobs": {"content": [logprob, logprob]},
                "finish_reason": "length",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": "Other"},
                "logprobs": None,
                "finish_reason": "stop",
            },
        ],
        "system_fingerprint": "b1",
        "timings": {"predicted_ms": 1.5},
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    ChatCompletion.model_validate(body, strict=True)


def test_parallel_calls_are_put_together_by_their_numbers() -> None:
    assembler = StreamAssembler(provider="acme")
    for event in (
        chunk({"role": "assistant", "content": ""}),
        chunk(call(1, id="b", type="function", function={"name": "g", "arguments": "{"})),
        chunk(call(0, id="a", type="function", function={"name": "f", "arguments": '{"x"'})),
        chunk(call(0, function={"arguments": ":1}"})),
        chunk(call(1, function={"arguments": "}"})),
        chunk({}, "tool_calls"),
    ):
        assembler.feed(event)
    body = assembler.body()
    message = msgspec.json.decode(body)["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    ChatCompletion.model_validate_json(body, strict=True)


def test_a_text_completion_is_put_together() -> None:
    assembler = StreamAssembler(provider="acme")
    for text, reason in (("Once", None), (" upon", None), ("", "length")):
        logprobs = {"tokens": [text], "token_logprobs": [-1.0]} if text else None
        choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}
        body = {"id": "x", "object": "text_completion", "created": 5, "model": "m", "choices": [choice]}
        assembler.feed(SseEvent(None, msgspec.json.encode(body).decode(), None))
    parsed = Completion.model_validate_json(assembler.body(), strict=True)
    assert parsed.object == "text_completion"
    assert parsed.choices[0].text == "Once upon"
    assert parsed.choices[0].finish_reason == "length"
    assert parsed.choices[0].logprobs is not None
    assert parsed.choices[0].logprobs.tokens == ["Once", " upon"]


def test_an_unfinished_choice_makes_the_answer_incomplete() -> None:
    assembler = StreamAssembler(provider="acme")
    assembler.feed(chunk({"content": "a"}, "stop"))
    assembler.feed(chunk(None, choices=[{"index": 1, "delta": {"content": "b"}}]))
    assert not assembler.finished
    with pytest.raises(ProviderResponseError):
        assembler.body()
