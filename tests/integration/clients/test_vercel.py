"""The Vercel AI SDK in Node: its providers for OpenAI, for whatever is compatible with it, and for Anthropic."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from served import Served
from weather_upstream import ANSWER, QUESTION, RESULT, WeatherUpstream

FOLDER = Path(__file__).parent / "node"
NODE_VERSION = 20


def missing() -> str | None:
    """What keeps these tests from running, if anything does."""
    node = shutil.which("node")
    if node is None:
        return f"Node is not installed; the Vercel AI SDK needs {NODE_VERSION} or newer"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_VERSION:
        return f"Node is {version}; the Vercel AI SDK needs {NODE_VERSION} or newer"
    if not (FOLDER / "node_modules" / "ai").is_dir():
        return "the Vercel AI SDK is not installed: make node-clients"
    return None


@pytest.fixture(scope="module", autouse=True)
def node() -> None:
    """Skip where there is no Node, or nothing installed for it."""
    if why := missing():
        pytest.skip(why)


PACKAGES = ("openai", "openai-compatible", "anthropic")


async def conversations(**asked: str) -> dict[str, Any]:
    """What came of a conversation, by package and by way."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(FOLDER / "conversation.mjs"), json.dumps(asked)),
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    told: dict[str, Any] = json.loads(stdout)
    assert tuple(told) == PACKAGES
    return told


async def test_it_uses_a_tool(model: str, noa: Served, upstream: WeatherUpstream) -> None:
    told = await conversations(address=noa.url, model=model, question=QUESTION, result=RESULT)
    for package, held in told.items():
        for way in (held["whole"], held["streamed"]):
            assert (way["text"], way["steps"], way["reason"]) == (ANSWER, 2, "stop"), package
            assert (way["usage"]["inputTokens"], way["usage"]["outputTokens"]) == (40, 12), package
        assert held["streamed"]["failures"] == [], package
        assert held["streamed"]["pieces"] > 2, package
    streamed = [request.json.get("stream", False) for request in upstream.asked()]
    assert streamed == [False, False, True, True] * len(PACKAGES)


@pytest.mark.engine
async def test_it_talks_to_the_demo_model(demo: str) -> None:
    told = await conversations(address=demo, model="current", question="Say hello.")
    for package, held in told.items():
        for way in (held["whole"], held["streamed"]):
            assert way["text"], package
            assert 0 < way["usage"]["outputTokens"] <= 40, package
        assert held["streamed"]["failures"] == [], package
