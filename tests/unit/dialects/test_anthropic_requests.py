"""Messages requests, read from callers and written for upstreams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import MessageParam, ToolParam
from pydantic import TypeAdapter

from noa.chat import (
    ChatRequest,
    ImagePart,
    JsonOutput,
    Message,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from noa.dialects import anthropic
from noa.errors import UnsupportedError, ValidationError

HI = Message(role="user", parts=(TextPart(text="Hi"),))


def request_with(**fields: Any) -> bytes:
    return msgspec.json.encode({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, **fields})


def with_content(content: Any, role: str = "user", **fields: Any) -> bytes:
    return msgspec.json.encode({"messages": [{"role": role, "content": content, **fields}]})


def write(request: ChatRequest) -> dict[str, Any]:
    wire: dict[str, Any] = msgspec.json.decode(anthropic.encode_request(request, "m", stream=False))
    return wire


def test_a_full_request_is_read() -> None:
    body = {
        "model": "claude:x",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}},
                    {"type": "tool_use", "id": "c2", "name": "look", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "one"}]},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "two", "is_error": True},
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"a": 1}}},
        "thinking": {"type": "adaptive"},
    }
    decoded = anthropic.decode_request(msgspec.json.encode(body))
    assert decoded.stream
    assert decoded.include_usage
    assert decoded.request == ChatRequest(
        model="claude:x",
        messages=(
            Message(role="system", parts=(TextPart(text="Be brief."),)),
            Message(
                role="user",
                parts=(
                    TextPart(text="What is this?"),
                    ImagePart(data="QUJD", media_type="image/png"),
                    ImagePart(url="https://x.test/a.png"),
                ),
            ),
            Message(
                role="assistant",
                parts=(
                    ThinkingPart(text="hm", signature="sig"),
                    ThinkingPart(text="", redacted="xyz"),
                    TextPart(text="Let me look."),
                    ToolCallPart(id="c1", name="look", arguments='{"a":1}'),
                    ToolCallPart(id="c2", name="look", arguments="{}"),
                ),
            ),
            Message(
                role="tool",
                parts=(
                    ToolResultPart(tool_call_id="c1", parts=(TextPart(text="one"),)),
                    ToolResultPart(tool_call_id="c2", parts=(TextPart(text="two"),), is_error=True),
                ),
            ),
            Message(role="user", parts=(TextPart(text="Go on."),)),
        ),
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=("END",),
        tools=(Tool(name="look", parameters={"type": "object"}),),
        tool_choice="required",
        parallel_tool_calls=False,
        json_output=JsonOutput(schema={"a": 1}),
        extra={"output_config": {"effort": "low"}, "thinking": {"type": "adaptive"}},
        extra_dialect="anthropic",
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{}", "messages is missing"),
        (with_content("x", role="tool"), r"messages\[0\].role must be one of user, assistant"),
        (with_content(None), r"messages\[0\].content is missing; it must be text or a list of blocks"),
        (with_content([3]), r"messages\[0\].content\[0\] must be an object"),
        (with_content([{"type": "image"}]), r"messages\[0\].content\[0\].source"),
        (with_content([{"type": "tool_use", "id": "c"}]), "cannot stand in this message"),
        (
            with_content([{"type": "tool_use", "id": "c", "name": "f", "input": 1}], role="assistant"),
            "input must be an object",
        ),
        (request_with(system=5), "system must be text or a list of blocks"),
        (request_with(stop_sequences="END"), "stop_sequences must be a list of texts"),
        (request_with(tools=[{"name": "f"}]), r"tools\[0\].input_schema is missing; it must be a JSON schema"),
        (request_with(tool_choice={"type": "maybe"}), "tool_choice.type must be one of auto, any, none, tool"),
        (request_with(max_tokens="9"), "max_tokens must be a whole number"),
    ],
)
def test_a_wrong_request_is_refused_with_its_path(body: bytes, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        anthropic.decode_request(body)
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (with_content([{"type": "document", "source": {}}]), "messages[0].content[0]"),
        (
            with_content([{"type": "image", "source": {"type": "file", "file_id": "f"}}]),
            "messages[0].content[0].source",
        ),
        (
            with_content([{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "search_result"}]}]),
            "content[0].content[0]",
        ),
        (request_with(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "tools[0]"),
        (request_with(tools=[{"name": "f", "input_schema": {}, "input_examples": [{}]}]), "tools[0].input_examples"),
        (request_with(tools=[{"name": "f", "input_schema": {}, "defer_loading": True}]), "tools[0].defer_loading"),
        (
            request_with(tools=[{"name": "f", "input_schema": {}, "allowed_callers": ["code_execution_20260120"]}]),
            "tools[0].allowed_callers",
        ),
        (request_with(tool_choice={"type": "tool", "name": "required"}), "tool_choice.name"),
    ],
)
def test_what_no_canonical_form_holds_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        anthropic.decode_request(body)
    assert named in caught.value.message


def test_an_upstream_request_is_written() -> None:
    request = ChatRequest(
        messages=(
            Message(role="system", parts=(TextPart(text="Be brief."),)),
            Message(role="user", parts=(TextPart(text="Hi"), ImagePart(data="QUJD", media_type="image/png"))),
            Message(
                role="assistant",
                parts=(
                    ThinkingPart(text="unsigned"),
                    ThinkingPart(text="hm", signature="sig"),
                    ToolCallPart(id="c", name="f", arguments='{"a": 1.50}'),
                    ToolCallPart(id="d", name="f", arguments=""),
                ),
            ),
            Message(
                role="tool", parts=(ToolResultPart(tool_call_id="c", parts=(TextPart(text="boom"),), is_error=True),)
            ),
            Message(role="tool", parts=(ToolResultPart(tool_call_id="d", parts=(TextPart(text="fine"),)),)),
            Message(role="user", parts=(TextPart(text="Go on."),)),
        ),
        stop=("a",),
        tools=(Tool(name="f", description="d", strict=True),),
        tool_choice="f",
        parallel_tool_calls=False,
        json_output=JsonOutput(name="label", schema={"type": "object"}),
        extra={"top_k": 3, "output_config": {"effort": "low"}},
    )
    raw = anthropic.encode_request(request, "m", stream=True)
    assert b'{"a": 1.50}' in raw
    wire = msgspec.json.decode(raw)
    assert wire == {
        "model": "m",
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Hi"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1.5}},
                    {"type": "tool_use", "id": "d", "name": "f", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": "boom", "is_error": True},
                    {"type": "tool_result", "tool_use_id": "d", "content": "fine"},
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        "max_tokens": 4096,
        "stream": True,
        "stop_sequences": ["a"],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "top_k": 3,
    }
    TypeAdapter(list[MessageParam]).validate_python(wire["messages"])
    TypeAdapter(list[ToolParam]).validate_python(wire["tools"])


def test_a_turn_of_results_alone_is_one_message() -> None:
    body = with_content([{"type": "tool_result", "tool_use_id": "c", "content": "x"}])
    assert anthropic.decode_request(body).request.messages == (
        Message(role="tool", parts=(ToolResultPart(tool_call_id="c", parts=(TextPart(text="x"),)),)),
    )


def test_a_plain_conversation_is_written_plainly() -> None:
    assert write(ChatRequest(messages=(HI,), max_tokens=3)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 3,
    }


def test_empty_blocks_and_messages_are_not_sent() -> None:
    empty = TextPart(text="")
    request = ChatRequest(
        messages=(
            HI,
            Message(role="assistant", parts=(ThinkingPart(text="unsigned"), empty)),
            Message(role="assistant", parts=(empty, TextPart(text="Yes"))),
        )
    )
    assert write(request)["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]


def test_a_system_message_in_the_middle_stays_in_its_place() -> None:
    request = ChatRequest(messages=(HI, Message(role="system", parts=(TextPart(text="Now in French."),)), HI))
    assert [message["role"] for message in write(request)["messages"]] == ["user", "system", "user"]


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest(messages=(HI,), seed=1),
        ChatRequest(messages=(HI,), json_output=JsonOutput()),
        ChatRequest(messages=(msgspec.structs.replace(HI, name="ada"),)),
        ChatRequest(messages=(Message(role="system", name="a", parts=()), HI)),
        ChatRequest(messages=(Message(role="user", parts=(ImagePart(url="https://x.test", detail="low"),)),)),
        ChatRequest(messages=(Message(role="assistant", parts=(ToolCallPart(id="c", name="f", arguments="{oops"),)),)),
        ChatRequest(messages=(HI,), extra={"logprobs": True}, extra_dialect="openai"),
        ChatRequest(messages=(HI,), extra={"n": 2}, extra_dialect="openai"),
    ],
)
def test_what_the_dialect_cannot_say_is_refused(request_: ChatRequest) -> None:
    with pytest.raises(UnsupportedError):
        write(request_)


@pytest.mark.parametrize(
    "message",
    [
        Message(role="assistant", parts=(ImagePart(url="https://x.test"),)),
        Message(role="user", parts=(ThinkingPart(text="x", signature="s"),)),
        Message(role="tool", parts=(TextPart(text="x"),)),
        Message(role="user", parts=(ImagePart(data="QUJD"),)),
    ],
)
def test_messages_that_make_no_sense_are_refused(message: Message) -> None:
    with pytest.raises(ValidationError):
        write(ChatRequest(messages=(message,)))


def test_openai_fields_that_change_nothing_are_left_behind() -> None:
    extra = {"user": "u", "n": 1, "frequency_penalty": 0.0, "logprobs": False, "logit_bias": None, "top_k": 4}
    request = ChatRequest(messages=(HI,), max_tokens=3, extra=extra, extra_dialect="openai")
    assert write(request) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 3,
        "top_k": 4,
    }


def test_the_format_is_read_where_it_stood_in_beta_too() -> None:
    output_format = {"type": "json_schema", "schema": {"a": 1}}
    request = anthropic.decode_request(request_with(output_format=output_format)).request
    assert request.json_output == JsonOutput(schema={"a": 1})
    assert request.extra == {}


def test_an_image_in_a_result_crosses() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    content = [{"type": "text", "text": "Seen:"}, image]
    body = with_content([{"type": "tool_result", "tool_use_id": "c", "content": content}])
    request = anthropic.decode_request(body).request
    assert request.messages[0].parts == (
        ToolResultPart(
            tool_call_id="c", parts=(TextPart(text="Seen:"), ImagePart(data="QUJD", media_type="image/png"))
        ),
    )
    assert write(request)["messages"][0]["content"][0]["content"] == content


def test_a_high_resolution_is_what_there_is_anyway() -> None:
    image = ImagePart(url="https://x.test/a.png", detail="high")
    wire = write(ChatRequest(messages=(Message(role="user", parts=(image,)),)))
    assert wire["messages"][0]["content"][0]["source"] == {"type": "url", "url": "https://x.test/a.png"}


@pytest.mark.parametrize(
    ("extra", "thinking", "effort"),
    [
        ({"reasoning_effort": "none"}, {"type": "disabled"}, None),
        ({"reasoning_effort": "minimal"}, {"type": "adaptive"}, "low"),
        ({"reasoning_effort": "max"}, {"type": "adaptive"}, "max"),
        ({"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 2048}}, None, "low"),
    ],
)
def test_an_effort_asks_for_thinking(
    extra: dict[str, Any], thinking: dict[str, Any] | None, effort: str | None
) -> None:
    wire = write(ChatRequest(messages=(HI,), extra=extra, extra_dialect="openai"))
    assert wire["thinking"] == (thinking or extra["thinking"])
    assert wire.get("output_config") == (effort and {"effort": effort})


def test_tokens_are_counted_for_the_prompt_alone() -> None:
    request = ChatRequest(messages=(HI,), max_tokens=3, tools=(Tool(name="f", parameters={"type": "object"}),))
    wire = msgspec.json.decode(anthropic.encode_count_request(request, "m"))
    assert wire == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    }
    assert anthropic.decode_count(anthropic.encode_count(12)) == 12
    assert anthropic.decode_request(anthropic.encode_count_request(request, "m")).request.messages == (HI,)
