"""Server-sent events, read and written."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.dialects import sse
from noa.dialects.sse import SseEvent, SseParser
from noa.errors import ProviderResponseError

STREAM = (
    "\ufeffdata: first\r\n: a comment\r\n\r\n"
    'event: message_start\r\ndata: {"a": "é😀"}\r\n\r\n'
    "data: one\rdata: two\r\r"
    "id: 7\ndata\n\n"
    "retry: 10\nevent: nothing\n\n"
    "data:  padded\nunknown: x\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [
    SseEvent(None, "first", None),
    SseEvent("message_start", '{"a": "é😀"}', None),
    SseEvent(None, "one\ntwo", None),
    SseEvent(None, "", "7"),
    SseEvent(None, " padded", "7"),
    SseEvent(None, "[DONE]", "7"),
]


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_every_line_ending_comment_and_multi_line_event_is_read() -> None:
    assert parse(STREAM) == EVENTS


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_are_split(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse(*(STREAM[start:end] for start, end in pairwise(edges))) == EVENTS


def test_single_bytes_give_the_same_events() -> None:
    assert parse(*(STREAM[index : index + 1] for index in range(len(STREAM)))) == EVENTS


def test_an_event_is_given_as_soon_as_its_blank_line_is_complete() -> None:
    parser = SseParser()
    assert parser.feed(b"data: x\r\n\r") == [SseEvent(None, "x", None)]
    assert parser.feed(b"\ndata: y\r\n\r\n") == [SseEvent(None, "y", None)]


@pytest.mark.parametrize("rest", [b"data: half", b"data: whole line\n"])
def test_an_event_cut_short_is_pending_and_never_given(rest: bytes) -> None:
    parser = SseParser()
    assert parser.feed(b"data: x\n\n" + rest) == [SseEvent(None, "x", None)]
    assert parser.pending
    assert parser.close()
    assert not parser.pending


def test_a_stream_that_ends_on_a_blank_line_leaves_nothing() -> None:
    parser = SseParser()
    parser.feed(b"data: x\n\n")
    assert not parser.close()


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 40, b"data: xxxxxxxxx\n" * 4, b"data: x\n\n" + b"y" * 40])
def test_an_event_that_grows_too_large_is_refused(chunk: bytes) -> None:
    with pytest.raises(ProviderResponseError, match="larger than 32 bytes"):
        SseParser(max_event_bytes=32).feed(chunk)


def test_many_small_events_are_not_too_large() -> None:
    assert len(SseParser(max_event_bytes=32).feed(b"data: xxxxxxxxx\n\n" * 100)) == 100


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ProviderResponseError, match="UTF-8"):
        parse(b"data: \xff\n\n")


@given(
    st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=["Cs"])), st.sampled_from([None, "e"])
)
def test_what_is_encoded_is_read_back(data: str, event: str | None) -> None:
    assert parse(sse.encode(data, event=event, id="3")) == [SseEvent(event, data, "3")]


@pytest.mark.parametrize("field", ["event", "id"])
def test_a_line_break_cannot_be_smuggled_into_a_field(field: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        sse.encode("x", **{field: "a\ndata: evil"})


def test_comments_are_no_events_even_with_line_breaks() -> None:
    assert parse(sse.comment("loading\r\ndata: 1"), sse.encode(b"x")) == [SseEvent(None, "x", None)]
