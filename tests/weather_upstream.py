"""A scripted upstream whose model uses a tool, in OpenAI's dialect and in Anthropic's.

Asked with the tool at hand, it calls ``get_weather`` for Oslo, in pieces where it streams. Asked with the tool's
result, it repeats that result in its answer. So a conversation ends with ``ANSWER`` only if the tool's definition, the
call and the result all came through, whatever dialects they crossed on their way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from scripted_upstream import Answer, Received, ScriptedUpstream, events_answer, json_answer

#: What its models are called where Noa has it as OpenAI and as Anthropic.
SERVED_AS = ("openai:gpt-4", "claude:claude-x")
TOOL = "get_weather"
QUESTION = "What is the weather in Oslo?"
CITY = "Oslo"
#: What a client's tool answers for the city.
RESULT = "7 degrees, light rain"
ANSWER = f"The weather in {CITY}: {RESULT}."

#: The arguments as they are streamed: cut within a key, a value and a letter's escape.
_ARGUMENTS = ('{"ci', 'ty": "O', 'sl\\u006f"}')
_CALL_ID = "call_weather_1"


class WeatherUpstream(ScriptedUpstream):
    """The upstream; ``models`` answer as the module says, in the dialect they are asked in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(models=("gpt-4", "claude-x"), **options)

    def asked(self) -> list[Received]:
        """The conversations it was asked to continue, in their order."""
        return [request for request in self.requests if request.path in ("/v1/chat/completions", "/v1/messages")]

    def _play(self, request: Received, path: str) -> Answer:
        if path == "/chat/completions" and request.json["model"] in self.models:
            return _chat(request.json)
        if path == "/messages" and request.json["model"] in self.models:
            return _message(request.json)
        return super()._play(request, path)


def _said(asked: dict[str, Any]) -> str:
    """What the model says once it needs no tool."""
    results = list(_results(asked["messages"]))
    return f"The weather in {CITY}: {results[-1]}." if results else "I have no such tool."


def _results(messages: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The results of the call in a conversation of either dialect."""
    for message in messages:
        if message["role"] == "tool" and message["tool_call_id"] == _CALL_ID:
            yield _text(message["content"])
        elif isinstance(message["content"], list):
            for block in message["content"]:
                if block.get("type") == "tool_result" and block["tool_use_id"] == _CALL_ID:
                    yield _text(block["content"])


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _calls(asked: dict[str, Any], schemas: Iterable[dict[str, Any]]) -> bool:
    """Whether the model calls its tool: it is offered, takes a city, and was not called yet."""
    offered = any("city" in schema.get("properties", {}) for schema in schemas)
    return offered and not list(_results(asked["messages"]))


# OpenAI's dialect.


def _chat(asked: dict[str, Any]) -> Answer:
    functions = [tool["function"] for tool in asked.get("tools") or ()]
    calls = _calls(asked, [each["parameters"] for each in functions if each["name"] == TOOL])
    deltas = list(_chat_call() if calls else _chat_text(_said(asked)))
    reason = "tool_calls" if calls else "stop"
    head = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": asked["model"]}
    usage = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
    if not asked.get("stream"):
        choice = {"index": 0, "message": _assembled(deltas), "finish_reason": reason}
        return json_answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    head["object"] = "chat.completion.chunk"
    ends = [None] * len(deltas) + [reason]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip([*deltas, {}], ends, strict=True)
    ]
    if (asked.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": usage})
    return events_answer(*chunks, "[DONE]")


def _chat_call() -> Iterable[dict[str, Any]]:
    call = {"index": 0, "id": _CALL_ID, "type": "function", "function": {"name": TOOL, "arguments": ""}}
    yield {"role": "assistant", "content": None, "tool_calls": [call]}
    for piece in _ARGUMENTS:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _chat_text(text: str) -> Iterable[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for word in text.split(" "):
        yield {"content": word if text.startswith(word) else f" {word}"}


def _assembled(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    if "tool_calls" not in deltas[0]:
        return {"role": "assistant", "content": "".join(delta["content"] for delta in deltas)}
    call = {"id": _CALL_ID, "type": "function", "function": {"name": TOOL, "arguments": "".join(_ARGUMENTS)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


# Anthropic's dialect.


def _message(asked: dict[str, Any]) -> Answer:
    tools = [tool["input_schema"] for tool in asked.get("tools") or () if tool["name"] == TOOL]
    if _calls(asked, tools):
        reason = "tool_use"
        block: dict[str, Any] = {"type": "tool_use", "id": _CALL_ID, "name": TOOL, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *_ARGUMENTS)]
        whole = {**block, "input": json.loads("".join(_ARGUMENTS))}
    else:
        reason = "end_turn"
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": delta["content"]} for delta in _chat_text(_said(asked))]
        whole = {**block, "text": _said(asked)}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None}
    if not asked.get("stream"):
        usage = {"input_tokens": 40, "output_tokens": 12}
        return json_answer({**head, "content": [whole], "stop_reason": reason, "usage": usage})
    begin = {**head, "content": [], "stop_reason": None, "usage": {"input_tokens": 40, "output_tokens": 1}}
    ending = {
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"input_tokens": 40, "output_tokens": 12},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begin},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", **ending},
        {"type": "message_stop"},
    ]
    return events_answer(*events, event_names=[event["type"] for event in events])
