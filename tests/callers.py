"""The official SDKs as callers of Noa: what they are asked, what they make of the answer, in one form for both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import anthropic
import openai

from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import Received, ScriptedUpstream
from served import Served, serving

#: The key that Noa has for every upstream, of no form that anything would recognise.
CANARY: Final = "canary-0123456789abcdefghij"
#: The upstreams: the model that is asked, the dialect it is asked in, the path of its chats.
MODELS: Final = {"openai": "openai:gpt-4", "claude": "claude:claude-x", "llama.cpp": "llama.cpp:llama-x"}
DIALECTS: Final = {"openai": "openai", "claude": "anthropic", "llama.cpp": "openai"}
PATHS: Final = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}

APIError = (openai.APIError, anthropic.APIError)


@dataclass
class Heard:
    """What a caller got."""

    text: str = ""
    thinking: str = ""
    #: Anthropic's blocks of reasoning as they must go back, by whatever name the caller's dialect has for them.
    blocks: list[Any] = field(default_factory=list)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    finish: str | None = None
    #: Tokens: of the prompt, of the answer, from the cache, of reasoning.
    counted: tuple[int | None, ...] | None = None


class House:
    """Noa's server before one scripted upstream that plays every provider, and the two SDKs before Noa."""

    def __init__(self, upstream: ScriptedUpstream, server: Served, stack: AsyncExitStack) -> None:
        self.upstream = upstream
        self.server = server
        self._stack = stack
        self.openai = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)
        self.anthropic = anthropic.AsyncAnthropic(base_url=server.url, api_key="unused", max_retries=0)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.openai)
        await self._stack.enter_async_context(self.anthropic)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def chats(self, dialect: str) -> list[Received]:
        """What the upstream was asked in this dialect."""
        return [request for request in self.upstream.requests if request.path == PATHS[dialect]]

    async def ask(self, caller: str, stream: bool, **asked: Any) -> Heard:
        """Ask by the SDK of this dialect, and read the answer to its end."""
        if caller == "openai":
            if not stream:
                return _of_completion(await self.openai.chat.completions.create(**asked))
            asked.setdefault("stream_options", {"include_usage": True})
            chunks = await self.openai.chat.completions.create(**asked, stream=True)
            return _of_chunks([chunk async for chunk in chunks])
        if not stream:
            return _of_message(await self.anthropic.messages.create(**asked))
        async with self.anthropic.messages.stream(**asked) as events:
            return _of_message(await events.get_final_message())


@asynccontextmanager
async def house(home: Path, **settings: Any) -> AsyncIterator[House]:
    """The house, on loopback."""
    async with ScriptedUpstream(models=("gpt-4", "claude-x", "llama-x"), key=CANARY) as upstream:
        providers = (
            ProviderConfig(type="openai", api_key=Secret(CANARY), base_url=f"{upstream.url}/v1"),
            ProviderConfig(type="claude", api_key=Secret(CANARY), base_url=upstream.url),
            ProviderConfig(type="llama.cpp", api_key=Secret(CANARY), base_url=f"{upstream.url}/v1"),
        )
        configuration = Configuration(home=home, providers=providers, **settings)
        async with (
            ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager,
            serving(manager, hold_s=5) as server,
            House(upstream, server, AsyncExitStack()) as built,
        ):
            yield built


def _of_completion(reply: Any) -> Heard:
    [choice] = reply.choices
    message = choice.message
    return Heard(
        text=message.content or "",
        thinking=getattr(message, "reasoning_content", None) or "",
        blocks=getattr(message, "thinking_blocks", None) or [],
        calls=[(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()],
        finish=choice.finish_reason,
        counted=_counted(reply.usage),
    )


def _of_chunks(chunks: list[Any]) -> Heard:
    heard, calls = Heard(), dict[int, list[str]]()
    for chunk in chunks:
        if chunk.usage is not None:
            assert chunk.choices == []
            heard.counted = _counted(chunk.usage)
        for choice in chunk.choices:
            delta = choice.delta
            heard.text += delta.content or ""
            heard.thinking += getattr(delta, "reasoning_content", None) or ""
            heard.blocks += getattr(delta, "thinking_blocks", None) or []
            heard.finish = choice.finish_reason or heard.finish
            for call in delta.tool_calls or ():
                if call.id:
                    calls[call.index] = [call.id, call.function.name, ""]
                calls[call.index][2] += call.function.arguments or ""
    heard.calls = [(call_id, name, json.loads(text)) for call_id, name, text in calls.values()]
    return heard


def _counted(usage: Any) -> tuple[int | None, ...]:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = prompt.cached_tokens if prompt else None
    reasoned = completion.reasoning_tokens if completion else None
    return (usage.prompt_tokens, usage.completion_tokens, cached, reasoned)


_ENDS: Final = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


def _of_message(message: anthropic.types.Message) -> Heard:
    heard = Heard(finish=_ENDS[message.stop_reason or ""])
    for block in message.content:
        match block.type:
            case "text":
                heard.text += block.text
            case "thinking":
                heard.thinking += block.thinking
                heard.blocks.append(block.model_dump(exclude_none=True))
            case "redacted_thinking":
                heard.blocks.append(block.model_dump(exclude_none=True))
            case "tool_use":
                heard.calls.append((block.id, block.name, block.input))
            case other:
                raise AssertionError(f"a block of type {other}")
    usage = message.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    details = usage.output_tokens_details
    reasoned = details.thinking_tokens if details else None
    heard.counted = (usage.input_tokens + read + written, usage.output_tokens, read, reasoned)
    return heard
