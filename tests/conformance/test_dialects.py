"""Every caller on every upstream: both official SDKs, whole and streamed, with everything both dialects have.

A cell of the table is a caller's question in its own dialect, the upstream's answer in its, and what must be seen: the
question as the upstream got it, and the answer as the SDK made it out. What a cell cannot express is refused by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import anthropic
import openai
import pytest

from callers import DIALECTS, MODELS, PATHS, Heard, House
from said import Said, answer
from scripted_upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS = ("openai", "anthropic")
UPSTREAMS = ("openai", "claude", "llama.cpp")

PNG = "iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
LOOK_UP = {"type": "object", "properties": {"city": {"type": "string"}}}
SYSTEM, QUESTION = "Be brief.", "What is it?"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``asked`` by caller, ``sent`` by the upstream's dialect (or ``caller>upstream``), ``said`` and ``heard``."""

    asked: dict[str, dict[str, Any]]
    sent: dict[str, dict[str, Any]]
    said: Said
    heard: Heard = field(default_factory=Heard)


def _tool(caller: str) -> dict[str, Any]:
    described = {"name": "look_up", "description": "Looks a city up."}
    if caller == "anthropic":
        return {**described, "input_schema": LOOK_UP}
    return {"type": "function", "function": {**described, "parameters": LOOK_UP}}


def _call(call_id: str, city: str) -> dict[str, Any]:
    function = {"name": "look_up", "arguments": json.dumps({"city": city}, separators=(",", ":"))}
    return {"id": call_id, "type": "function", "function": function}


def _use(call_id: str, city: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "look_up", "input": {"city": city}}


OPENAI_TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": "I look.", "tool_calls": [_call("c1", "Oslo"), _call("c2", "Rome")]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    {"role": "tool", "tool_call_id": "c2", "content": "sun"},
]
ANTHROPIC_TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": [{"type": "text", "text": "I look."}, _use("c1", "Oslo"), _use("c2", "Rome")]},
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "sun"},
        ],
    },
]
OPENAI_PICTURES = [
    {"type": "text", "text": QUESTION},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
]
ANTHROPIC_PICTURES = [
    {"type": "text", "text": QUESTION},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
]
HI = [{"role": "user", "content": QUESTION}]
BUDGET = {"type": "enabled", "budget_tokens": 2048}

SCENARIOS = {
    "text": Scenario(
        asked={
            "openai": {
                "messages": [{"role": "system", "content": SYSTEM}, *HI],
                "max_tokens": 9,
                "stop": ["END"],
                "temperature": 0.5,
            },
            "anthropic": {
                "system": SYSTEM,
                "messages": HI,
                "max_tokens": 9,
                "stop_sequences": ["END"],
                # The SDK's newest API has no temperature, but older models do.
                "extra_body": {"temperature": 0.5},
            },
        },
        sent={
            "openai": {
                "messages": [{"role": "system", "content": SYSTEM}, *HI],
                "max_tokens": 9,
                "stop": ["END"],
                "temperature": 0.5,
            },
            "anthropic": {
                "system": SYSTEM,
                "messages": HI,
                "max_tokens": 9,
                "stop_sequences": ["END"],
                "temperature": 0.5,
            },
        },
        said=Said(text="A kingfisher — “blå”.", finish="length"),
        heard=Heard(text="A kingfisher — “blå”.", finish="length"),
    ),
    "tools": Scenario(
        asked={
            "openai": {
                "messages": OPENAI_TOOL_TURNS,
                "max_tokens": 9,
                "tools": [_tool("openai")],
                "tool_choice": "required",
                "parallel_tool_calls": False,
            },
            "anthropic": {
                "messages": ANTHROPIC_TOOL_TURNS,
                "max_tokens": 9,
                "tools": [_tool("anthropic")],
                "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            },
        },
        sent={
            "openai": {
                "messages": OPENAI_TOOL_TURNS,
                "tools": [_tool("openai")],
                "tool_choice": "required",
                "parallel_tool_calls": False,
            },
            "anthropic": {
                "messages": ANTHROPIC_TOOL_TURNS,
                "tools": [_tool("anthropic")],
                "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            },
        },
        said=Said(
            text="Let me look.",
            calls=[("call_1", "look_up", {"city": "Ålesund"}), ("call_2", "look_up", {})],
            finish="tool_calls",
        ),
        heard=Heard(
            text="Let me look.",
            calls=[("call_1", "look_up", {"city": "Ålesund"}), ("call_2", "look_up", {})],
            finish="tool_calls",
        ),
    ),
    "image": Scenario(
        asked={
            "openai": {"messages": [{"role": "user", "content": OPENAI_PICTURES}], "max_tokens": 9},
            "anthropic": {"messages": [{"role": "user", "content": ANTHROPIC_PICTURES}], "max_tokens": 9},
        },
        sent={
            "openai": {"messages": [{"role": "user", "content": OPENAI_PICTURES}]},
            "anthropic": {"messages": [{"role": "user", "content": ANTHROPIC_PICTURES}]},
        },
        said=Said(text="Two pictures."),
        heard=Heard(text="Two pictures.", finish="stop"),
    ),
    "schema": Scenario(
        asked={
            "openai": {
                "messages": HI,
                "max_tokens": 9,
                "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
            },
            "anthropic": {
                "messages": HI,
                "max_tokens": 9,
                "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            },
        },
        sent={
            "openai": {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
            "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        },
        said=Said(text='{"city": "Oslo"}'),
        heard=Heard(text='{"city": "Oslo"}', finish="stop"),
    ),
    "thinking": Scenario(
        asked={
            "openai": {"messages": HI, "max_completion_tokens": 4000, "reasoning_effort": "low"},
            "anthropic": {"messages": HI, "max_tokens": 4000, "thinking": BUDGET},
        },
        sent={
            "openai>openai": {"max_completion_tokens": 4000, "reasoning_effort": "low"},
            "openai>claude": {
                "max_tokens": 4000,
                "thinking": {"type": "adaptive"},
                "output_config": {"effort": "low"},
            },
            "openai>llama.cpp": {"reasoning_effort": "low"},
            "anthropic>openai": {"max_tokens": 4000, "reasoning_effort": "low"},
            "anthropic>claude": {"thinking": BUDGET},
            "anthropic>llama.cpp": {
                "thinking_budget_tokens": 2048,
                "chat_template_kwargs": {"enable_thinking": True},
            },
        },
        said=Said(text="It is 4.", thinking="Two and two.", signature="sig==", redacted="hidden=="),
        heard=Heard(text="It is 4.", thinking="Two and two.", finish="stop"),
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_cell(house: House, name: str, caller: str, upstream: str, stream: bool) -> None:
    scenario, dialect = SCENARIOS[name], DIALECTS[upstream]
    house.upstream.script(PATHS[dialect], answer(scenario.said, dialect, stream=stream))
    heard = await house.ask(caller, stream, model=MODELS[upstream], **scenario.asked[caller])

    sent = house.chats(dialect)[-1].json
    expected = scenario.sent.get(dialect) or scenario.sent[f"{caller}>{upstream}"]
    assert {field: sent.get(field) for field in expected} == expected
    assert sent["model"] == MODELS[upstream].partition(":")[2]
    assert bool(sent.get("stream")) is stream
    if caller == dialect:
        extra = scenario.asked[caller].get("extra_body", {})
        assert sent.keys() <= {*scenario.asked[caller], *extra, "model", "stream", "stream_options"} - {"extra_body"}

    assert (heard.text, heard.thinking) == (scenario.heard.text, scenario.heard.thinking)
    assert (heard.calls, heard.finish) == (scenario.heard.calls, scenario.heard.finish)
    assert heard.counted == (20, 7, 8, 3), "every token is counted once"
    if scenario.said.signature and dialect == "anthropic":
        assert heard.blocks == scenario.said.blocks()[:2], "what proves the reasoning reaches whoever must send it back"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_reasoning_goes_back_to_who_signed_it(house: House, stream: bool) -> None:
    """The second turn of a conversation with tools: Anthropic demands its blocks back, unchanged and in their order."""
    call = ("call_1", "look_up", {"city": "Oslo"})
    said = Said(thinking="Look it up.", signature="sig==", calls=[call], finish="tool_calls")
    house.upstream.script(PATHS["anthropic"], answer(said, "anthropic", stream=stream))
    asked: dict[str, Any] = {"tools": [_tool("openai")], "max_completion_tokens": 4000, "reasoning_effort": "low"}
    heard = await house.ask("openai", stream, model=MODELS["claude"], messages=HI, **asked)
    turn = {
        "role": "assistant",
        "content": heard.text,
        "reasoning_content": heard.thinking,
        "thinking_blocks": heard.blocks,
        "tool_calls": [_call("call_1", "Oslo")],
    }
    result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    await house.ask("openai", False, model=MODELS["claude"], messages=[*HI, turn, result], **asked)
    sent = house.chats("anthropic")[-1].json["messages"]
    assert sent[1] == {"role": "assistant", "content": said.blocks()}


@pytest.mark.parametrize(
    ("reason", "anthropics"),
    [("stop", "tool_use"), ("length", "max_tokens"), ("content_filter", "refusal")],
)
async def test_reasons_for_ending_are_the_callers(house: House, reason: str, anthropics: str) -> None:
    """OpenAI says ``stop`` after a call that was demanded; Anthropic's callers look for ``tool_use`` to go on."""
    said = Said(calls=[("call_1", "look_up", {})])
    for stream in (False, True):
        body = answer(said, "openai", stream=stream)
        wrong = b'"finish_reason": "stop"'
        right = b'"finish_reason": "%s"' % reason.encode()
        house.upstream.script(
            PATHS["openai"],
            _with(body, wrong, right),
        )
        if not stream:
            reply = await house.anthropic.messages.create(model=MODELS["openai"], max_tokens=9, messages=HI)  # type: ignore[arg-type]
        else:
            async with house.anthropic.messages.stream(model=MODELS["openai"], max_tokens=9, messages=HI) as events:  # type: ignore[arg-type]
                reply = await events.get_final_message()
        assert reply.stop_reason == anthropics


def _with(scripted: Answer, old: bytes, new: bytes) -> Answer:
    chunks = scripted.chunks and tuple(chunk.replace(old, new) for chunk in scripted.chunks)
    return replace(scripted, body=scripted.body.replace(old, new), chunks=chunks)


# What a pair cannot express.

AUDIO = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}]}]
DOCUMENT = [
    {
        "role": "user",
        "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}],
    }
]
PICTURE_RESULT = [
    *ANTHROPIC_TOOL_TURNS[:2],
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": ANTHROPIC_PICTURES}]},
]
LOW = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test", "detail": "low"}}]}]

REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("openai", "claude", {"seed": 7}, "seed"),
    ("openai", "claude", {"n": 2}, "n has no"),
    ("openai", "claude", {"logprobs": True}, "logprobs"),
    ("openai", "claude", {"frequency_penalty": 1}, "frequency_penalty"),
    ("openai", "claude", {"response_format": {"type": "json_object"}}, "json_schema"),
    ("openai", "claude", {"messages": AUDIO}, "messages[0].content[0]"),
    ("openai", "claude", {"messages": LOW}, "detail"),
    ("openai", "claude", {"messages": [{"role": "user", "content": "x", "name": "ada"}]}, "name"),
    ("openai", "claude", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
    ("anthropic", "openai", {"messages": DOCUMENT}, "messages[0].content[0]"),
    ("anthropic", "llama.cpp", {"messages": DOCUMENT}, "messages[0].content[0]"),
    ("anthropic", "openai", {"messages": PICTURE_RESULT}, "images in the results of tools"),
    ("anthropic", "openai", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    ("anthropic", "llama.cpp", {"extra_body": {"mcp_servers": [{"type": "url"}]}}, "mcp_servers"),
    ("anthropic", "openai", {"thinking": {"type": "between_tools"}}, "thinking"),
    ("anthropic", "openai", {"container": "c"}, "container"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("caller", "upstream", "asked", "named"), REFUSED)
async def test_what_cannot_be_said_is_refused_by_name(
    house: House, caller: str, upstream: str, asked: dict[str, Any], named: str, stream: bool
) -> None:
    before = len(house.upstream.requests)
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as refusal:
        await house.ask(caller, stream, model=MODELS[upstream], **{"max_tokens": 9, "messages": HI, **asked})
    assert named in str(refusal.value)
    chats = [request for request in house.upstream.requests[before:] if request.path in PATHS.values()]
    assert chats == [], "nothing was sent, so nothing was paid for"
