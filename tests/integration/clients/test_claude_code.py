"""What a coding agent like Claude Code sends, before either upstream.

The requests are shaped like that client's: blocks everywhere, hints that only Anthropic knows, thinking in the history,
many tools, and always a stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import APIStatusError, AsyncAnthropic

from served import Served
from weather_upstream import ANSWER, CITY, QUESTION, RESULT, TOOL, WeatherUpstream

BETAS = ("claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27")
VERSION = "2023-06-01"
CACHED = {"type": "ephemeral"}
USER = "user_5f3a_account_11_session_0a6b3c0e-7f64-4d0e-9b0a-0f9a3f5d7c11"
SYSTEM: list[dict[str, Any]] = [
    {"type": "text", "text": "You are an agent that works in a terminal.", "cache_control": CACHED},
    {"type": "text", "text": "Working folder: /home/ann/project", "cache_control": {**CACHED, "ttl": "1h"}},
]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """A tool with the schema that the client's generator writes."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {key: {"type": kind, "description": f"The {key}."} for key, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"name": name, "description": f"Use {name} where it helps.", "input_schema": schema}


TOOLS = [
    *(tool(name, file_path="string", limit="number") for name in ("Read", "Write", "Edit", "Glob", "Grep", "Task")),
    tool("Bash", command="string", run_in_background="boolean"),
    tool(TOOL, city="string"),
]


@pytest.fixture
async def sdk(noa: Served) -> AsyncIterator[AsyncAnthropic]:
    """The SDK as that client sets it up: a token instead of a key, headers of its own."""
    headers = {"x-app": "cli", "anthropic-version": VERSION}
    async with AsyncAnthropic(base_url=noa.url, auth_token="unused", max_retries=0, default_headers=headers) as sdk:
        yield sdk


async def turn(sdk: AsyncAnthropic, model: str, messages: list[dict[str, Any]], **more: Any) -> Any:
    """One turn of the agent, streamed."""
    asked: Any = {
        "model": model,
        "max_tokens": 32_000,
        "system": SYSTEM,
        "messages": messages,
        "tools": TOOLS,
        "metadata": {"user_id": USER},
        "betas": list(BETAS),
        **more,
    }
    async with sdk.beta.messages.stream(**asked) as stream:
        return await stream.get_final_message()


def question() -> list[dict[str, Any]]:
    content = [
        {"type": "text", "text": "<system-reminder>\nThe list of tasks is empty.\n</system-reminder>"},
        {"type": "text", "text": QUESTION, "cache_control": CACHED},
    ]
    return [{"role": "user", "content": content}]


def with_result(messages: list[dict[str, Any]], called: Any) -> list[dict[str, Any]]:
    """The next turn: the model's own blocks as they came, and what the tool said, cached like everything else."""
    [call] = [block for block in called.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": RESULT}]}
    own = [block.model_dump(exclude_none=True) for block in called.content]
    return [
        *messages,
        {"role": "assistant", "content": own},
        {"role": "user", "content": [{**result, "is_error": False, "cache_control": CACHED}]},
    ]


async def test_it_works_through_its_tools(sdk: AsyncAnthropic, model: str, upstream: WeatherUpstream) -> None:
    called = await turn(sdk, model, question())
    assert called.stop_reason == "tool_use"
    [call] = called.content
    assert (call.name, call.input) == (TOOL, {"city": CITY})
    final = await turn(sdk, model, with_result(question(), called))
    assert (final.stop_reason, final.content[0].text) == ("end_turn", ANSWER)
    assert (final.usage.input_tokens, final.usage.output_tokens) == (40, 12)
    first, second = upstream.asked()
    names = [(each.get("function") or each)["name"] for each in first.json["tools"]]
    assert names == [each["name"] for each in TOOLS]
    assert len(second.json["messages"]) > len(first.json["messages"])


async def test_what_only_anthropic_knows_reaches_anthropic_as_it_was(
    sdk: AsyncAnthropic, upstream: WeatherUpstream
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 31_999}
    edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    await turn(sdk, "claude:claude-x", question(), thinking=thinking, context_management=edits)
    [asked] = upstream.asked()
    assert asked.json["system"] == SYSTEM
    assert asked.json["messages"] == question()
    assert asked.json["tools"] == TOOLS
    assert asked.json["metadata"] == {"user_id": USER}
    assert (asked.json["thinking"], asked.json["context_management"]) == (thinking, edits)
    assert set(BETAS) <= set(asked.headers["anthropic-beta"].split(","))
    assert asked.headers["anthropic-version"] == VERSION
    assert asked.headers["x-api-key"] == "sk-unused"
    assert "authorization" not in asked.headers


async def test_thinking_of_earlier_turns_does_not_keep_another_upstream_from_answering(
    sdk: AsyncAnthropic, upstream: WeatherUpstream
) -> None:
    called = await turn(sdk, "openai:gpt-4", question())
    messages = with_result(question(), called)
    messages[1]["content"].insert(0, {"type": "thinking", "thinking": "Look it up.", "signature": "c2lnbmVk"})
    final = await turn(sdk, "openai:gpt-4", messages)
    assert final.content[0].text == ANSWER
    system = [message["content"] for message in upstream.asked()[-1].json["messages"] if message["role"] == "system"]
    assert all(block["text"] in str(system) for block in SYSTEM)
    assert "cache_control" not in upstream.asked()[-1].body.decode()


async def test_a_question_of_one_token_tells_whether_there_is_anybody(sdk: AsyncAnthropic, model: str) -> None:
    probe: Any = [{"role": "user", "content": "quota"}]
    answer = await sdk.beta.messages.create(
        model=model, max_tokens=1, messages=probe, metadata={"user_id": USER}, betas=list(BETAS)
    )
    assert answer.type == "message"


async def test_tokens_are_counted_or_it_is_said_that_they_cannot_be(sdk: AsyncAnthropic, model: str) -> None:
    asked: Any = {"system": SYSTEM, "messages": question(), "tools": TOOLS, "betas": ["token-counting-2024-11-01"]}
    if model.startswith("claude"):
        counted = await sdk.beta.messages.count_tokens(model=model, **asked)
        assert counted.input_tokens == 9
    else:
        # An OpenAI service has no such route, and a number of our own making would be wrong.
        with pytest.raises(APIStatusError) as refused:
            await sdk.beta.messages.count_tokens(model=model, **asked)
        assert refused.value.status_code in (400, 404, 501)
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["type"] == "error"
