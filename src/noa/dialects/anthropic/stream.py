"""A streamed message, read into canonical events and written from them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from noa.chat import (
    ChatEvent,
    FinishReason,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from noa.dialects import sse
from noa.dialects.anthropic.errors import encode_error
from noa.dialects.anthropic.reply import (
    WireBlock,
    WireUsage,
    decode_stop_reason,
    decode_usage,
    encode_stop_reason,
    encode_usage,
    unknown_block,
)
from noa.dialects.upstream import decode_answer, stream_error, truncated
from noa.errors import AIProviderError, ProviderResponseError


class _Start(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: WireUsage | None = None


class _Delta(msgspec.Struct):
    """The change that a delta event carries: to a block, or (``stop_reason``) to the message."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Start | None = None
    content_block: WireBlock | None = None
    delta: _Delta | None = None
    usage: WireUsage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


class StreamDecoder:
    """Reads a stream of message events.

    ``created`` (Unix seconds) dates the answer, since the dialect does not. Pings, unknown events and citations are
    ignored, and so is what comes after the end.
    """

    def __init__(self, provider: str, *, created: int = 0) -> None:
        self._provider = provider
        self._created = created
        self._started = False
        self._stopped = False
        self._reason_seen = False
        self._usage = WireUsage()
        self._calls: dict[int, int] = {}
        self._without_arguments: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether the answer is complete: it began, and ``message_stop`` was seen."""
        return self._stopped and self._started

    def feed(self, event: sse.SseEvent) -> list[ChatEvent]:
        """Read one event. Raises what an ``error`` event stands for, ``ProviderResponseError`` for nonsense."""
        if self._stopped:
            return []
        wire = decode_answer(_event, event.data, "event of a message", self._provider)
        match wire.type:
            case "message_start":
                return self._start(wire.message or _Start())
            case "content_block_start":
                return self._open_block(wire.index, wire.content_block)
            case "content_block_delta":
                return self._read_delta(wire.index, wire.delta or _Delta())
            case "content_block_stop":
                return self._close_block(wire.index)
            case "message_delta":
                return self._finish(wire)
            case "message_stop":
                self._stopped = True
            case "error":
                raise stream_error(wire.error, self._provider)
        return []

    def close(self) -> None:
        """Say that the stream is over. Raises ``ProviderResponseError`` if it ended too early."""
        if not self.finished:
            raise truncated(self._provider)

    def _start(self, message: _Start) -> list[ChatEvent]:
        counted = self._count(message.usage)
        if self._started:
            return counted
        self._started = True
        return [ReplyStarted(id=message.id, model=message.model, created=self._created), *counted]

    def _count(self, usage: WireUsage | None) -> list[ChatEvent]:
        """Counts are cumulative, and a later event repeats only some of them."""
        if usage is None:
            return []
        said = {name: value for name, value in msgspec.structs.asdict(usage).items() if value is not None}
        self._usage = msgspec.structs.replace(self._usage, **said)
        return [UsageReported(usage=decode_usage(self._usage))]

    def _open_block(self, index: int, block: WireBlock | None) -> list[ChatEvent]:
        if block is None:
            raise ProviderResponseError(f"{self._provider} streamed a block without content.", provider=self._provider)
        match block.type:
            case "text":
                return [TextDelta(text=block.text)] if block.text else []
            case "thinking":
                given = block.thinking or block.signature
                return [ThinkingDelta(text=block.thinking, signature=block.signature or None)] if given else []
            case "redacted_thinking":
                return [ThinkingDelta(redacted=block.data or "")]
            case "tool_use":
                return [self._open_call(index, block)]
            case _:
                raise unknown_block(block.type)

    def _open_call(self, index: int, block: WireBlock) -> ToolCallDelta:
        number = self._calls[index] = len(self._calls)
        arguments = block.arguments if block.arguments.strip() not in ("{}", "null", '""') else ""
        if not arguments:
            self._without_arguments.add(index)
        return ToolCallDelta(index=number, id=block.id, name=block.name, arguments=arguments)

    def _read_delta(self, index: int, delta: _Delta) -> list[ChatEvent]:
        match delta.type:
            case "text_delta":
                return [TextDelta(text=delta.text)]
            case "thinking_delta":
                return [ThinkingDelta(text=delta.thinking)]
            case "signature_delta":
                return [ThinkingDelta(signature=delta.signature)] if delta.signature else []
            case "input_json_delta" if index in self._calls:
                if not delta.partial_json:
                    return []
                self._without_arguments.discard(index)
                return [ToolCallDelta(index=self._calls[index], arguments=delta.partial_json)]
            case _:
                return []

    def _close_block(self, index: int) -> list[ChatEvent]:
        """A call without arguments is streamed without any; canonical arguments are JSON, hence an empty object."""
        if index not in self._without_arguments:
            return []
        self._without_arguments.discard(index)
        return [ToolCallDelta(index=self._calls[index], arguments="{}")]

    def _finish(self, wire: _Event) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        if wire.delta is not None and wire.delta.stop_reason and not self._reason_seen:
            self._reason_seen = True
            events.append(ReplyFinished(finish_reason=decode_stop_reason(wire.delta.stop_reason)))
        return [*events, *self._count(wire.usage)]


_BlockKind = Literal["text", "thinking", "redacted_thinking", "tool_use"]


class StreamEncoder:
    """Writes a stream of message events: blocks one after another, usage with the end."""

    def __init__(self) -> None:
        self._open: tuple[_BlockKind, int | None] | None = None
        self._index = -1
        self._calls: set[int] = set()
        self._reason: FinishReason | None = None
        self._usage = Usage()

    def encode(self, event: ChatEvent) -> bytes:
        """Write one event; some (a count of tokens, the reason for ending) write nothing before ``close``."""
        match event:
            case ReplyStarted():
                return _start(event)
            case TextDelta():
                return self._delta(("text", None), {"type": "text", "text": ""}, _text_delta(event.text))
            case ThinkingDelta():
                return self._think(event)
            case ToolCallDelta():
                return self._call(event)
            case ReplyFinished():
                self._reason = event.finish_reason
                return self._close_block()
            case UsageReported():
                self._usage = event.usage
                return b""

    def close(self) -> bytes:
        """The end of a complete stream."""
        delta = {"stop_reason": encode_stop_reason(self._reason), "stop_sequence": None}
        return (
            self._close_block()
            + _event_bytes({"type": "message_delta", "delta": delta, "usage": encode_usage(self._usage)})
            + _event_bytes({"type": "message_stop"})
        )

    def error(self, error: AIProviderError) -> bytes:
        """The end of a stream that failed; no ``message_stop`` follows, so that nobody takes it for complete."""
        return sse.encode(encode_error(error)[1], event="error")

    def _think(self, event: ThinkingDelta) -> bytes:
        if event.redacted is not None:
            block = {"type": "redacted_thinking", "data": event.redacted}
            return self._close_block() + self._open_block(("redacted_thinking", None), block) + self._close_block()
        out, empty = b"", {"type": "thinking", "thinking": "", "signature": ""}
        if event.text:
            out += self._delta(("thinking", None), empty, {"type": "thinking_delta", "thinking": event.text})
        if event.signature is not None:
            signed = {"type": "signature_delta", "signature": event.signature}
            out += self._delta(("thinking", None), empty, signed) + self._close_block()
        return out

    def _call(self, event: ToolCallDelta) -> bytes:
        block = ("tool_use", event.index)
        if self._open != block and event.index in self._calls:
            raise ProviderResponseError(
                "The model's calls of tools arrive mixed up, which a stream of Anthropic's dialect cannot express; "
                "ask without streaming."
            )
        self._calls.add(event.index)
        start = {"type": "tool_use", "id": event.id or "", "name": event.name or "", "input": {}}
        arguments = {"type": "input_json_delta", "partial_json": event.arguments}
        return self._delta(("tool_use", event.index), start, arguments if event.arguments else None)

    def _delta(
        self, block: tuple[_BlockKind, int | None], start: dict[str, Any], delta: dict[str, Any] | None
    ) -> bytes:
        out = b"" if self._open == block else self._close_block() + self._open_block(block, start)
        if delta is not None:
            out += _event_bytes({"type": "content_block_delta", "index": self._index, "delta": delta})
        return out

    def _open_block(self, block: tuple[_BlockKind, int | None], start: dict[str, Any]) -> bytes:
        self._open = block
        self._index += 1
        return _event_bytes({"type": "content_block_start", "index": self._index, "content_block": start})

    def _close_block(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event_bytes({"type": "content_block_stop", "index": self._index})


def _start(event: ReplyStarted) -> bytes:
    """Usage in it is a running count, at which nothing has been counted yet; the real one comes with the end."""
    message: dict[str, Any] = {
        "id": event.id,
        "type": "message",
        "role": "assistant",
        "model": event.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    return _event_bytes({"type": "message_start", "message": message})


def _text_delta(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": text}


def _event_bytes(body: dict[str, Any]) -> bytes:
    return sse.encode(msgspec.json.encode(body), event=body["type"])
