"""A caller's chat completion request, read into the canonical conversation."""

from __future__ import annotations

from typing import Any, Literal

from noa.chat import (
    AnyPart,
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
from noa.dialects.envelope import DecodedRequest
from noa.dialects.field import Field, read_body
from noa.errors import ValidationError

_CANONICAL = frozenset({
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "tools",
    "tool_choice", "parallel_tool_calls", "response_format", "stream", "stream_options",
})  # fmt: skip
_ROLES = ("system", "developer", "user", "assistant", "tool")
#: Members that say nothing a model reads: bookkeeping of clients that echo what they were sent, and cache hints.
_BOOKKEEPING = frozenset({"annotations", "cache_control", "id", "index"})
_SAID = frozenset(
    {"role", "content", "name", "tool_calls", "refusal", "reasoning_content", "reasoning", "thinking_blocks"}
)
_MODES: tuple[Literal["auto", "none", "required"], ...] = ("auto", "none", "required")


def decode_request(body: bytes) -> DecodedRequest:
    """Read a chat completion request.

    Raises ``ValidationError`` naming the field that is wrong, and ``UnsupportedError`` for content that no canonical
    conversation holds (audio, files). Unknown outermost fields go to ``extra``.
    """
    root = read_body(body)
    extra = {name: value for name, value in root.mapping().items() if name not in _CANONICAL}
    stream_options = dict(root.member("stream_options").optional_mapping() or {})
    include_usage = Field(stream_options.pop("include_usage", None), "stream_options.include_usage").optional_boolean()
    if stream_options:
        extra["stream_options"] = stream_options
    completion_tokens = root.member("max_completion_tokens").optional_integer(minimum=1)
    max_tokens = root.member("max_tokens").optional_integer(minimum=1)
    tools = _tools(root.member("tools"))
    tool_choice, tools = _tool_choice(root.member("tool_choice"), tools)
    request = ChatRequest(
        model=root.member("model").optional_text(),
        messages=_messages(root.member("messages")),
        max_tokens=completion_tokens if completion_tokens is not None else max_tokens,
        temperature=root.member("temperature").optional_number(),
        top_p=root.member("top_p").optional_number(),
        stop=_stop(root.member("stop")),
        seed=root.member("seed").optional_integer(),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=root.member("parallel_tool_calls").optional_boolean(),
        json_output=_json_output(root.member("response_format")),
        extra=extra,
        extra_dialect="openai",
    )
    return DecodedRequest(request, bool(root.member("stream").optional_boolean()), bool(include_usage))


def _messages(field: Field) -> tuple[Message, ...]:
    messages: list[Message] = []
    for item in field.items("a list of messages"):
        message = _message(item)
        if message.role == "tool" and messages and messages[-1].role == "tool":
            messages[-1] = Message(role="tool", parts=messages[-1].parts + message.parts)
        else:
            messages.append(message)
    if not messages:
        raise field.wrong("a list of at least one message")
    return tuple(messages)


def _message(field: Field) -> Message:
    field.mapping("an object with a role and content")
    role = field.member("role").choice(_ROLES)
    name = field.member("name").optional_text()
    if role == "tool":
        field.refuse_others(_BOOKKEEPING | {"role", "content", "tool_call_id", "name"})
        return Message(role="tool", parts=(_tool_result(field),))
    if role == "assistant":
        field.refuse_others(_BOOKKEEPING | _SAID)
        return Message(role="assistant", parts=_assistant_parts(field), name=name)
    field.refuse_others(_BOOKKEEPING | {"role", "content", "name"})
    parts = _content(field.member("content"), images=role == "user")
    return Message(role="user" if role == "user" else "system", parts=parts, name=name)


def _assistant_parts(field: Field) -> tuple[AnyPart, ...]:
    parts: list[AnyPart] = [*_reasoning(field)]
    content, refusal, calls = field.member("content"), field.member("refusal"), field.member("tool_calls")
    if content.given:
        parts.extend(_content(content, images=False))
    elif not (refusal.given or calls.given or parts):
        raise content.wrong("text or a list of parts")
    if refusal.given:
        parts.append(TextPart(text=refusal.text()))
    parts.extend(_tool_call(item) for item in (calls.items() if calls.given else ()))
    return tuple(parts)


def _reasoning(field: Field) -> tuple[ThinkingPart, ...]:
    """Earlier reasoning: signed blocks if a client brings them back, for then the plain text only repeats them."""
    blocks = field.member("thinking_blocks")
    if blocks.given and blocks.items():
        return tuple(_thinking_block(item) for item in blocks.items())
    text = field.member("reasoning_content").optional_text() or field.member("reasoning").optional_text()
    return (ThinkingPart(text=text),) if text else ()


def _thinking_block(field: Field) -> ThinkingPart:
    if field.member("type").choice(("thinking", "redacted_thinking")) == "redacted_thinking":
        return ThinkingPart(text="", redacted=field.member("data").text())
    return ThinkingPart(text=field.member("thinking").text(), signature=field.member("signature").optional_text())


def _content(field: Field, *, images: bool) -> tuple[TextPart | ImagePart, ...]:
    if isinstance(field.value, str):
        return (TextPart(text=field.value),) if field.value else ()
    return tuple(_part(item, images=images) for item in field.items("text or a list of parts"))


def _part(field: Field, *, images: bool) -> TextPart | ImagePart:
    field.mapping("an object with a type")
    kind = field.member("type").text("the kind of the part, such as text")
    if kind in ("text", "refusal"):
        field.refuse_others(_BOOKKEEPING | {"type", kind})
        return TextPart(text=field.member(kind).text())
    if kind == "image_url":
        if not images:
            raise ValidationError(
                f"{field.path} is an image, which only a user's message or the result of a tool may hold.",
                details={"param": field.path},
            )
        field.refuse_others(_BOOKKEEPING | {"type", kind})
        return _image(field.member("image_url"))
    raise field.untranslatable(f"a part of type {kind!r}")


def _image(field: Field) -> ImagePart:
    if isinstance(field.value, str):
        return _image_at(field, None)
    detail = field.member("detail").optional_text()
    return _image_at(field.member("url"), None if detail == "auto" else detail)


def _image_at(field: Field, detail: str | None) -> ImagePart:
    url = field.text("an address or a data URL")
    if not url.startswith("data:"):
        return ImagePart(url=url, detail=detail)
    head, comma, data = url[len("data:") :].partition(",")
    media_type, _, encoding = head.partition(";")
    if not (comma and media_type and encoding == "base64"):
        raise field.wrong("an address or a data URL of the form data:image/png;base64,…")
    return ImagePart(data=data, media_type=media_type, detail=detail)


def _tool_call(field: Field) -> ToolCallPart:
    kind = field.member("type").optional_text() or "function"
    if kind != "function":
        raise field.untranslatable(f"a tool call of type {kind!r}")
    function = field.member("function")
    return ToolCallPart(
        id=field.member("id").text(),
        name=function.member("name").text(),
        arguments=function.member("arguments").optional_text("JSON as text") or "",
    )


def _tool_result(field: Field) -> ToolResultPart:
    return ToolResultPart(
        tool_call_id=field.member("tool_call_id").text(), parts=_content(field.member("content"), images=True)
    )


def _stop(field: Field) -> tuple[str, ...]:
    if not field.given:
        return ()
    if isinstance(field.value, str):
        return (field.value,)
    return tuple(item.text() for item in field.items("text or a list of texts"))


def _tools(field: Field) -> tuple[Tool, ...]:
    return tuple(_tool(item) for item in (field.items("a list of tools") if field.given else ()))


def _tool(field: Field) -> Tool:
    kind = field.member("type").optional_text() or "function"
    if kind != "function":
        raise field.untranslatable(f"a tool of type {kind!r}")
    function = field.member("function")
    function.refuse_others({"name", "description", "parameters", "strict"})
    return Tool(
        name=function.member("name").text(),
        description=function.member("description").optional_text(),
        parameters=function.member("parameters").optional_mapping() or {},
        strict=function.member("strict").optional_boolean(),
    )


def _tool_choice(field: Field, tools: tuple[Tool, ...]) -> tuple[str | None, tuple[Tool, ...]]:
    """The choice, and the tools that are left by it: ``allowed_tools`` is a choice among some of them."""
    if not field.given:
        return None, tools
    if isinstance(field.value, str):
        return field.choice(_MODES), tools
    kind = field.member("type").text("function")
    if kind == "allowed_tools":
        allowed = field.member("allowed_tools")
        names = {item.member("function").member("name").text() for item in allowed.member("tools").items()}
        return allowed.member("mode").choice(("auto", "required")), tuple(tool for tool in tools if tool.name in names)
    if kind != "function":
        raise field.untranslatable(f"a choice of type {kind!r}")
    name = field.member("function").member("name")
    if name.value in _MODES:
        raise name.untranslatable("the name of a tool that means something else")
    return name.text(), tools


def _json_output(field: Field) -> JsonOutput | None:
    if not field.given:
        return None
    kind = field.member("type").choice(("text", "json_object", "json_schema"))
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonOutput(schema=_loose_schema(field))
    schema = field.member("json_schema")
    return JsonOutput(
        name=schema.member("name").optional_text() or "answer",
        description=schema.member("description").optional_text(),
        schema=schema.member("schema").optional_mapping(),
        strict=schema.member("strict").optional_boolean(),
    )


def _loose_schema(field: Field) -> dict[str, Any] | None:
    """llama.cpp takes a schema beside ``json_object``; others leave it out."""
    return field.member("schema").optional_mapping()
