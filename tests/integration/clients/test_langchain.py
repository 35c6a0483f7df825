"""LangChain's chat models, for OpenAI and for Anthropic, as they come.

LangChain takes seconds to import, so it is imported by what uses it. Its asynchronous clients are cached for good and
outlive the loop of a test, so these are the synchronous ones, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from pydantic import SecretStr

from served import Served
from weather_upstream import ANSWER, CITY, QUESTION, RESULT, TOOL, WeatherUpstream

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import Runnable

Client: TypeAlias = "Callable[[str, str], BaseChatModel]"
KEY = SecretStr("unused")


def openai(address: str, model: str) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    # From any address but OpenAI's own it asks for no usage unless it is told to.
    return ChatOpenAI(
        base_url=f"{address}/v1", model=model, api_key=KEY, max_retries=0, max_completion_tokens=40, stream_usage=True
    )


def anthropic(address: str, model: str) -> BaseChatModel:
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(
        base_url=address, model_name=model, api_key=KEY, max_retries=0, max_tokens_to_sample=40, timeout=60, stop=None
    )


CLIENTS = pytest.mark.parametrize("client", [openai, anthropic])
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def get_weather(city: str) -> str:
    """The weather in a city."""
    return RESULT if city == CITY else "unknown"


async def answer(
    chat: Runnable[LanguageModelInput, AIMessage], messages: Sequence[Any], *, streamed: bool
) -> AIMessage:
    if not streamed:
        return await asyncio.to_thread(chat.invoke, messages)
    pieces: list[Any] = await asyncio.to_thread(lambda: list(chat.stream(messages)))
    assert len(pieces) > 2
    whole: AIMessage = sum(pieces[1:], start=pieces[0])
    return whole


@CLIENTS
@STREAMED
async def test_it_uses_a_tool(
    client: Client, model: str, streamed: bool, noa: Served, upstream: WeatherUpstream
) -> None:
    chat = client(noa.url, model).bind_tools([get_weather])
    messages: list[Any] = [("system", "You know the weather."), ("human", QUESTION)]
    called = await answer(chat, messages, streamed=streamed)
    [call] = called.tool_calls
    assert (call["name"], call["args"]) == (TOOL, {"city": CITY})
    result = get_weather(**call["args"])
    messages += [called, {"role": "tool", "content": result, "tool_call_id": call["id"]}]
    final = await answer(chat, messages, streamed=streamed)
    assert final.text == ANSWER
    assert final.usage_metadata is not None
    assert (final.usage_metadata["input_tokens"], final.usage_metadata["output_tokens"]) == (40, 12)
    assert [request.json.get("stream", False) for request in upstream.asked()] == [streamed] * 2


@pytest.mark.engine
@CLIENTS
@STREAMED
async def test_it_talks_to_the_demo_model(client: Client, streamed: bool, demo: str) -> None:
    said = await answer(client(demo, "current"), [("human", "Say hello.")], streamed=streamed)
    assert said.text
    assert said.usage_metadata is not None
    assert 0 < said.usage_metadata["output_tokens"] <= 40
