"""A chat completion: the whole answer, its reasons for ending and its count of tokens, read and written."""

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
from noa.dialects.openai.upstream_request import encode_tool_call
from noa.dialects.upstream import decode_answer, stream_error
from noa.errors import ProviderResponseError, UnsupportedError

#: The dialect's reasons for ending, and those that compatible services say instead. Others are unknown, hence ``None``.
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
}
#: What is said of an ending whose reason has no name here: clients take ``null`` for an answer that still goes on.
UNKNOWN_END: FinishReason = "stop"


class PromptDetails(msgspec.Struct):
    """Which prompt tokens came from a cache, and which went into it."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    """Which completion tokens were reasoning."""

    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """The dialect's count of tokens; ``prompt_cache_hit_tokens`` is DeepSeek's word for cached ones."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class WireFunction(msgspec.Struct):
    """The function of a call. ``arguments`` should be JSON as text; some services send the object itself."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON text."""
        if isinstance(self.arguments, dict):
            return msgspec.json.encode(self.arguments).decode()
        return self.arguments or ""


class WireCall(msgspec.Struct):
    """A call of a tool, whole or a piece of one. ``index`` tells the pieces of one stream apart."""

    index: int | None = None
    id: str | None = None
    function: WireFunction | None = None


class WireThinking(msgspec.Struct):
    """A block of reasoning with what proves it, of the ``thinking_blocks`` that LiteLLM has made known."""

    type: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str | None = None


class _Message(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking_blocks: list[WireThinking] | None = None
    refusal: str | None = None
    tool_calls: list[WireCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created: int | float | None = None
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_completion = msgspec.json.Decoder(_Completion)


def decode_reply(body: bytes, *, provider: str | None = None) -> ChatReply:
    """Read an upstream's chat completion.

    Raises ``ProviderResponseError`` for anything else, and what an ``error`` in it stands for. A refusal is text that
    ends with ``content_filter``.
    """
    completion = decode_answer(_completion, body, "chat completion", provider)
    if completion.error:
        raise stream_error(completion.error, provider or "The provider")
    choices = completion.choices or []
    if not choices:
        raise ProviderResponseError(f"{provider or 'The provider'} answered without a choice.", provider=provider)
    choice = choices[0]
    return ChatReply(
        id=completion.id or "",
        model=completion.model or "",
        created=int(completion.created or 0),
        parts=tuple(_parts(choice.message, provider)),
        finish_reason=decode_finish_reason(
            choice.finish_reason, refused=bool(choice.message.refusal), called=bool(choice.message.tool_calls)
        ),
        usage=decode_usage(completion.usage),
    )


def encode_reply(reply: ChatReply) -> bytes:
    """Write a chat completion. Reasoning that is signed or hidden stands in ``thinking_blocks`` besides its text."""
    texts, thinking, blocks, calls = [], [], [], []
    for part in reply.parts:
        match part:
            case TextPart():
                texts.append(part.text)
            case ThinkingPart():
                thinking.append(part.text)
                blocks.append(encode_thinking(part))
            case ToolCallPart():
                calls.append(encode_tool_call(part))
            case ImagePart() | ToolResultPart():
                raise UnsupportedError("OpenAI's dialect has neither images nor results of tools in an answer.")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    message["refusal"] = None
    if any(thinking):
        message["reasoning_content"] = "".join(thinking)
    if any(is_proven(part) for part in reply.parts):
        message["thinking_blocks"] = blocks
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason or UNKNOWN_END}
    body: dict[str, Any] = {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [choice],
    }
    if reply.usage is not None:
        body["usage"] = encode_usage(reply.usage)
    return msgspec.json.encode(body)


def decode_finish_reason(reason: str | None, *, refused: bool = False, called: bool = False) -> FinishReason | None:
    """The canonical reason; ``None`` for one that is not known.

    A refusal (``refused``) is a content filter's end. An answer that called tools (``called``) ends for that, although
    OpenAI says ``stop`` where the call was demanded.
    """
    if refused:
        return "content_filter"
    known = _FINISH_REASONS.get(reason) if reason else None
    return "tool_calls" if called and known == "stop" else known


def is_proven(part: AnyPart) -> bool:
    """Whether it is reasoning that must travel back unchanged."""
    return isinstance(part, ThinkingPart) and (part.signature is not None or part.redacted is not None)


def encode_thinking(part: ThinkingPart) -> dict[str, Any]:
    """Reasoning as one of ``thinking_blocks``."""
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def decode_usage(usage: WireUsage | None) -> Usage | None:
    """The canonical count: this dialect's numbers as they are, since both include cached and reasoning tokens."""
    if usage is None:
        return None
    prompt = usage.prompt_tokens_details or PromptDetails()
    cached = prompt.cached_tokens if prompt.cached_tokens is not None else usage.prompt_cache_hit_tokens
    completion = usage.completion_tokens_details or CompletionDetails()
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=cached,
        cache_write_tokens=prompt.cache_write_tokens,
        reasoning_tokens=completion.reasoning_tokens,
    )


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The count as it stands on this wire; what is unknown is ``null`` or left out."""
    wire: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    prompt = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    for name, details in (
        ("prompt_tokens_details", prompt),
        ("completion_tokens_details", {"reasoning_tokens": usage.reasoning_tokens}),
    ):
        known = {key: value for key, value in details.items() if value is not None}
        if known:
            wire[name] = known
    return wire


def _parts(message: _Message, provider: str | None) -> list[AnyPart]:
    parts: list[AnyPart] = [_thinking(block) for block in message.thinking_blocks or ()]
    reasoning = message.reasoning_content or message.reasoning
    if reasoning and not parts:
        parts.append(ThinkingPart(text=reasoning))
    parts.extend(TextPart(text=text) for text in (_text(message.content, provider), message.refusal) if text)
    for call in message.tool_calls or ():
        function = call.function
        if function is None or function.name is None:
            raise ProviderResponseError(
                f"{provider or 'The provider'} answered with a tool call that is no function.", provider=provider
            )
        parts.append(ToolCallPart(id=call.id or "", name=function.name, arguments=function.arguments_text))
    return parts


def _thinking(block: WireThinking) -> ThinkingPart:
    if block.type == "redacted_thinking":
        return ThinkingPart(text="", redacted=block.data or "")
    return ThinkingPart(text=block.thinking, signature=block.signature)


def _text(content: str | list[dict[str, Any]] | None, provider: str | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for item in content:
        if item.get("type") != "text" or not isinstance(item.get("text"), str):
            raise ProviderResponseError(
                f"{provider or 'The provider'} answered with a part that is no text: {item.get('type')!r}.",
                provider=provider,
            )
    return "".join(item["text"] for item in content)
