"""What a wire can express, it keeps: canonical values written and read back are the same values."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from noa.chat import (
    AnyPart,
    ChatReply,
    ChatRequest,
    ImagePart,
    JsonOutput,
    Message,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from noa.dialects import anthropic, openai

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


def parts(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[AnyPart, ...]]:
    return st.tuples(*(st.lists(strategy, max_size=2) for strategy in strategies)).map(
        lambda groups: tuple(part for group in groups for part in group)
    )


def messages(thinking: st.SearchStrategy[ThinkingPart], *, errors: bool, names: bool) -> Any:
    """Turns in the one form that both wires have: a system message first, results of one turn together."""
    name = st.none() | words if names else st.none()
    results = st.builds(
        ToolResultPart,
        tool_call_id=words,
        text=st.text("abc", max_size=3),
        is_error=st.booleans() if errors else st.just(False),
    )
    user = st.builds(
        Message, role=st.just("user"), parts=st.lists(text_parts | images, min_size=1, max_size=3).map(tuple), name=name
    )
    said = st.tuples(st.lists(thinking, max_size=1), st.lists(text_parts, min_size=1, max_size=2), st.lists(calls))
    assistant = st.builds(
        Message,
        role=st.just("assistant"),
        parts=said.map(lambda groups: tuple(part for group in groups for part in group)),
        name=name,
    )
    answered = st.builds(Message, role=st.just("tool"), parts=st.lists(results, min_size=1, max_size=2).map(tuple))
    turns = st.lists(
        st.tuples(user, assistant) | st.tuples(user, assistant, answered, assistant), min_size=1, max_size=3
    )
    system = st.lists(text_parts, min_size=1, max_size=2).map(lambda given: Message(role="system", parts=tuple(given)))
    return st.tuples(st.lists(system, max_size=1), turns).map(
        lambda pair: (*pair[0], *(message for turn in pair[1] for message in turn))
    )


settings: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 10**6),
    "temperature": st.none() | st.floats(0, 2),
    "top_p": st.none() | st.floats(0, 1),
    "stop": st.lists(texts, max_size=2).map(tuple),
    "tool_choice": st.none() | st.sampled_from(["auto", "none", "required"]) | tool_names,
}
unsigned = st.builds(ThinkingPart, text=texts)

openai_requests = st.builds(
    ChatRequest,
    messages=messages(unsigned, errors=False, names=True),
    seed=st.none() | st.integers(-5, 2**40),
    tools=st.lists(tools, max_size=2).map(tuple),
    parallel_tool_calls=st.none() | st.booleans(),
    json_output=st.none()
    | st.just(JsonOutput())
    | st.builds(
        JsonOutput, name=words, description=st.none() | texts, schema=schemas, strict=st.none() | st.booleans()
    ),
    extra=st.dictionaries(words.map(lambda word: f"x_{word}"), schemas, max_size=2),
    extra_dialect=st.just("openai"),
    **settings,
)
anthropic_requests = st.builds(
    ChatRequest,
    messages=messages(signed, errors=True, names=False),
    tools=st.lists(tools, max_size=2).map(tuple),
    json_output=st.none() | st.builds(JsonOutput, schema=schemas),
    extra=st.dictionaries(words.map(lambda word: f"x_{word}"), schemas, max_size=2),
    extra_dialect=st.just("anthropic"),
    **settings,
)
usages = st.none() | st.builds(
    Usage,
    prompt_tokens=counts,
    completion_tokens=counts,
    reasoning_tokens=counts,
)


@given(openai_requests, st.booleans())
def test_openai_requests_keep_everything(request: ChatRequest, stream: bool) -> None:
    decoded = openai.decode_request(openai.encode_request(request, "m", stream=stream))
    assert decoded.request == msgspec.structs.replace(request, model="m")
    assert decoded.stream is stream
    assert decoded.include_usage is stream


@given(anthropic_requests, st.booleans())
def test_anthropic_requests_keep_everything(request: ChatRequest, stream: bool) -> None:
    decoded = anthropic.decode_request(anthropic.encode_request(request, "m", stream=stream))
    assert decoded.request == msgspec.structs.replace(request, model="m")
    assert decoded.stream is stream


replies: dict[str, st.SearchStrategy[Any]] = {
    "id": words,
    "model": words,
    "finish_reason": st.none() | st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
}


def reply_parts(thinking: st.SearchStrategy[ThinkingPart]) -> st.SearchStrategy[tuple[AnyPart, ...]]:
    groups = st.tuples(st.lists(thinking, max_size=1), st.lists(text_parts, max_size=1), st.lists(calls, max_size=2))
    return groups.map(lambda given: tuple(part for group in given for part in group))


@given(st.builds(ChatReply, created=st.integers(0, 2**32), parts=reply_parts(unsigned), usage=usages, **replies))
def test_openai_replies_keep_everything(reply: ChatReply) -> None:
    assert openai.decode_reply(openai.encode_reply(reply)) == reply


@given(
    st.builds(
        ChatReply,
        created=st.just(7),
        parts=reply_parts(signed),
        usage=usages.filter(lambda usage: usage is not None),
        **replies,
    )
)
def test_anthropic_replies_keep_everything(reply: ChatReply) -> None:
    assert anthropic.decode_reply(anthropic.encode_reply(reply), created=7) == reply


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_count_of_tokens_means_the_same_on_both_wires(fresh: int, read: int, wrote: int, out: int) -> None:
    usage = Usage(
        prompt_tokens=fresh + read + wrote, completion_tokens=out, cached_tokens=read, cache_write_tokens=wrote
    )
    reply = ChatReply(id="x", model="m", created=1, parts=(TextPart(text="a"),), usage=usage)
    over_anthropic = anthropic.decode_reply(anthropic.encode_reply(reply), created=1)
    assert openai.decode_reply(openai.encode_reply(over_anthropic)).usage == usage
