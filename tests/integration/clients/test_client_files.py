"""The configuration files in ``examples/clients``: their form, and what their programs send because of them.

The programs are not run; their requests are built here as their sources and documentation show (November 2026), and
the answers are read as strictly as Zed reads them, which is the strictest of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import pytest_asyncio
import yaml

from client_files import ADDRESS, FOLDER, Client, claude_code, continue_dev, open_webui, zed
from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import json_answer
from served import Served, serving
from weather_upstream import ANSWER, CITY, QUESTION, RESULT, SERVED_AS, TOOL, WeatherUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

READERS = (claude_code, continue_dev, open_webui, zed)
FILES = {
    "Claude Code": "claude-code/settings.json",
    "Continue": "continue/config.yaml",
    "Zed": "zed/settings.json",
}
FUNCTION = {
    "name": TOOL,
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": FUNCTION}]
TUNNEL = "noa.example.com"
KEY = "sk-of-this-test"


class FunctionPiece(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct):
    index: int
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(msgspec.Struct):
    role: Literal["user", "assistant", "system", "tool"] | None = None
    content: str | None = None
    tool_calls: list[CallPiece] | None = None


class Choice(msgspec.Struct):
    index: int
    delta: Delta | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Chunk(msgspec.Struct):
    choices: list[Choice]
    usage: Usage | None = None


class Said(msgspec.Struct):
    """A streamed answer, put together."""

    text: str = ""
    calls: dict[int, dict[str, str]] = msgspec.field(default_factory=dict)
    reason: str | None = None
    usage: Usage | None = None

    def take(self, chunk: Chunk) -> None:
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            self.reason = choice.finish_reason or self.reason
            delta = choice.delta or Delta()
            self.text += delta.content or ""
            for piece in delta.tool_calls or ():
                call = self.calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
                function = piece.function or FunctionPiece()
                call["id"] += piece.id or ""
                call["name"] += function.name or ""
                call["arguments"] += function.arguments or ""

    def message(self) -> dict[str, Any]:
        """The assistant's turn, as it is sent back."""
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in self.calls.values()
        ]
        return {"role": "assistant", "content": self.text or None, "tool_calls": calls}


Body = Callable[[str, list[dict[str, Any]]], dict[str, Any]]


def asked_by_continue(model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """``modifyChatBody`` of packages/openai-adapters/src/apis/OpenAI.ts, on ``_convertArgs`` of core/llm."""
    asked = {"model": model, "messages": messages, "max_tokens": 2048, "stream": True, "tools": TOOLS}
    return {**asked, "stream_options": {"include_usage": True}}


def asked_by_open_webui(model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """``generate_chat_completion`` of backend/open_webui/routers/openai.py, with tools in their native form."""
    return {"stream": True, "model": model, "messages": messages, "tools": TOOLS}


def asked_by_zed(model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """``Request`` of crates/open_ai/src/open_ai.rs."""
    asked = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    return {**asked, "max_completion_tokens": 4096, "temperature": 1.0, "tool_choice": "auto", "tools": TOOLS}


def headers(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.key}", "Content-Type": "application/json"}


def address(client: Client, noa: Served) -> str:
    return client.base_url.replace(ADDRESS, noa.url)


async def streamed(url: str, noa: Served, given: Mapping[str, str], body: object) -> Said:
    """An answer read line by line, every line but the last a chunk of the form these clients know."""
    said = Said()
    async with noa.session.post(url, data=json.dumps(body), headers=given) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        lines = [line.decode().rstrip("\n") async for line in response.content]
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data.pop() == "[DONE]"
    for line in data:
        said.take(msgspec.json.decode(line, type=Chunk))
    return said


async def use(noa: Served, key: str) -> None:
    """Put a model in use, so that ``current`` means it."""
    assert (await noa.post("/api/v1/models/switch", {"key": key})).status == 200


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
async def test_a_file_has_the_form_of_its_program_and_names_what_is_served(
    read: Callable[[], Client], shared_noa: Served
) -> None:
    client = read()
    assert client.base_url == (ADDRESS if read is claude_code else f"{ADDRESS}/v1")
    assert client.key == "unused"
    await use(shared_noa, "openai:gpt-4")
    body = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 5}
    for model in client.models:
        answer = await shared_noa.post("/v1/chat/completions", {"model": model, **body})
        assert answer.status == 200, answer.json


def within(part: object, whole: object) -> bool:
    """Whether all that is in the part is in the whole as well; of a list, in one of its entries."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and within(value, whole[name]) for name, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return all(any(within(each, other) for other in whole) for each in part)
    return part == whole


@pytest.mark.parametrize(("title", "file"), FILES.items())
async def test_what_the_page_shows_of_a_file_stands_in_it(title: str, file: str) -> None:
    page = (FOLDER.parent / "clients.md").read_text(encoding="utf-8")
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## )", page, flags=re.DOTALL | re.MULTILINE)
    assert f"](clients/{file})" in text
    [shown] = re.findall(r"```(?:json|yaml)\n(.*?)```", text, flags=re.DOTALL)
    assert within(yaml.safe_load(shown), yaml.safe_load((FOLDER / file).read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("read", "asked"),
    [(continue_dev, asked_by_continue), (open_webui, asked_by_open_webui), (zed, asked_by_zed)],
    ids=lambda each: each.__name__,
)
async def test_an_editor_works_through_its_tools(
    read: Callable[[], Client], asked: Body, model: str, shared_noa: Served
) -> None:
    client, messages = read(), [{"role": "system", "content": "You edit."}, {"role": "user", "content": QUESTION}]
    await use(shared_noa, model)
    url = f"{address(client, shared_noa)}/chat/completions"
    called = await streamed(url, shared_noa, headers(client), asked(client.models[0], messages))
    [call] = called.calls.values()
    assert (call["name"], json.loads(call["arguments"]), called.reason) == (TOOL, {"city": CITY}, "tool_calls")
    messages = [*messages, called.message(), {"role": "tool", "content": RESULT, "tool_call_id": call["id"]}]
    final = await streamed(url, shared_noa, headers(client), asked(client.models[0], messages))
    assert (final.text, final.reason) == (ANSWER, "stop")
    if asked is not asked_by_open_webui:  # which asks for no usage unless a model is set so
        assert final.usage == Usage(prompt_tokens=40, completion_tokens=12, total_tokens=52)


async def test_what_lists_the_models_itself_gets_every_name(shared_noa: Served) -> None:
    client = open_webui()
    async with shared_noa.session.get(f"{address(client, shared_noa)}/models", headers=headers(client)) as response:
        listed = await response.json()
    assert listed["object"] == "list"
    assert {"current", "openai:gpt-4", "claude:claude-x"} <= {row["id"] for row in listed["data"]}


async def test_claude_code_finds_the_aliases_that_are_named_for_it(shared_noa: Served) -> None:
    assert (
        await shared_noa.ask("PUT", "/api/v1/aliases/claude-local", {"key": "openai:gpt-4", "load": False})
    ).status == 200
    client = claude_code()
    for version in ({}, {"anthropic-version": "2023-06-01"}):
        given = {"Authorization": f"Bearer {client.key}", **version}
        url = f"{address(client, shared_noa)}/v1/models?limit=1000"
        async with shared_noa.session.get(url, headers=given, allow_redirects=False) as response:
            assert response.status == 200
            listed = await response.json()
        shown = {row["id"]: row.get("display_name") for row in listed["data"]}
        # It shows what has either word in it; before its version 2.1.223, what begins with one.
        taken = {name for name in shown if name.startswith(("claude", "anthropic"))}
        assert taken == {"claude-local", "claude:claude-x", "claude:gpt-4"}
        assert bool(shown["claude-local"]) is bool(version)


async def test_claude_codes_look_whether_anybody_is_there_is_answered(shared_noa: Served) -> None:
    client = claude_code()
    async with shared_noa.session.head(
        f"{address(client, shared_noa)}/", headers={"Authorization": f"Bearer {client.key}"}
    ) as probe:
        assert probe.status == 200


@pytest_asyncio.fixture(loop_scope="module")
async def public(shared_upstream: WeatherUpstream, tmp_path: Path) -> AsyncIterator[Served]:
    """Noa behind a tunnel: asked by a name of the world's, with a key."""
    provider = ProviderConfig(type="openai", api_key=Secret("sk-unused"), base_url=f"{shared_upstream.url}/v1")
    configuration = Configuration(
        home=tmp_path, providers=(provider,), api_key=Secret(KEY), allowed_hosts=(TUNNEL, "host.docker.internal")
    )
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager, serving(manager) as server:
        await manager.load_model("openai:gpt-4")
        yield server


async def test_from_a_tunnel_or_a_container_it_is_reached_by_a_name_that_is_allowed(public: Served) -> None:
    given = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    body = asked_by_open_webui("current", [{"role": "user", "content": QUESTION}])
    for host in (TUNNEL, "host.docker.internal:3001"):
        said = await streamed(f"{public.url}/v1/chat/completions", public, {**given, "Host": host}, body)
        assert said.reason == "tool_calls"
    assert (await public.get("/v1/models", {"Host": TUNNEL, "Authorization": "Bearer sk-wrong"})).status == 401
    assert (await public.get("/v1/models", {**given, "Host": "elsewhere.example.com"})).status == 421


async def test_what_cursor_sends_for_models_whose_name_it_knows_is_refused_by_what_is_missing(
    shared_noa: Served, shared_upstream: WeatherUpstream
) -> None:
    # A request in the form of the Responses API, at the address of the other one: by its service, or by Noa.
    missing = {"message": "Missing required parameter: 'messages'.", "type": "invalid_request_error", "code": None}
    shared_upstream.script("/v1/chat/completions", json_answer({"error": missing}, 400))
    for model in SERVED_AS:
        body = {"model": model, "input": [{"role": "user", "content": "Hello."}], "stream": True, "user": "someone"}
        answer = await shared_noa.post("/v1/chat/completions", body)
        assert answer.status == 400
        assert "messages" in answer.error["message"]
