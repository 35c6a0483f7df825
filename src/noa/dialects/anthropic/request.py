"""A caller's messages request, read into the canonical conversation."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

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
    "model", "messages", "system", "max_tokens", "temperature", "top_p", "stop_sequences", "tools", "tool_choice",
    "stream", "output_config", "output_format",
})  # fmt: skip
#: Members of blocks that a model does not read.
_BOOKKEEPING = frozenset({"type", "cache_control", "id"})
#: Members of tools that are read, or say only how the input is cached or streamed.
_TOOL_FIELDS = frozenset({
    "type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming",
})  # fmt: skip
_MODES: dict[str, Literal["auto", "none", "required"]] = {"auto": "auto", "any": "required", "none": "none"}


def decode_request(body: bytes) -> DecodedRequest:
    """Read a messages request, or one that counts tokens (which has no ``max_tokens``).

    Raises ``ValidationError`` naming the field that is wrong, and ``UnsupportedError`` for blocks that no canonical
    conversation holds (documents, server tools). Unknown outermost fields go to ``extra``. Usage is always reported in
    this dialect, so ``include_usage`` is true.
    """
    root = read_body(body)
    extra = {name: value for name, value in root.mapping().items() if name not in _CANONICAL}
    output_config = dict(root.member("output_config").optional_mapping() or {})
    output_format = Field(output_config.pop("format", None), "output_config.format")
    if not output_format.given:
        # Where the format stood while it was in beta.
        output_format = root.member("output_format")
    if output_config:
        extra["output_config"] = output_config
    tool_choice, parallel = _tool_choice(root.member("tool_choice"))
    request = ChatRequest(
        model=root.member("model").optional_text(),
        messages=(*_system(root.member("system")), *_messages(root.member("messages"))),
        max_tokens=root.member("max_tokens").optional_integer(minimum=0),
        temperature=root.member("temperature").optional_number(),
        top_p=root.member("top_p").optional_number(),
        stop=_stop(root.member("stop_sequences")),
        tools=_tools(root.member("tools")),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        json_output=_json_output(output_format),
        extra=extra,
        extra_dialect="anthropic",
    )
    return DecodedRequest(request, bool(root.member("stream").optional_boolean()), include_usage=True)


def _system(field: Field) -> tuple[Message, ...]:
    parts = _texts(field) if field.given else ()
    return (Message(role="system", parts=parts),) if parts else ()


def _messages(field: Field) -> tuple[Message, ...]:
    messages: list[Message] = []
    for item in field.items("a list of messages"):
        for message in _split(item):
            if message.role == "tool" and messages and messages[-1].role == "tool":
                messages[-1] = Message(role="tool", parts=messages[-1].parts + message.parts)
            else:
                messages.append(message)
    if not messages:
        raise field.wrong("a list of at least one message")
    return tuple(messages)


def _split(field: Field) -> list[Message]:
    """One message of the wire; the results of tools in a user's turn become a message of their own, ahead of it."""
    field.mapping("an object with a role and content")
    role = field.member("role").choice(("user", "assistant", "system"))
    field.refuse_others(_BOOKKEEPING | {"role", "content"})
    content = field.member("content")
    if role == "system":
        return [Message(role="system", parts=_texts(content))]
    if role == "assistant":
        return [Message(role="assistant", parts=_blocks(content, _ASSISTANT_BLOCKS))]
    parts = _blocks(content, _USER_BLOCKS)
    results = tuple(part for part in parts if isinstance(part, ToolResultPart))
    others = tuple(part for part in parts if not isinstance(part, ToolResultPart))
    messages = [Message(role="tool", parts=results)] if results else []
    return [*messages, Message(role="user", parts=others)] if others or not results else messages


def _texts(field: Field) -> tuple[AnyPart, ...]:
    return _blocks(field, _TEXT_BLOCKS)


def _blocks(field: Field, readers: dict[str, Any]) -> tuple[AnyPart, ...]:
    if isinstance(field.value, str):
        return (TextPart(text=field.value),) if field.value else ()
    return tuple(_block(item, readers) for item in field.items("text or a list of blocks"))


def _block(field: Field, readers: dict[str, Any]) -> AnyPart:
    field.mapping("an object with a type")
    kind = field.member("type").text("the kind of the block, such as text")
    if kind in readers:
        part: AnyPart = readers[kind](field)
        return part
    if kind in _USER_BLOCKS or kind in _ASSISTANT_BLOCKS:
        raise ValidationError(f"{field.path} is a block of type {kind!r}, which cannot stand in this message.")
    raise field.untranslatable(f"a block of type {kind!r}")


def _text(field: Field) -> TextPart:
    field.refuse_others(_BOOKKEEPING | {"text", "citations"})
    return TextPart(text=field.member("text").text())


def _image(field: Field) -> ImagePart:
    field.refuse_others(_BOOKKEEPING | {"source"})
    source = field.member("source")
    kind = source.member("type").text("base64 or url")
    if kind == "url":
        return ImagePart(url=source.member("url").text())
    if kind == "base64":
        return ImagePart(data=source.member("data").text(), media_type=source.member("media_type").text())
    raise source.untranslatable(f"an image by {kind}")


def _thinking(field: Field) -> ThinkingPart:
    """An empty signature is what reasoning gets that nobody signed."""
    signature = field.member("signature").optional_text()
    return ThinkingPart(text=field.member("thinking").text(), signature=signature or None)


def _redacted(field: Field) -> ThinkingPart:
    return ThinkingPart(text="", redacted=field.member("data").text())


def _tool_use(field: Field) -> ToolCallPart:
    field.refuse_others({"type", "cache_control", "id", "name", "input", "caller"})
    arguments = msgspec.json.encode(field.member("input").optional_mapping() or {})
    return ToolCallPart(id=field.member("id").text(), name=field.member("name").text(), arguments=arguments.decode())


def _tool_result(field: Field) -> ToolResultPart:
    field.refuse_others({"type", "cache_control", "tool_use_id", "content", "is_error"})
    content = field.member("content")
    parts = _blocks(content, _RESULT_BLOCKS) if content.given else ()
    return ToolResultPart(
        tool_call_id=field.member("tool_use_id").text(),
        parts=tuple(part for part in parts if isinstance(part, TextPart | ImagePart)),
        is_error=bool(field.member("is_error").optional_boolean()),
    )


_TEXT_BLOCKS = {"text": _text}
_RESULT_BLOCKS = {"text": _text, "image": _image}
_USER_BLOCKS = {"text": _text, "image": _image, "tool_result": _tool_result}
_ASSISTANT_BLOCKS = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
}


def _stop(field: Field) -> tuple[str, ...]:
    return tuple(item.text() for item in (field.items("a list of texts") if field.given else ()))


def _tools(field: Field) -> tuple[Tool, ...]:
    return tuple(_tool(item) for item in (field.items("a list of tools") if field.given else ()))


def _tool(field: Field) -> Tool:
    kind = field.member("type").optional_text() or "custom"
    if kind != "custom":
        raise field.untranslatable(f"a tool of type {kind!r}")
    if field.member("allowed_callers").value not in (None, ["direct"]):
        raise field.member("allowed_callers").untranslatable()
    if field.member("defer_loading").optional_boolean():
        raise field.member("defer_loading").untranslatable()
    field.refuse_others(_TOOL_FIELDS | {"allowed_callers", "defer_loading"})
    return Tool(
        name=field.member("name").text(),
        description=field.member("description").optional_text(),
        parameters=field.member("input_schema").mapping("a JSON schema"),
        strict=field.member("strict").optional_boolean(),
    )


def _tool_choice(field: Field) -> tuple[str | None, bool | None]:
    """The choice, and whether several calls at once are welcome."""
    if not field.given:
        return None, None
    disabled = field.member("disable_parallel_tool_use").optional_boolean()
    parallel = None if disabled is None else not disabled
    kind = field.member("type").choice((*_MODES, "tool"))
    if kind != "tool":
        return _MODES[kind], parallel
    name = field.member("name")
    if name.value in _MODES.values():
        raise name.untranslatable("the name of a tool that means something else")
    return name.text(), parallel


def _json_output(field: Field) -> JsonOutput | None:
    if not field.given:
        return None
    kind = field.member("type").text("json_schema")
    if kind != "json_schema":
        raise field.untranslatable(f"a format of type {kind!r}")
    return JsonOutput(schema=field.member("schema").mapping("a JSON schema"))
