"""The command ``llm``, with Noa's models in its file for OpenAI-compatible ones.

That it talks to the demo model is seen where the examples are tested.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from machine import FOREIGN
from served import Served
from weather_upstream import ANSWER, CITY, QUESTION, RESULT, SERVED_AS, TOOL, WeatherUpstream

FUNCTION = f"""
def {TOOL}(city: str) -> str:
    "The weather in a city."
    return {RESULT!r} if city == {CITY!r} else "unknown"
"""
#: Several commands in one process, because each would take a second to import what it needs.
COMMANDS = """
import json, sys
from llm.cli import cli

for command in json.loads(sys.argv[1]):
    cli(command, prog_name="llm", standalone_mode=False)
    print("=====", flush=True)
"""


async def llm(folder: Path, address: str, models: Sequence[str], commands: Sequence[Sequence[str]]) -> list[str]:
    """What each of these commands of ``llm`` prints, where the models are Noa's."""
    known = [
        {"model_id": model, "model_name": model, "api_base": f"{address}/v1", "supports_tools": True}
        for model in models
    ]
    (folder / "extra-openai-models.yaml").write_text(yaml.safe_dump(known))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMANDS, json.dumps(commands)),
        env={**environment, "LLM_USER_PATH": str(folder)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return [said.strip() for said in stdout.decode().split("=====\n")[:-1]]


async def test_it_uses_a_tool_streamed_and_not(noa: Served, upstream: WeatherUpstream, tmp_path: Path) -> None:
    ways = [(model, flags) for model in SERVED_AS for flags in ((), ("--no-stream",))]
    commands = [("-m", model, "--functions", FUNCTION, *flags, QUESTION) for model, flags in ways]
    assert await llm(tmp_path, noa.url, SERVED_AS, commands) == [ANSWER] * len(ways)
    streamed = [request.json.get("stream", False) for request in upstream.asked()]
    assert streamed == [not flags for _, flags in ways for _ in ("the call", "the answer")]
