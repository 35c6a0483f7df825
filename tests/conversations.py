"""Conversations, answers and streams at random, in the forms that the wires have: what hypothesis draws from."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from noa.chat import (
    AnyPart,
    ChatEvent,
    ChatReply,
    ChatRequest,
    ImagePart,
    JsonOutput,
    Message,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    Tool,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    Usage,
    UsageReported,
)

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
words = st.text(alphabet="abcxyz_", min_size=1, max_size=6)
tool_names = words.map(lambda word: f"tool_{word}")
schemas = st.dictionaries(words, st.integers(0, 9) | st.text("ab", max_size=2), min_size=1, max_size=2)
counts = st.none() | st.integers(0, 10**6)
arguments = schemas.map(lambda value: msgspec.json.encode(value).decode())

text_parts = st.builds(TextPart, text=texts)
images = st.builds(ImagePart, url=words.map(lambda word: f"https://x.test/{word}")) | st.builds(
    ImagePart, data=st.just("QUJD"), media_type=st.sampled_from(["image/png", "image/jpeg"])
)
calls = st.builds(ToolCallPart, id=words, name=tool_names, arguments=arguments)
unsigned = st.builds(ThinkingPart, text=texts)
signed = st.builds(ThinkingPart, text=texts, signature=texts) | st.builds(
    ThinkingPart, text=st.just(""), redacted=texts
)
tools = st.builds(
    Tool,
    name=tool_names,
    description=st.none() | texts,
    parameters=schemas,
    strict=st.none() | st.booleans(),
)
schema_outputs = st.none() | st.builds(JsonOutput, schema=schemas)
named_outputs = (
    st.none()
    | st.just(JsonOutput())
    | st.builds(JsonOutput, name=words, description=st.none() | texts, schema=schemas, strict=st.none() | st.booleans())
)
strange_fields = st.dictionaries(words.map(lambda word: f"x_{word}"), schemas, max_size=2)


def _grouped(*strategies: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(*strategies).map(lambda groups: tuple(item for group in groups for item in group))


def messages(
    thinking: st.SearchStrategy[ThinkingPart], *, errors: bool = False, names: bool = False, pictures: bool = False
) -> st.SearchStrategy[tuple[Message, ...]]:
    """Turns in the one form that both wires have: a system message first, results of one turn together.

    ``errors``: calls may have failed. ``names``: speakers may have one. ``pictures``: results may hold images.
    """
    name = st.none() | words if names else st.none()
    results = st.builds(
        ToolResultPart,
        tool_call_id=words,
        parts=st.lists(text_parts | images if pictures else text_parts, max_size=2).map(tuple),
        is_error=st.booleans() if errors else st.just(False),
    )
    user = st.builds(
        Message, role=st.just("user"), parts=st.lists(text_parts | images, min_size=1, max_size=3).map(tuple), name=name
    )
    said = _grouped(
        st.lists(thinking, max_size=1), st.lists(text_parts, min_size=1, max_size=2), st.lists(calls, max_size=3)
    )
    assistant = st.builds(Message, role=st.just("assistant"), parts=said, name=name)
    answered = st.builds(Message, role=st.just("tool"), parts=st.lists(results, min_size=1, max_size=2).map(tuple))
    turns = st.lists(
        st.tuples(user, assistant) | st.tuples(user, assistant, answered, assistant), min_size=1, max_size=3
    )
    system = st.lists(text_parts, min_size=1, max_size=2).map(lambda given: Message(role="system", parts=tuple(given)))
    return st.tuples(st.lists(system, max_size=1), turns).map(
        lambda pair: (*pair[0], *(message for turn in pair[1] for message in turn))
    )


_settings: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 10**6),
    "temperature": st.none() | st.floats(0, 2),
    "top_p": st.none() | st.floats(0, 1),
    "stop": st.lists(texts, max_size=2).map(tuple),
    "tools": st.lists(tools, max_size=2).map(tuple),
    "tool_choice": st.none() | st.sampled_from(["auto", "none", "required"]) | tool_names,
}


def requests(conversation: st.SearchStrategy[tuple[Message, ...]], **more: Any) -> st.SearchStrategy[ChatRequest]:
    """Requests to continue such a conversation, with the settings that both wires have and ``more``."""
    return st.builds(ChatRequest, messages=conversation, **{**_settings, **more})


def replies(thinking: st.SearchStrategy[ThinkingPart], **more: Any) -> st.SearchStrategy[ChatReply]:
    """Whole answers, whose reason for ending agrees with what they hold."""
    parts = _grouped(st.lists(thinking, max_size=1), st.lists(text_parts, max_size=1), st.lists(calls, max_size=2))
    built = st.builds(
        ChatReply,
        id=words,
        model=words,
        parts=parts,
        finish_reason=st.sampled_from(["stop", "length", "content_filter"]),
        **{"created": st.integers(0, 2**32), **more},
    )
    return built.map(
        lambda reply: (
            msgspec.structs.replace(reply, finish_reason="tool_calls")
            if reply.tool_calls and reply.finish_reason == "stop"
            else reply
        )
    )


usages = st.builds(Usage, prompt_tokens=counts, completion_tokens=counts, reasoning_tokens=counts)


def streamed(part: AnyPart, number: int) -> list[ChatEvent]:
    """A part as it is streamed, in two pieces."""
    match part:
        case TextPart():
            return [TextDelta(text=piece) for piece in _halves(part.text)]
        case ThinkingPart():
            if part.redacted is not None:
                return [ThinkingDelta(redacted=part.redacted)]
            pieces: list[ChatEvent] = [ThinkingDelta(text=piece) for piece in _halves(part.text)]
            return pieces if part.signature is None else [*pieces, ThinkingDelta(signature=part.signature)]
        case ToolCallPart():
            first, *rest = _halves(part.arguments)
            return [
                ToolCallDelta(index=number, id=part.id, name=part.name),
                *(ToolCallDelta(index=number, arguments=piece) for piece in (first, *rest)),
            ]
        case _:
            raise AssertionError("no answer holds this")


def stream_of(reply: ChatReply) -> list[ChatEvent]:
    """The events that make up an answer."""
    events: list[ChatEvent] = [ReplyStarted(id=reply.id, model=reply.model, created=reply.created)]
    number = 0
    for part in reply.parts:
        events += streamed(part, number)
        number += isinstance(part, ToolCallPart)
    events.append(ReplyFinished(finish_reason=reply.finish_reason))
    return events if reply.usage is None else [*events, UsageReported(usage=reply.usage)]


def reply_of(events: list[ChatEvent]) -> ChatReply:
    """The answer that the events of a stream make up."""
    started = next(event for event in events if isinstance(event, ReplyStarted))
    ended = [event for event in events if isinstance(event, ReplyFinished)]
    counted = [event.usage for event in events if isinstance(event, UsageReported)]
    parts: list[AnyPart] = []
    open_part = False
    for event in events:
        match event:
            case TextDelta():
                continues = bool(parts) and isinstance(parts[-1], TextPart)
                _extend(parts, TextPart(text=event.text), continues)
                open_part = False
            case ThinkingDelta():
                open_part = _think(parts, event, open_part)
            case ToolCallDelta():
                call = ToolCallPart(id=event.id or "", name=event.name or "", arguments=event.arguments)
                _extend(parts, call, event.id is None)
                open_part = False
    return ChatReply(
        id=started.id,
        model=started.model,
        created=started.created,
        parts=tuple(parts),
        finish_reason=ended[-1].finish_reason if ended else None,
        usage=counted[-1] if counted else None,
    )


def _think(parts: list[AnyPart], event: ThinkingDelta, is_open: bool) -> bool:
    """Add reasoning, and tell whether more of the same block may follow."""
    if event.redacted is not None:
        parts.append(ThinkingPart(text="", redacted=event.redacted))
        return False
    if event.text:
        _extend(parts, ThinkingPart(text=event.text), is_open)
    if event.signature is not None:
        parts[-1] = msgspec.structs.replace(parts[-1], signature=event.signature)
    return event.signature is None


def _extend(parts: list[AnyPart], piece: TextPart | ThinkingPart | ToolCallPart, continues: bool) -> None:
    if not continues:
        parts.append(piece)
        return
    last = parts[-1]
    if isinstance(last, ToolCallPart) and isinstance(piece, ToolCallPart):
        parts[-1] = msgspec.structs.replace(last, arguments=last.arguments + piece.arguments)
        return
    assert isinstance(last, TextPart | ThinkingPart)
    assert isinstance(piece, TextPart | ThinkingPart)
    parts[-1] = msgspec.structs.replace(last, text=last.text + piece.text)


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece] or [text]
