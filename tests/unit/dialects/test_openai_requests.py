"""Chat completion requests, read from callers and written for upstreams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

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
from noa.dialects import openai
from noa.errors import UnsupportedError, ValidationError


def request_with(**fields: Any) -> bytes:
    return msgspec.json.encode({"messages": [{"role": "user", "content": "Hi"}], **fields})


def with_content(content: Any, role: str = "user", **fields: Any) -> bytes:
    return msgspec.json.encode({"messages": [{"role": role, "content": content, **fields}]})


def read(body: bytes) -> ChatRequest:
    return openai.decode_request(body).request


def write(request: ChatRequest, **options: Any) -> dict[str, Any]:
    wire: dict[str, Any] = msgspec.json.decode(openai.encode_request(request, "m", stream=False, **options))
    return wire


def test_a_full_request_is_read() -> None:
    body = {
        "model": "prod",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "name": "ada",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "auto"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Look it up.",
                "refusal": None,
                "annotations": [],
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1.0}'}},
                    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        ],
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 1,
        "stop": "END",
        "seed": 3,
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True}},
        "top_k": 5,
    }
    decoded = openai.decode_request(msgspec.json.encode(body))
    assert decoded.stream
    assert decoded.include_usage
    assert decoded.request == ChatRequest(
        model="prod",
        messages=(
            Message(role="system", parts=(TextPart(text="Be brief."),)),
            Message(
                role="user",
                name="ada",
                parts=(
                    TextPart(text="What is this?"),
                    ImagePart(data="QUJD", media_type="image/png", detail="low"),
                    ImagePart(url="https://x.test/a.png"),
                ),
            ),
            Message(
                role="assistant",
                parts=(
                    ThinkingPart(text="Look it up."),
                    ToolCallPart(id="c1", name="look", arguments='{"a": 1.0}'),
                    ToolCallPart(id="c2", name="look", arguments="{}"),
                ),
            ),
            Message(
                role="tool",
                parts=(
                    ToolResultPart(tool_call_id="c1", parts=(TextPart(text="one"),)),
                    ToolResultPart(tool_call_id="c2", parts=(TextPart(text="two"),)),
                ),
            ),
        ),
        max_tokens=9,
        temperature=0.5,
        top_p=1,
        stop=("END",),
        seed=3,
        tools=(Tool(name="look", parameters={"type": "object"}, strict=True),),
        tool_choice="look",
        parallel_tool_calls=False,
        json_output=JsonOutput(name="n", schema={"a": 1}, strict=True),
        extra={"top_k": 5, "stream_options": {"include_obfuscation": False}},
        extra_dialect="openai",
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{nope", "not valid JSON"),
        (b"3", "must be a JSON object"),
        (b"{}", "messages is missing; it must be a list of messages"),
        (b'{"messages": []}', "messages must be a list of at least one message"),
        (b'{"messages": ["hi"]}', r"messages\[0\] must be an object"),
        (with_content("x", role="robot"), r"messages\[0\].role must be one of system, developer"),
        (with_content(7), r"messages\[0\].content must be text or a list of parts"),
        (with_content(None), r"messages\[0\].content is missing"),
        (with_content(None, role="assistant"), r"messages\[0\].content is missing"),
        (with_content([{"type": "text"}]), r"messages\[0\].content\[0\].text is missing"),
        (with_content([{"type": "image_url", "image_url": {"url": "data:nope"}}]), r"image_url.url must be an address"),
        (with_content([{"type": "image_url", "image_url": "https://x.test"}], role="system"), "only a user's message"),
        (with_content("x", role="tool"), r"messages\[0\].tool_call_id is missing"),
        (request_with(max_tokens=1.5), "max_tokens must be a whole number"),
        (request_with(max_tokens=True), "max_tokens must be a whole number"),
        (request_with(max_tokens=0), "max_tokens must be a whole number, 1 or more"),
        (request_with(temperature="hot"), "temperature must be a number"),
        (request_with(stop=[1]), r"stop\[0\] must be text"),
        (request_with(stream="yes"), "stream must be true or false"),
        (request_with(model=1), "model must be text"),
        (request_with(tools=[{"type": "function"}]), r"tools\[0\].function"),
        (request_with(tool_choice="perhaps"), "tool_choice must be one of auto, none, required"),
        (request_with(response_format={"type": "xml"}), "response_format.type must be one of"),
    ],
)
def test_a_wrong_request_is_refused_with_its_path(body: bytes, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        openai.decode_request(body)
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (with_content([{"type": "input_audio", "input_audio": {}}]), "messages[0].content[0]"),
        (with_content("x", role="assistant", audio={"id": "a"}), "messages[0].audio"),
        (with_content("x", role="assistant", function_call={"name": "f"}), "messages[0].function_call"),
        (request_with(tools=[{"type": "custom", "custom": {"name": "f"}}]), "tools[0]"),
        (request_with(tool_choice={"type": "custom", "custom": {"name": "f"}}), "tool_choice"),
        (request_with(tool_choice={"type": "function", "function": {"name": "auto"}}), "tool_choice.function.name"),
    ],
)
def test_what_no_canonical_form_holds_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        openai.decode_request(body)
    assert named in caught.value.message
    assert caught.value.details["param"] == named


def test_a_minimal_request_leaves_the_rest_open() -> None:
    decoded = openai.decode_request(request_with(stop=None, tools=None, max_tokens=None))
    assert not decoded.stream
    assert not decoded.include_usage
    assert decoded.request == ChatRequest(
        messages=(Message(role="user", parts=(TextPart(text="Hi"),)),), extra_dialect="openai"
    )


def test_json_object_is_json_without_a_schema() -> None:
    request = read(request_with(response_format={"type": "json_object"}))
    assert request.json_output == JsonOutput()
    assert write(request)["response_format"] == {"type": "json_object"}


def test_an_upstream_request_is_written() -> None:
    request = ChatRequest(
        messages=(
            Message(role="user", parts=(TextPart(text="Hi"), ImagePart(data="QUJD", media_type="image/png"))),
            Message(role="assistant", parts=(ToolCallPart(id="c", name="f", arguments='{"a":1}'),)),
            Message(
                role="tool",
                parts=(
                    ToolResultPart(tool_call_id="c", parts=(TextPart(text="boom"),), is_error=True),
                    ToolResultPart(tool_call_id="d", parts=(TextPart(text="fine"),)),
                ),
            ),
        ),
        max_tokens=5,
        stop=("a", "b"),
        tool_choice="f",
        extra={"top_k": 3, "temperature": 9, "stream_options": {"x": 1}},
        temperature=0.0,
    )
    assert write(request) == {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Hi"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "Error: boom"},
            {"role": "tool", "tool_call_id": "d", "content": "fine"},
        ],
        "max_tokens": 5,
        "temperature": 0.0,
        "stop": ["a", "b"],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "top_k": 3,
    }


def test_a_streamed_request_asks_for_usage_and_keeps_other_stream_options() -> None:
    request = ChatRequest(messages=(), extra={"stream_options": {"include_obfuscation": False}})
    wire = msgspec.json.decode(openai.encode_request(request, "m", stream=True))
    assert wire["stream"] is True
    assert wire["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_peculiarities_of_services_are_options() -> None:
    thinking = Message(role="assistant", parts=(ThinkingPart(text="hm", signature="s"), TextPart(text="Yes")))
    request = ChatRequest(messages=(thinking,), max_tokens=3)
    assert write(request)["messages"][0]["reasoning_content"] == "hm"
    openai_itself = write(request, max_tokens_field="max_completion_tokens", reasoning_field=None)
    assert openai_itself == {
        "model": "m",
        "messages": [{"role": "assistant", "content": "Yes"}],
        "max_completion_tokens": 3,
    }


def test_several_choices_are_refused_before_they_are_paid_for() -> None:
    with pytest.raises(UnsupportedError, match="n must be 1"):
        write(ChatRequest(messages=(), extra={"n": 2}))


@pytest.mark.parametrize(
    "message",
    [
        Message(role="assistant", parts=(ImagePart(url="https://x.test/a.png"),)),
        Message(role="user", parts=(ImagePart(data="QUJD"),)),
        Message(role="user", parts=(ToolCallPart(id="c", name="f", arguments=""),)),
        Message(role="tool", parts=(TextPart(text="x"),)),
        Message(role="system", parts=(ToolResultPart(tool_call_id="c", parts=(TextPart(text="x"),)),)),
    ],
)
def test_messages_that_cannot_be_said_are_refused(message: Message) -> None:
    with pytest.raises(ValidationError):
        write(ChatRequest(messages=(message,)))


def test_anthropic_fields_are_translated_or_refused() -> None:
    def crossing(**extra: Any) -> dict[str, Any]:
        return write(ChatRequest(messages=(), extra=extra, extra_dialect="anthropic"))

    assert crossing(
        metadata={"user_id": "u"},
        top_k=4,
        thinking={"type": "adaptive"},
        output_config={"effort": "low"},
        container=None,
    ) == {"model": "m", "messages": [], "top_k": 4, "reasoning_effort": "low"}
    refusals: tuple[dict[str, Any], ...] = (
        {"thinking": {"type": "between_tools"}},
        {"thinking": 3},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"mcp_servers": [{}]},
        {"output_config": {"task_budget": 3}},
    )
    for refused in refusals:
        with pytest.raises(UnsupportedError, match="has no counterpart"):
            crossing(**refused)
    with pytest.raises(UnsupportedError, match="budget_tokens must be a whole number"):
        crossing(thinking={"type": "enabled"})


@pytest.mark.parametrize(
    ("budget", "effort"), [(1, "low"), (2_048, "low"), (2_049, "medium"), (8_192, "medium"), (31_999, "high")]
)
def test_a_budget_for_thinking_is_an_effort(budget: int, effort: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    for extra, expected in (
        ({"thinking": thinking}, effort),
        ({"thinking": thinking, "output_config": {"effort": "max"}}, "max"),
        ({"output_config": {"effort": "max"}, "thinking": thinking}, "max"),
    ):
        wire = write(ChatRequest(messages=(), extra=extra, extra_dialect="anthropic"))
        assert wire["reasoning_effort"] == expected


def test_llama_cpp_takes_the_budget_itself() -> None:
    def crossing(thinking: dict[str, Any]) -> dict[str, Any]:
        request = ChatRequest(messages=(), extra={"thinking": thinking}, extra_dialect="anthropic")
        wire = write(request, is_llama_cpp=True)
        del wire["model"], wire["messages"]
        return wire

    assert crossing({"type": "adaptive"}) == {}
    assert crossing({"type": "disabled"}) == {"chat_template_kwargs": {"enable_thinking": False}}
    assert crossing({"type": "enabled", "budget_tokens": 9}) == {
        "chat_template_kwargs": {"enable_thinking": True},
        "thinking_budget_tokens": 9,
    }


def test_to_keep_all_thinking_changes_nothing() -> None:
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}]
    request = ChatRequest(messages=(), extra={"context_management": {"edits": edits}}, extra_dialect="anthropic")
    assert write(request) == {"model": "m", "messages": []}


def test_a_choice_among_some_tools_leaves_the_others_out() -> None:
    def tool(name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name}}

    allowed = {"mode": "required", "tools": [tool("b"), tool("c")]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    request = read(request_with(tools=[tool("a"), tool("b"), tool("c")], tool_choice=choice))
    assert (request.tool_choice, [each.name for each in request.tools]) == ("required", ["b", "c"])


def test_signed_reasoning_comes_back_as_it_went() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
    ]
    body = with_content("Yes", role="assistant", reasoning_content="hm", thinking_blocks=blocks)
    assert read(body).messages[0].parts == (
        ThinkingPart(text="hm", signature="sig"),
        ThinkingPart(text="", redacted="xyz"),
        TextPart(text="Yes"),
    )


def test_an_image_in_a_result_crosses_where_the_service_takes_it() -> None:
    content = [{"type": "text", "text": "Seen:"}, {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    request = read(with_content(content, role="tool", tool_call_id="c"))
    assert write(request, is_llama_cpp=True)["messages"][0]["content"] == content
    with pytest.raises(UnsupportedError, match="no images in the results of tools"):
        write(request)
