"""What a scripted model says, in either dialect, whole and streamed; written by hand, without a codec of Noa's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from scripted_upstream import EVENTS, Answer, json_answer

#: Reasons for ending, in both dialects.
_ENDS: Final = {
    "stop": ("stop", "end_turn"),
    "length": ("length", "max_tokens"),
    "tool_calls": ("tool_calls", "tool_use"),
    "content_filter": ("content_filter", "refusal"),
}
CREATED: Final = 1_700_000_000


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer. ``calls`` are ``(id, name, arguments)``; ``cached`` of the 20 tokens of the prompt came from a cache.

    ``signature`` proves ``thinking`` and only Anthropic's models give one; so it is with ``redacted``.
    """

    text: str = ""
    thinking: str = ""
    signature: str | None = None
    redacted: str | None = None
    calls: Sequence[tuple[str, str, Mapping[str, Any]]] = field(default=())
    finish: str = "stop"
    cached: int = 8
    reasoned: int = 3

    def chunks(self) -> Iterator[dict[str, Any]]:
        """OpenAI's stream, up to the reason for its end."""
        yield _delta({"role": "assistant", "content": ""})
        for piece in halves(self.thinking):
            yield _delta({"reasoning_content": piece})
        for piece in halves(self.text):
            yield _delta({"content": piece})
        for index, (call_id, name, arguments) in enumerate(self.calls):
            head = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            yield _delta({"tool_calls": [head]})
            for piece in halves(json.dumps(arguments)):
                yield _delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield _delta({}, _ENDS[self.finish][0])

    def openai_usage(self) -> dict[str, Any]:
        """OpenAI's count: everything included."""
        return {
            "prompt_tokens": 20,
            "completion_tokens": 7,
            "total_tokens": 27,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoned},
        }

    def completion(self) -> dict[str, Any]:
        """OpenAI's whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.thinking:
            message["reasoning_content"] = self.thinking
        if self.calls:
            message["tool_calls"] = [
                {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                for call_id, name, arguments in self.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": _ENDS[self.finish][0]}
        return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": self.openai_usage()}

    def blocks(self) -> list[dict[str, Any]]:
        """Anthropic's content."""
        blocks: list[dict[str, Any]] = []
        if self.redacted is not None:
            blocks.append({"type": "redacted_thinking", "data": self.redacted})
        if self.thinking:
            blocks.append({"type": "thinking", "thinking": self.thinking, "signature": self.signature or ""})
        if self.text:
            blocks.append({"type": "text", "text": self.text})
        for call_id, name, arguments in self.calls:
            blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": dict(arguments)})
        return blocks

    def anthropic_usage(self) -> dict[str, Any]:
        """Anthropic's count: cached tokens apart."""
        return {
            "input_tokens": 20 - self.cached,
            "cache_read_input_tokens": self.cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": self.reasoned},
        }

    def message(self) -> dict[str, Any]:
        """Anthropic's whole answer."""
        end = {"stop_reason": _ENDS[self.finish][1], "stop_sequence": None}
        return {**_MESSAGE, "content": self.blocks(), **end, "usage": self.anthropic_usage()}

    def events(self) -> Iterator[dict[str, Any]]:
        """Anthropic's stream, to its end."""
        started = {**self.anthropic_usage(), "output_tokens": 1}
        begin = {**_MESSAGE, "content": [], "stop_reason": None, "stop_sequence": None, "usage": started}
        yield {"type": "message_start", "message": begin}
        yield {"type": "ping"}
        for index, block in enumerate(self.blocks()):
            yield from _block_events(index, block)
        delta = {"stop_reason": _ENDS[self.finish][1], "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}
        yield {"type": "message_stop"}


def answer(said: Said, dialect: str, *, stream: bool) -> Answer:
    """The answer as the upstream sends it."""
    if not stream:
        return json_answer(said.message() if dialect == "anthropic" else said.completion())
    return streamed(frames(said, dialect))


def frames(said: Said, dialect: str) -> list[bytes]:
    """The events of a streamed answer as bytes, the terminator last."""
    if dialect == "anthropic":
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in said.events()]
    head = {**_HEAD, "object": "chat.completion.chunk"}
    usage = {**head, "choices": [], "usage": said.openai_usage()}
    chunks = [{**head, "choices": [choice]} for choice in said.chunks()]
    return [*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in (*chunks, usage)), b"data: [DONE]\n\n"]


def streamed(pieces: Sequence[bytes], **more: Any) -> Answer:
    """These bytes as a stream, piece by piece."""
    return Answer(content_type=EVENTS, chunks=tuple(pieces), **more)


def halves(text: str) -> list[str]:
    """The text in two pieces, none of them empty."""
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


_HEAD: Final[dict[str, Any]] = {"id": "chatcmpl-7", "created": CREATED, "model": "scripted"}
_MESSAGE: Final[dict[str, Any]] = {"id": "msg_7", "type": "message", "role": "assistant", "model": "scripted"}


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _block_events(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind, empty = block["type"], dict(block)
    deltas: list[dict[str, Any]] = []
    if kind == "text":
        empty["text"] = ""
        deltas = [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
    elif kind == "thinking":
        empty |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif kind == "tool_use":
        empty["input"] = {}
        pieces = halves(json.dumps(block["input"])) if block["input"] else []
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
