"""Both official SDKs on the real engine, with what the demo model can: text, and answers held to a schema."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from callers import House
from noa.config import Configuration
from noa.manager import ModelManager
from scripted_upstream import ScriptedUpstream
from served import serving

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

MODEL = "llama.cpp:smol"
HI: list[Any] = [{"role": "user", "content": "Say hello."}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"number": {"type": "integer", "maximum": 9}},
    "required": ["number"],
    "additionalProperties": False,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("engine")
    (home / "models").mkdir()
    (home / "models" / "smol.gguf").symlink_to(demo_model)
    async with (
        ScriptedUpstream() as nobody,
        ModelManager(configuration=Configuration(home=home, context_size=512)) as manager,
        serving(manager) as server,
        House(nobody, server, AsyncExitStack()) as built,
    ):
        yield built


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_text(house: House, caller: str, stream: bool) -> None:
    asked: dict[str, Any] = {"system": "Be brief.", "messages": HI}
    if caller == "openai":
        asked = {"messages": [{"role": "system", "content": "Be brief."}, *HI]}
    heard = await house.ask(caller, stream, model=MODEL, max_tokens=6, extra_body={"temperature": 0}, **asked)
    assert heard.text
    assert heard.finish == "length"
    assert heard.counted is not None
    assert heard.counted[1] == 6
    assert (heard.counted[0] or 0) > 10


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("caller", ["openai", "anthropic"])
async def test_a_schema(house: House, caller: str, stream: bool) -> None:
    """The engine itself drops Anthropic's schema without a word; through Noa it binds."""
    wanted: dict[str, Any] = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    if caller == "openai":
        wanted = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}
    heard = await house.ask(caller, stream, model=MODEL, max_tokens=40, messages=HI, **wanted)
    assert isinstance(json.loads(heard.text)["number"], int)
    assert heard.finish == "stop"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_demand_that_the_model_would_ignore_is_refused(house: House, stream: bool) -> None:
    """Its template has no tools, and the engine says nothing of that."""
    function = {"name": "look_up", "parameters": {"type": "object"}}
    for choice in ("required", {"type": "function", "function": {"name": "look_up"}}):
        asked: dict[str, Any] = {"tools": [{"type": "function", "function": function}], "tool_choice": choice}
        with pytest.raises(openai.BadRequestError, match="cannot call tools") as refusal:
            await house.ask("openai", stream, model=MODEL, max_tokens=6, messages=HI, **asked)
        assert refusal.value.param == "tool_choice"
    tool = {"name": "look_up", "input_schema": {"type": "object"}}
    for forced in ({"type": "any"}, {"type": "tool", "name": "look_up"}):
        with pytest.raises(anthropic.BadRequestError, match="tool_choice"):
            await house.ask(
                "anthropic", stream, model=MODEL, max_tokens=6, messages=HI, tools=[tool], tool_choice=forced
            )
    heard = await house.ask(
        "anthropic", stream, model=MODEL, max_tokens=6, messages=HI, tools=[tool], tool_choice={"type": "auto"}
    )
    assert heard.text, "to leave it to the model is a demand for nothing"


async def test_tokens_are_counted_as_the_engine_counts_them(house: House) -> None:
    counted = await house.anthropic.messages.count_tokens(model=MODEL, messages=HI, system="Be brief.")
    heard = await house.ask("anthropic", False, model=MODEL, max_tokens=2, messages=HI, system="Be brief.")
    assert heard.counted is not None
    assert counted.input_tokens == heard.counted[0]


async def test_a_budget_for_thinking_does_no_harm_to_a_model_that_does_not_think(house: House) -> None:
    for thinking in ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}):
        heard = await house.ask("anthropic", True, model=MODEL, max_tokens=4, messages=HI, thinking=thinking)
        assert heard.text


async def test_a_picture_is_refused_by_a_model_that_sees_nothing(house: House) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        await house.ask(
            "anthropic", False, model=MODEL, max_tokens=4, messages=[{"role": "user", "content": [picture]}]
        )
