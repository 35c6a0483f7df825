from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.chat import Usage
from noa.errors import ModelUnavailableError, ProviderResponseError, RateLimitError
from noa.providers import stream_filter
from noa.providers.stream_filter import StreamFilter
from noa.providers.wire import ANTHROPIC, OPENAI


def sse(*events: object, end: str = "\n\n") -> bytes:
    return "".join(
        f"data: {event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)}{end}" for event in events
    ).encode()


def said(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], "usage": None}


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}
PROGRESS = {"choices": [{"index": 0, "delta": {"role": "assistant"}}], "prompt_progress": {"total": 9, "processed": 3}}


def run(events: StreamFilter, body: bytes, *cuts: int) -> bytes:
    """Everything that passes when ``body`` comes in pieces."""
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    out = b"".join(events.feed(body[start:end]) for start, end in pairwise(places))
    return out if events.ended else out + events.close()


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", "\n\r\n"])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_however_it_is_split_the_same_bytes_pass(end: str, cuts: list[int]) -> None:
    body = b": ping" + end.encode() + sse(ROLE, said("Grüße 😀"), STOP, USAGE, "[DONE]", end=end)
    events = StreamFilter(OPENAI, "openai")
    # A last CR may be half of a CRLF, so the end of the body is waited for, and told as one line end more.
    assert run(events, body, *cuts).removesuffix(b"\n" if end == "\r\r" else b"") == body
    assert (events.failure, events.usage) == (None, Usage(prompt_tokens=9, completion_tokens=2))


@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_what_noa_asked_for_is_taken_out_and_nothing_else(cuts: list[int]) -> None:
    body = sse(PROGRESS, PROGRESS, ROLE, said("a"), STOP, USAGE, "[DONE]")
    events = StreamFilter(OPENAI, "llama.cpp", drop_usage=True, drop_progress=True)
    assert run(events, body, *cuts) == sse(ROLE, said("a"), STOP, "[DONE]")
    assert events.usage == Usage(prompt_tokens=9, completion_tokens=2)


def test_whole_events_pass_in_the_upstreams_own_chunks() -> None:
    events = StreamFilter(OPENAI, "openai")
    chunk = sse(said("a"), said("b"))
    assert events.feed(chunk) == chunk
    assert events.feed(chunk[:20]) == b""
    assert events.feed(chunk[20:]) == chunk


def test_usage_beside_choices_is_not_the_extra_chunk() -> None:
    last = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    events = StreamFilter(OPENAI, "llama.cpp", drop_usage=True)
    assert run(events, sse(last, "[DONE]")) == sse(last, "[DONE]")
    assert events.usage == Usage(prompt_tokens=1)


@pytest.mark.parametrize(
    ("first", "begun"),
    [
        (ROLE, False),
        (PROGRESS, False),
        ({"choices": [], "prompt_filter_results": []}, False),
        (said("a"), True),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, True),
        ({"choices": [{"index": 0, "text": "a"}]}, True),
    ],
)
def test_an_answer_begins_with_its_first_content(first: object, begun: bool) -> None:
    events = StreamFilter(OPENAI, "openai")
    events.feed(sse(first))
    assert events.begun is begun


def test_a_stream_that_stops_is_not_finished() -> None:
    events = StreamFilter(OPENAI, "openai")
    assert run(events, sse(ROLE, said("a"))) == sse(ROLE, said("a"))
    assert isinstance(events.failure, ProviderResponseError)
    assert events.failure.provider == "openai"


def test_half_an_event_never_passes() -> None:
    events = StreamFilter(OPENAI, "openai")
    whole, half = sse(said("a")), sse(said("b"))[:-12]
    assert run(events, whole + half) == whole
    assert isinstance(events.failure, ProviderResponseError)


@pytest.mark.parametrize("last", [sse(STOP), sse(STOP) + b"data: [DONE]\n", sse(STOP) + b"data: [DONE]"])
def test_a_missing_terminator_or_blank_line_is_forgiven(last: bytes) -> None:
    events = StreamFilter(OPENAI, "openai")
    run(events, sse(said("a")) + last)
    assert events.failure is None


def test_an_error_inside_the_stream_is_raised_after_what_came_before_it() -> None:
    events = StreamFilter(OPENAI, "openai")
    error = {"error": {"type": "rate_limit_error", "message": "slow down"}}
    assert events.feed(sse(said("a"), error, said("b"))) == sse(said("a"))
    assert isinstance(events.failure, RateLimitError)
    assert events.failure.provider == "openai"


def test_the_word_error_in_an_answer_is_no_error() -> None:
    events = StreamFilter(OPENAI, "openai")
    body = sse(said('{"error": {"message": "x"}} [DONE] "prompt_progress":'), STOP, "[DONE]")
    assert run(events, body) == body
    assert events.failure is None


@pytest.mark.parametrize(
    "junk",
    [
        b'{"choices": [',
        b"[1, 2]",
        b'"text"',
        b'{"choices": 3}',
        b'{"choices": [{"delta": {"content": "\xff\xfe"}}]}',
        b"[" * 100_000,
        b'{"x":' * 100_000,
    ],
)
def test_an_event_that_makes_no_sense_is_a_failure(junk: bytes) -> None:
    events = StreamFilter(OPENAI, "openai")
    assert events.feed(sse(said("a")) + b"data: " + junk + b"\n\n") == sse(said("a"))
    assert isinstance(events.failure, ProviderResponseError)


def test_an_empty_event_is_no_failure() -> None:
    events = StreamFilter(OPENAI, "openai")
    assert events.feed(b"data:\n\n" + sse(said("a"))) == sse(said("a"))
    assert events.failure is None


def test_what_follows_the_end_is_dropped() -> None:
    events = StreamFilter(OPENAI, "openai")
    assert events.feed(sse(STOP, "[DONE]", said("again"), STOP)) == sse(STOP, "[DONE]")
    assert events.feed(sse(said("again"))) == b""


def test_an_event_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_filter, "MAX_EVENT_BYTES", 1000)
    events = StreamFilter(OPENAI, "openai")
    events.feed(b"data: " + b"x" * 2000)
    assert isinstance(events.failure, ProviderResponseError)
    assert "too large" in events.failure.message


def test_anthropic_counts_on_from_the_beginning_of_the_message() -> None:
    begin = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 1}
    body = sse(
        {"type": "message_start", "message": {"id": "m", "usage": begin}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    )
    events = StreamFilter(ANTHROPIC, "claude")
    assert run(events, body, 30, 150) == body
    assert events.usage == Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4)
    assert (events.begun, events.ended, events.failure) == (True, True, None)


def test_anthropics_overload_inside_a_stream_is_unavailability() -> None:
    events = StreamFilter(ANTHROPIC, "claude")
    events.feed(b"event: error\n" + sse({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    assert isinstance(events.failure, ModelUnavailableError)
