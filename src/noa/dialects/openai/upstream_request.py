"""The canonical conversation written as a chat completion request for an upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from noa.errors import UnsupportedError, ValidationError

#: Anthropic's fields without an effect on the answer: where it is accounted, cached, traced.
_ACCOUNTING = frozenset({"metadata", "service_tier", "cache_control", "diagnostics", "user_profile_id", "workspace_id"})


def encode_request(
    request: ChatRequest,
    model: str,
    *,
    stream: bool,
    max_tokens_field: str = "max_tokens",
    reasoning_field: str | None = "reasoning_content",
) -> bytes:
    """Write a chat completion request; a streamed one asks for usage.

    ``max_tokens_field``: OpenAI itself wants ``max_completion_tokens``, compatible services know ``max_tokens``.
    ``reasoning_field`` names the field in which earlier reasoning goes back; ``None`` leaves it out, for services that
    refuse it (OpenAI's). Signatures and hidden reasoning are left out: only the provider that wrote them can read them.
    Raises ``UnsupportedError`` for what this dialect cannot say, and for several choices, of which the canonical answer
    holds one.
    """
    body: dict[str, Any] = {"model": model, "messages": list(_messages(request.messages, reasoning_field))}
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
    extra = _foreign(request.extra) if request.extra_dialect == "anthropic" else dict(request.extra)
    if extra.get("n") not in (None, 1):
        raise UnsupportedError("n must be 1 here: Noa can hand on one choice.", details={"param": "n"})
    stream_options = extra.pop("stream_options", None) or {}
    if stream:
        body["stream"] = True
        body["stream_options"] = {**stream_options, "include_usage": True}
    body.update({name: value for name, value in extra.items() if name not in body})
    return msgspec.json.encode(body)


def _messages(messages: Iterable[Message], reasoning_field: str | None) -> Iterable[dict[str, Any]]:
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        others = tuple(part for part in message.parts if not isinstance(part, ToolResultPart))
        if results and message.role not in ("tool", "user"):
            raise ValidationError(f"A message of role {message.role} cannot hold the result of a tool.")
        for result in results:
            yield {"role": "tool", "tool_call_id": result.tool_call_id, "content": _result_text(result)}
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


def _result_text(result: ToolResultPart) -> str:
    """This dialect has no mark for a failed call, so the text says it."""
    if result.is_error and not result.text.lower().startswith("error"):
        return f"Error: {result.text}"
    return result.text


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


def _foreign(extra: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's own fields in this dialect, as far as they have a counterpart here."""
    translated: dict[str, Any] = {}
    for name, value in extra.items():
        if value is None or name in _ACCOUNTING:
            continue
        translate = _TRANSLATIONS.get(name)
        if translate is None:
            raise _no_counterpart(name)
        translated.update(translate(value))
    return translated


def _no_counterpart(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} has no counterpart in OpenAI's dialect, which this model's provider speaks; leave it out.",
        details={"param": name},
    )


def _thinking(value: object) -> dict[str, Any]:
    """To leave it to the model, or to do without, is what this dialect does anyway; a budget it cannot say."""
    if isinstance(value, dict) and value.get("type") in ("adaptive", "disabled"):
        return {}
    raise _no_counterpart("thinking")


def _output_config(value: object) -> dict[str, Any]:
    if isinstance(value, dict) and not value.keys() - {"effort"}:
        return {"reasoning_effort": value["effort"]} if value.get("effort") else {}
    raise _no_counterpart("output_config")


_TRANSLATIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "top_k": lambda value: {"top_k": value},
    "thinking": _thinking,
    "output_config": _output_config,
}
