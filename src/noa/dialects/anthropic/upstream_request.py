"""The canonical conversation written as a messages request for an upstream."""

from __future__ import annotations

from typing import Any

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
from noa.dialects.anthropic.foreign_fields import no_counterpart, translate_extra
from noa.errors import UnsupportedError, ValidationError

#: What the dialect demands and callers of others leave out.
DEFAULT_MAX_TOKENS = 4096


def encode_request(request: ChatRequest, model: str, *, stream: bool) -> bytes:
    """Write a messages request.

    Reasoning without a signature is left out, because the dialect takes back only what it signed itself. Raises
    ``UnsupportedError`` for what it cannot say: a seed, JSON without a schema, a speaker's name, an image's detail.
    """
    return msgspec.json.encode(encode_conversation(request, model) | _settings(request, stream))


def encode_conversation(request: ChatRequest, model: str) -> dict[str, Any]:
    """The members that make up the prompt: what counting tokens needs as well."""
    messages = list(request.messages)
    system: list[TextPart] = []
    while messages and messages[0].role == "system":
        system.extend(_only_texts(messages.pop(0)))
    body: dict[str, Any] = {"model": model, "messages": _messages(messages)}
    if len(system) == 1:
        body["system"] = system[0].text
    elif system:
        body["system"] = [_text(part) for part in system]
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    choice = _tool_choice(request)
    if choice is not None:
        body["tool_choice"] = choice
    return body


def _settings(request: ChatRequest, stream: bool) -> dict[str, Any]:
    if request.seed is not None:
        raise no_counterpart("seed")
    settings: dict[str, Any] = {
        "max_tokens": DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": list(request.stop) or None,
        "stream": True if stream else None,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    extra = translate_extra(request.extra) if request.extra_dialect == "openai" else dict(request.extra)
    output_config = dict(extra.pop("output_config", None) or {})
    if request.json_output is not None:
        output_config["format"] = _output_format(request.json_output)
    if output_config:
        settings["output_config"] = output_config
    return extra | settings


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Results of tools open a user's turn, so a message that follows them joins it.

    The dialect refuses empty blocks, so an assistant's message of which nothing is left (unsigned reasoning) goes.
    """
    wire: list[dict[str, Any]] = []
    open_results = False
    for message in messages:
        if message.name is not None and message.role != "tool":
            raise UnsupportedError(
                "Anthropic's dialect, which this model's provider speaks, has no names of speakers; leave name out.",
                details={"param": "messages"},
            )
        content = _content(message)
        if not content and message.role == "assistant":
            continue
        content = content or [_text(TextPart(text=""))]
        if open_results and message.role in ("tool", "user"):
            wire[-1]["content"].extend(content)
        elif message.role == "system":
            wire.append({"role": "system", "content": content})
        else:
            role = "assistant" if message.role == "assistant" else "user"
            text = content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else None
            wire.append({"role": role, "content": content if text is None else text})
        open_results = message.role == "tool"
    return wire


def _content(message: Message) -> list[dict[str, Any]]:
    allowed = _ALLOWED[message.role]
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        if not isinstance(part, allowed):
            raise ValidationError(f"A message of role {message.role} cannot hold a part of type {_type(part)}.")
        block = encode_block(part)
        if block is not None and block.get("text") != "":
            blocks.append(block)
    return blocks


_ALLOWED: dict[str, tuple[type[AnyPart], ...]] = {
    "system": (TextPart,),
    "user": (TextPart, ImagePart, ToolResultPart),
    "assistant": (TextPart, ThinkingPart, ToolCallPart),
    "tool": (ToolResultPart,),
}


def _type(part: AnyPart) -> object:
    return part.__struct_config__.tag


def _only_texts(message: Message) -> list[TextPart]:
    if message.name is not None or not all(isinstance(part, TextPart) for part in message.parts):
        raise UnsupportedError("A system message for a model that speaks Anthropic's dialect is text without a name.")
    return [part for part in message.parts if isinstance(part, TextPart)]


def encode_block(part: AnyPart) -> dict[str, Any] | None:
    """A part as a block, or ``None`` for reasoning that this dialect did not sign and would refuse."""
    match part:
        case TextPart():
            return _text(part)
        case ImagePart():
            return {"type": "image", "source": _image_source(part)}
        case ToolCallPart():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": encode_arguments(part)}
        case ToolResultPart():
            result = {"type": "tool_result", "tool_use_id": part.tool_call_id, "content": _result(part)}
            return {**result, "is_error": True} if part.is_error else result
        case ThinkingPart():
            if part.redacted is not None:
                return {"type": "redacted_thinking", "data": part.redacted}
            if part.signature is None:
                return None
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def encode_arguments(call: ToolCallPart) -> msgspec.Raw:
    """The arguments of a call as the object this dialect wants, number for number as the model wrote them."""
    text = call.arguments.strip() or "{}"
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnsupportedError(
            f"The arguments of the call of {call.name} are no JSON object, which Anthropic's dialect demands."
        ) from error
    return msgspec.Raw(text.encode())


def _text(part: TextPart) -> dict[str, Any]:
    return {"type": "text", "text": part.text}


def _result(result: ToolResultPart) -> str | list[dict[str, Any]]:
    parts = [part for part in result.parts if not isinstance(part, TextPart) or part.text]
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [
        _text(part) if isinstance(part, TextPart) else {"type": "image", "source": _image_source(part)}
        for part in parts
    ]


def _image_source(part: ImagePart) -> dict[str, Any]:
    """A high resolution is what the dialect always gives; a lower one it cannot be asked for."""
    if part.detail not in (None, "auto", "high"):
        raise no_counterpart("An image's detail")
    if part.url is not None:
        return {"type": "url", "url": part.url}
    if part.data is None or part.media_type is None:
        raise ValidationError("An image needs an address, or base64 data with its media type.")
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _tool(tool: Tool) -> dict[str, Any]:
    wire: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters or {"type": "object"}}
    if tool.description is not None:
        wire["description"] = tool.description
    if tool.strict is not None:
        wire["strict"] = tool.strict
    return wire


def _tool_choice(request: ChatRequest) -> dict[str, Any] | None:
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if choice is None and (parallel is None or not request.tools):
        return None
    modes = {None: "auto", "auto": "auto", "none": "none", "required": "any"}
    wire: dict[str, Any] = {"type": modes[choice]} if choice in modes else {"type": "tool", "name": choice}
    if parallel is not None and wire["type"] != "none":
        wire["disable_parallel_tool_use"] = not parallel
    return wire


def _output_format(output: JsonOutput) -> dict[str, Any]:
    """``output_config.format``; the name of the schema is a label only, and the schema is always binding here."""
    if output.schema is None:
        raise UnsupportedError(
            "Anthropic's dialect, which this model's provider speaks, gives JSON by a schema only; "
            "ask for json_schema.",
            details={"param": "response_format"},
        )
    return {"type": "json_schema", "schema": output.schema}
