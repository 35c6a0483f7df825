"""A streamed chat completion, read into canonical events and written from them."""

from __future__ import annotations

from typing import Any

import msgspec

from noa.chat import (
    ChatEvent,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from noa.dialects import sse
from noa.dialects.openai.errors import encode_error
from noa.dialects.openai.reply import (
    UNKNOWN_END,
    WireCall,
    WireFunction,
    WireThinking,
    WireUsage,
    decode_finish_reason,
    decode_usage,
    encode_usage,
)
from noa.dialects.upstream import decode_answer, stream_error, truncated
from noa.errors import AIProviderError, ProviderResponseError

#: What ends a stream of this dialect.
DONE = "[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking_blocks: list[WireThinking] | None = None
    refusal: str | None = None
    tool_calls: list[WireCall] | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created: int | float | None = None
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)


class StreamDecoder:
    """Reads a stream of chunks of a chat completion, or of a text completion.

    Chunks without choices (usage, content filters, progress) and first chunks with nothing but a role are normal.
    Alternatives to the first choice are ignored (``encode_request`` asks for none), and so is what follows the end.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._started = False
        self._done = False
        self._reason_seen = False
        self._refused = False
        self._calls = 0

    @property
    def finished(self) -> bool:
        """Whether the answer is complete: a reason for ending, or the terminator after some answer, was seen."""
        return self._reason_seen or (self._done and self._started)

    def feed(self, event: sse.SseEvent) -> list[ChatEvent]:
        """Read one event. Raises what an error inside the stream stands for, ``ProviderResponseError`` for nonsense."""
        if self._done:
            return []
        if event.data.strip() == DONE:
            self._done = True
            return []
        chunk = decode_answer(_chunk, event.data, "chunk of a chat completion", self._provider)
        if chunk.error or event.event == "error":
            raise stream_error(chunk.error or msgspec.json.decode(event.data), self._provider)
        events: list[ChatEvent] = []
        if not self._started and (chunk.choices or chunk.usage):
            self._started = True
            created = int(chunk.created or 0)
            events.append(ReplyStarted(id=chunk.id or "", model=chunk.model or "", created=created))
        for choice in chunk.choices or ():
            if not choice.index:
                self._read_choice(choice, events)
        usage = decode_usage(chunk.usage)
        if usage is not None:
            events.append(UsageReported(usage=usage))
        return events

    def close(self) -> None:
        """Say that the stream is over. Raises ``ProviderResponseError`` if it ended too early."""
        if not self.finished:
            raise truncated(self._provider)

    def _read_choice(self, choice: _Choice, events: list[ChatEvent]) -> None:
        delta = choice.delta or _Delta()
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning:
            events.append(ThinkingDelta(text=reasoning))
        events.extend(
            ThinkingDelta(signature=block.signature, redacted=block.data)
            for block in delta.thinking_blocks or ()
            if block.signature is not None or block.data is not None
        )
        text = delta.content or choice.text
        if text:
            events.append(TextDelta(text=text))
        if delta.refusal:
            self._refused = True
            events.append(TextDelta(text=delta.refusal))
        events.extend(self._call(call) for call in delta.tool_calls or ())
        if choice.finish_reason and not self._reason_seen:
            if choice.finish_reason == "error":
                raise ProviderResponseError(f"{self._provider} failed within its answer.", provider=self._provider)
            self._reason_seen = True
            reason = decode_finish_reason(choice.finish_reason, refused=self._refused, called=bool(self._calls))
            events.append(ReplyFinished(finish_reason=reason))

    def _call(self, call: WireCall) -> ToolCallDelta:
        """Some services number no calls: then an id begins the next one, and anything else goes on with the last."""
        function = call.function or WireFunction()
        index = call.index
        if index is None:
            index = self._calls if call.id else max(self._calls - 1, 0)
        self._calls = max(self._calls, index + 1)
        return ToolCallDelta(index=index, id=call.id, name=function.name, arguments=function.arguments_text)


class StreamEncoder:
    """Writes a stream of chat completion chunks; ``include_usage`` adds the extra last chunk that counts tokens."""

    def __init__(self, include_usage: bool = False) -> None:
        self._include_usage = include_usage
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._usage: Usage | None = None
        self._thought: list[str] = []

    def encode(self, event: ChatEvent) -> bytes:
        """Write one event; some (a count of tokens) write nothing now."""
        match event:
            case ReplyStarted():
                self._head.update(id=event.id, created=event.created, model=event.model)
                return self._chunk({"role": "assistant", "content": ""})
            case TextDelta():
                return self._chunk({"content": event.text})
            case ThinkingDelta():
                return self._think(event)
            case ToolCallDelta():
                return self._chunk({"tool_calls": [_encode_call(event)]})
            case ReplyFinished():
                return self._chunk({}, event.finish_reason or UNKNOWN_END)
            case UsageReported():
                self._usage = event.usage
                return b""

    def close(self) -> bytes:
        """The end of a complete stream: usage if it was asked for and is known, and the terminator."""
        end = sse.encode(DONE)
        if self._include_usage and self._usage is not None:
            body = {**self._head, "choices": [], "usage": encode_usage(self._usage)}
            return sse.encode(msgspec.json.encode(body)) + end
        return end

    def error(self, error: AIProviderError) -> bytes:
        """The end of a stream that failed; no terminator follows, so that nobody takes it for complete."""
        return sse.encode(encode_error(error)[1])

    def _think(self, event: ThinkingDelta) -> bytes:
        """Reasoning as it comes; with its signature the whole block once more, as it must travel back."""
        out = b""
        if event.text:
            self._thought.append(event.text)
            out += self._chunk({"reasoning_content": event.text})
        block: dict[str, Any] | None = None
        if event.redacted is not None:
            block = {"type": "redacted_thinking", "data": event.redacted}
        elif event.signature is not None:
            block = {"type": "thinking", "thinking": "".join(self._thought), "signature": event.signature}
            self._thought.clear()
        return out if block is None else out + self._chunk({"thinking_blocks": [block]})

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        body = {**self._head, "choices": [choice]}
        if self._include_usage:
            body["usage"] = None
        return sse.encode(msgspec.json.encode(body))


def _encode_call(event: ToolCallDelta) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": event.arguments}
    wire: dict[str, Any] = {"index": event.index, "function": function}
    if event.name is not None:
        wire["function"] = {"name": event.name, **function}
    if event.id is not None:
        wire = {"index": event.index, "id": event.id, "type": "function", "function": wire["function"]}
    return wire
