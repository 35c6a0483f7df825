"""The canonical conversation written as a chat completion request for an upstream."""

from __future__ import annotations

from collections.abc import Iterable
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
from noa.dialects.openai.foreign_fields import translate_extra
from noa.errors import UnsupportedError, ValidationError


def encode_request(
    request: ChatRequest,
    model: str,
    *,
    stream: bool,
    max_tokens_field: str = "max_tokens",
    reasoning_field: str | None = "reasoning_content",
    is_llama_cpp: bool = False,
) -> bytes:
    """Write a chat completion request; a streamed one asks for usage.

    ``max_tokens_field``: OpenAI itself wants ``max_completion_tokens``, compatible services know ``max_tokens``.
    ``reasoning_field`` names the field in which earlier reasoning goes back; ``None`` leaves it out, for services that
    refuse it (OpenAI's). Signatures and hidden reasoning are left out: only the provider that wrote them can read them.
    ``is_llama_cpp``: its server takes a budget for thinking, and images in the results of tools.
    Raises ``UnsupportedError`` for what this dialect cannot say, and for several choices, of which the canonical answer
    holds one.
    """
    messages = list(_messages(request.messages, reasoning_field, result_images=is_llama_cpp))
    body: dict[str, Any] = {"model": model, "messages": messages}
    settings: dict[str, Any] = {
        max_tokens_field: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _response_format(request.json_output),
    }
    body.update({name: value for name, value in settings.items() if value is not None})
    extra = dict(request.extra)
    if request.extra_dialect == "anthropic":
        extra = translate_extra(extra, is_llama_cpp=is_llama_cpp)
    if extra.get("n") not in (None, 1):
        raise UnsupportedError("n must be 1 here: Noa can hand on one choice.", details={"param": "n"})
    stream_options = extra.pop("stream_options", None) or {}
    if stream:
        body["stream"] = True
        body["stream_options"] = {**stream_options, "include_usage": True}
    body.update({name: value for name, value in extra.items() if name not in body})
    return msgspec.json.encode(body)


def _messages(
    messages: Iterable[Message], reasoning_field: str | None, *, result_images: bool
) -> Iterable[dict[str, Any]]:
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        others = tuple(part for part in message.parts if not isinstance(part, ToolResultPart))
        if results and message.role not in ("tool", "user"):
            raise ValidationError(f"A message of role {message.role} cannot hold the result of a tool.")
        for result in results:
            content = _result(result, images=result_images)
            yield {"role": "tool", "tool_call_id": result.tool_call_id, "content": content}
        if message.role == "tool":
            if others:
                raise ValidationError("A message of role tool can only hold results of tools.")
        elif others or not results:
            yield _message(message, others, reasoning_field)


def _message(message: Message, parts: tuple[AnyPart, ...], reasoning_field: str | None) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role}
    if message.name is not None:
        wire["name"] = message.name
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    thinking = "".join(part.text for part in parts if isinstance(part, ThinkingPart))
    if (calls or thinking) and message.role != "assistant":
        raise ValidationError(f"A message of role {message.role} cannot hold calls of tools or reasoning.")
    visible = [part for part in parts if isinstance(part, (TextPart, ImagePart))]
    wire["content"] = _content(visible, message.role) if visible or not calls else None
    if thinking and reasoning_field is not None:
        wire[reasoning_field] = thinking
    if calls:
        wire["tool_calls"] = [encode_tool_call(call) for call in calls]
    return wire


def _content(parts: list[TextPart | ImagePart], role: str) -> str | list[dict[str, Any]]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return [_part(part, role) for part in parts]


def _part(part: TextPart | ImagePart, role: str) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if role != "user":
        raise UnsupportedError(f"OpenAI's dialect has images in a user's messages only, not in those of role {role}.")
    image = {"url": _image_url(part)}
    if part.detail is not None:
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image}


def _image_url(part: ImagePart) -> str:
    if part.url is not None:
        return part.url
    if part.data is None or part.media_type is None:
        raise ValidationError("An image needs an address, or base64 data with its media type.")
    return f"data:{part.media_type};base64,{part.data}"


def _result(result: ToolResultPart, *, images: bool) -> str | list[dict[str, Any]]:
    """This dialect has no mark for a failed call, so the text says it."""
    parts = list(result.parts)
    if result.is_error and not result.text.lower().startswith("error"):
        match parts:
            case [TextPart(text=first), *rest]:
                parts = [TextPart(text=f"Error: {first}"), *rest]
            case _:
                parts = [TextPart(text="Error: "), *parts]
    if not images and any(isinstance(part, ImagePart) for part in parts):
        raise UnsupportedError(
            "OpenAI's dialect, which this model's provider speaks, has no images in the results of tools; "
            "send the image in a user's message.",
            details={"param": "messages"},
        )
    return _content(parts, "user")


def encode_tool_call(call: ToolCallPart) -> dict[str, Any]:
    """A finished call of a tool, as it stands in messages of requests and replies."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: str | None) -> str | dict[str, Any] | None:
    if choice is None or choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(output: JsonOutput | None) -> dict[str, Any] | None:
    if output is None:
        return None
    if output.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": output.name, "schema": output.schema}
    if output.description is not None:
        schema["description"] = output.description
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}
