"""A message: the whole answer, its reasons for ending and its count of tokens, read and written."""

from __future__ import annotations

from typing import Any

import msgspec

from noa.chat import (
    AnyPart,
    ChatReply,
    FinishReason,
    ImagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from noa.dialects.anthropic.upstream_request import encode_arguments
from noa.dialects.upstream import decode_answer, stream_error
from noa.errors import ProviderResponseError, UnsupportedError

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    # The turn is not over: what came is as incomplete as an answer that ran out of tokens.
    "pause_turn": "length",
}
_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class OutputDetails(msgspec.Struct):
    """Which output tokens were reasoning."""

    thinking_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """The dialect's count of tokens. ``input_tokens`` leaves out what was read from and written to the cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class WireBlock(msgspec.Struct):
    """A block of content, of any type. ``input`` stays as the model wrote it."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")

    @property
    def arguments(self) -> str:
        """The input as JSON text."""
        return bytes(self.input).decode()


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    content: list[WireBlock] | None = None
    stop_reason: str | None = None
    usage: WireUsage | None = None
    error: Any = None


_message = msgspec.json.Decoder(_Message)


def decode_reply(body: bytes, *, provider: str | None = None, created: int = 0) -> ChatReply:
    """Read an upstream's message. The dialect tells no time, so ``created`` (Unix seconds) is the caller's to say.

    Raises ``ProviderResponseError`` for anything that is no message, ``UnsupportedError`` for blocks without a
    canonical form (those of server tools).
    """
    message = decode_answer(_message, body, "message", provider)
    if message.error:
        raise stream_error(message.error, provider or "The provider")
    if message.content is None:
        raise ProviderResponseError(f"{provider or 'The provider'} answered without content.", provider=provider)
    return ChatReply(
        id=message.id,
        model=message.model,
        created=created,
        parts=tuple(_part(block) for block in message.content),
        finish_reason=decode_stop_reason(message.stop_reason),
        usage=None if message.usage is None else decode_usage(message.usage),
    )


def encode_reply(reply: ChatReply) -> bytes:
    """Write a message. Its ``usage`` is always there; what is unknown in it is ``null``."""
    return msgspec.json.encode(
        {
            "id": reply.id,
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [_block(part) for part in reply.parts],
            "stop_reason": encode_stop_reason(reply.finish_reason),
            "stop_sequence": None,
            "usage": encode_usage(reply.usage or Usage()),
        }
    )


def decode_stop_reason(reason: str | None) -> FinishReason | None:
    """The canonical reason; ``None`` for one that is not known."""
    return _FINISH_REASONS.get(reason) if reason else None


def encode_stop_reason(reason: FinishReason | None) -> str:
    """The dialect's reason; an ending of which no reason is known is that of a turn."""
    return _STOP_REASONS[reason or "stop"]


def decode_usage(usage: WireUsage) -> Usage:
    """The canonical count: cached tokens, which this dialect counts apart, are added to the prompt exactly once."""
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    prompt = None if usage.input_tokens is None else usage.input_tokens + (read or 0) + (written or 0)
    details = usage.output_tokens_details or OutputDetails()
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=usage.output_tokens,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=details.thinking_tokens,
    )


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The count as it stands on this wire: cached tokens are taken out of the prompt again."""
    read, written = usage.cached_tokens, usage.cache_write_tokens
    prompt = usage.prompt_tokens
    wire: dict[str, Any] = {
        "input_tokens": None if prompt is None else max(prompt - (read or 0) - (written or 0), 0),
        "output_tokens": usage.completion_tokens,
    }
    if read is not None:
        wire["cache_read_input_tokens"] = read
    if written is not None:
        wire["cache_creation_input_tokens"] = written
    if usage.reasoning_tokens is not None:
        wire["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return wire


def unknown_block(kind: str) -> UnsupportedError:
    """The error for a block that only passes through in its own dialect."""
    return UnsupportedError(
        f"The answer has a block of type {kind!r}, which cannot be translated into another dialect."
    )


def _part(block: WireBlock) -> AnyPart:
    match block.type:
        case "text":
            return TextPart(text=block.text)
        case "thinking":
            return ThinkingPart(text=block.thinking, signature=block.signature or None)
        case "redacted_thinking":
            return ThinkingPart(text="", redacted=block.data or "")
        case "tool_use":
            return ToolCallPart(id=block.id, name=block.name, arguments=block.arguments)
        case _:
            raise unknown_block(block.type)


def _block(part: AnyPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ThinkingPart():
            if part.redacted is not None:
                return {"type": "redacted_thinking", "data": part.redacted}
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        case ToolCallPart():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": encode_arguments(part)}
        case ImagePart() | ToolResultPart():
            raise UnsupportedError("Anthropic's dialect has neither images nor results of tools in an answer.")
