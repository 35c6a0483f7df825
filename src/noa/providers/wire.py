"""The two wires as providers use them: a dialect's codec, and what a streamed event brings, told at a glance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec

from noa.chat import ChatEvent, ChatReply, ChatRequest, Usage
from noa.dialects import anthropic, openai
from noa.dialects.anthropic import reply as anthropic_reply
from noa.dialects.openai import reply as openai_reply
from noa.dialects.sse import SseEvent
from noa.errors import AIProviderError
from noa.presets import Habits
from noa.providers.protocol import Dialect


class Glance(NamedTuple):
    """What a streamed event brings, as far as passing it on depends on it.

    ``begun``: some of the answer itself. ``finished``: the model came to its end. ``ended``: nothing of the answer
    follows. ``progress``: how far llama.cpp is with the prompt. ``usage_only``: the extra chunk that OpenAI's
    ``include_usage`` asks for. ``usage`` and ``error`` are the wire's, undecoded; a usage, be it empty, belongs to an
    answer.
    """

    begun: bool = False
    finished: bool = False
    ended: bool = False
    progress: bool = False
    usage_only: bool = False
    usage: Mapping[str, Any] | None = None
    error: object = None


class StreamDecoder(Protocol):
    """What both dialects' decoders do."""

    def feed(self, event: SseEvent) -> Sequence[ChatEvent]:
        """The canonical events in one of the wire's; an error event raises."""
        ...

    def close(self) -> None:
        """Raise if the stream ended before the answer did."""
        ...


class EncodeRequest(Protocol):
    """How a dialect writes requests."""

    def __call__(self, request: ChatRequest, model: str, *, stream: bool) -> bytes:
        """Write a conversation for an upstream."""
        ...


class DecodeError(Protocol):
    """How a dialect reads refusals."""

    def __call__(self, status: int, body: bytes, *, provider: str, retry_after_s: float | None) -> AIProviderError:
        """Read an upstream's error answer."""
        ...


class DecodeReply(Protocol):
    """How a dialect reads answers."""

    def __call__(self, body: bytes, *, provider: str) -> ChatReply:
        """Read an upstream's whole answer."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A dialect, from the side that calls upstreams."""

    dialect: Dialect
    chat_path: str
    encode_request: EncodeRequest
    decode_reply: DecodeReply
    decode_error: DecodeError
    stream_decoder: Callable[[str], StreamDecoder]
    glance: Callable[[str | None, str | bytes], Glance]
    read_usage: Callable[[object], Usage | None]


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None

    @property
    def brings(self) -> bool:
        return bool(self.content or self.tool_calls or self.reasoning_content or self.reasoning or self.refusal)


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: Any = None
    finish_reason: Any = None

    @property
    def is_text(self) -> bool:
        """The common case: more text, and not the end."""
        return self.delta is not None and bool(self.delta.content) and not self.finish_reason

    @property
    def brings(self) -> bool:
        return bool(self.text) or (self.delta is not None and self.delta.brings)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    prompt_progress: Any = None


class _MessageStart(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _MessageStart | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_TERMINATORS = ("[DONE]", b"[DONE]")
_DONE = Glance(finished=True, ended=True)
_NOTHING = Glance()
_CONTENT = Glance(begun=True)


def glance_openai(name: str | None, data: str | bytes) -> Glance:
    """Look at a chunk of a chat or text completion. Raises ``msgspec.DecodeError`` if it is none."""
    if data.strip() in _TERMINATORS:
        return _DONE
    chunk = _decode_chunk(data)
    if chunk.error or name == "error":
        return Glance(error=chunk.error or msgspec.json.decode(data))
    choices = chunk.choices or ()
    if len(choices) == 1 and choices[0].is_text and not chunk.usage:
        return _CONTENT
    return Glance(
        begun=any(choice.brings for choice in choices),
        finished=any(choice.finish_reason for choice in choices),
        progress=chunk.prompt_progress is not None,
        usage_only=bool(chunk.usage) and not choices,
        usage=chunk.usage,
    )


def glance_anthropic(_name: str | None, data: str | bytes) -> Glance:
    """Look at an event of a message. Raises ``msgspec.DecodeError`` if it is none."""
    wire = _decode_event(data)
    match wire.type:
        case "content_block_delta":
            return _CONTENT
        case "message_start":
            return Glance(usage=(wire.message.usage if wire.message else None) or {})
        case "message_delta":
            return Glance(usage=wire.usage)
        case "message_stop":
            return _DONE
        case "error":
            return Glance(error=wire.error or wire.type)
        case _:
            return _NOTHING


def read_openai_usage(wire: object) -> Usage | None:
    """The canonical count; ``None`` where there is none that makes sense."""
    try:
        return openai_reply.decode_usage(msgspec.convert(wire, openai_reply.WireUsage | None, strict=False))
    except msgspec.ValidationError:
        return None


def read_anthropic_usage(wire: object) -> Usage | None:
    """The canonical count; ``None`` where there is none that makes sense."""
    try:
        usage = msgspec.convert(wire, anthropic_reply.WireUsage | None, strict=False)
    except msgspec.ValidationError:
        return None
    return None if usage is None else anthropic_reply.decode_usage(usage)


def openai_wire(habits: Habits) -> Wire:
    """OpenAI's dialect as a service with these habits speaks it."""
    return replace(
        OPENAI,
        encode_request=partial(
            openai.encode_request, max_tokens_field=habits.max_tokens_field, reasoning_field=habits.reasoning_field
        ),
    )


def _decode_message(body: bytes, *, provider: str) -> ChatReply:
    return anthropic.decode_reply(body, provider=provider, created=int(time.time()))


def _message_decoder(provider: str) -> StreamDecoder:
    return anthropic.StreamDecoder(provider, created=int(time.time()))


OPENAI = Wire(
    dialect=Dialect.OPENAI,
    chat_path="/chat/completions",
    encode_request=openai.encode_request,
    decode_reply=openai.decode_reply,
    decode_error=openai.decode_error,
    stream_decoder=openai.StreamDecoder,
    glance=glance_openai,
    read_usage=read_openai_usage,
)
#: llama.cpp's server takes more than the dialect it speaks.
LLAMA_CPP = replace(OPENAI, encode_request=partial(openai.encode_request, is_llama_cpp=True))
ANTHROPIC = Wire(
    dialect=Dialect.ANTHROPIC,
    chat_path="/messages",
    encode_request=anthropic.encode_request,
    decode_reply=_decode_message,
    decode_error=anthropic.decode_error,
    stream_decoder=_message_decoder,
    glance=glance_anthropic,
    read_usage=read_anthropic_usage,
)
