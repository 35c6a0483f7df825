"""The examples for SDKs that are programs of their own, against Noa over a scripted shared_upstream.

They run in this process, because each would take a second to import what it needs.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest

from scripted_upstream import json_answer
from served import Served
from weather_upstream import ANSWER, CITY, WeatherUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY_NAME = ("current", "openai:gpt-4", "claude:claude-x")


@pytest.fixture
def address(shared_noa: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NOA_URL", shared_noa.url)
    monkeypatch.delenv("NOA_API_KEY", raising=False)
    return shared_noa.url


async def printed(program: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a program without asyncio prints; the server goes on meanwhile."""
    await asyncio.to_thread(importlib.import_module(program).main)
    return capsys.readouterr().out


async def test_openais_sdk(address: str, model: str, shared_noa: Served, capsys: pytest.CaptureFixture[str]) -> None:
    await shared_noa.post("/api/v1/models/switch", {"key": model})
    shown = await printed("openai_sdk", capsys)
    for words in (*EVERY_NAME, "40 tokens read, 12 written", ANSWER, " says: I have no such tool.", "noa ls"):
        assert words in shown


async def test_anthropics_sdk(address: str, model: str, shared_noa: Served, capsys: pytest.CaptureFixture[str]) -> None:
    await shared_noa.post("/api/v1/models/switch", {"key": model})
    shown = await printed("anthropic_sdk", capsys)
    counted = "9 tokens" if model.startswith("claude") else "Error code: 400"
    for words in (*EVERY_NAME, "40 tokens read, 12 written", ANSWER, " answered\n", counted):
        assert words in shown


def chat(*calls: tuple[str, str], text: str | None = None) -> Any:
    """A whole answer of an OpenAI service: text, or calls of functions."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    usage = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4"}
    return json_answer({**head, "choices": [choice], "usage": usage})


async def test_an_agent_of_pydantic_ai(
    address: str, shared_noa: Served, shared_upstream: WeatherUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    await shared_noa.post("/api/v1/models/switch", {"key": "openai:gpt-4"})
    shared_upstream.script(
        "/v1/chat/completions",
        chat(text="Hello there."),
        chat(("get_weather", '{"city": "Oslo"}')),
        chat(("final_result", '{"city": "Oslo", "degrees": 7, "rain": true}')),
    )
    await importlib.import_module("pydantic_ai_agent").main()
    assert capsys.readouterr().out.splitlines() == ["Hello there.", f"{CITY}: 7 degrees, rain", "2 requests"]
    _, first, second = shared_upstream.asked()[-3:]
    assert [tool["function"]["name"] for tool in first.json["tools"]] == ["get_weather", "final_result"]
    assert second.json["messages"][-1]["content"] == "7 degrees, light rain"
