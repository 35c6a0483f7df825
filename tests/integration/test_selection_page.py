"""What docs/selection.md shows does what it says."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

from configured import configure
from machine import NOA, Machine
from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.models import ModelCapability
from noa.runtime.fake import FakeRuntime
from scripted_upstream import ScriptedUpstream
from served import serving

PAGE = (Path(__file__).parents[2] / "docs" / "selection.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- test: ([^>]+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)


def blocks(kind: str) -> list[str]:
    found = [code for marked, code in BLOCKS if marked == kind]
    assert found, f"the page has no block marked “{kind}”"
    return found


def run(machine: Machine, code: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=machine.folder,
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def test_the_commands_work_in_their_order(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "noa"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {NOA[0]} -c "{NOA[2]}" "$@"\n')
    command.chmod(0o755)
    async with ScriptedUpstream(models=("gpt-4o", "gpt-4o-mini")) as upstream:
        provider = ProviderConfig(type="openai", api_key=Secret("sk-canary"), base_url=f"{upstream.url}/v1")
        configuration = Configuration(home=tmp_path, providers=(provider,))
        async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager, serving(manager) as noa:
            machine = Machine.at(tmp_path, NOA_URL=noa.url)
            machine = machine.having(PATH=f"{command.parent}:{machine.environment['PATH']}")
            said = [
                await asyncio.to_thread(run, machine, code.replace("http://localhost:3001", noa.url))
                for code in blocks("with two models")
            ]
        assert "openai:gpt-4o-mini" in said[0]
        assert "Hello there, friend." in said[0]
        assert "10 %" in said[1]


def test_the_policies_are_read_as_the_page_says(tmp_path: Path) -> None:
    [text] = blocks("noa.yaml")
    configuration = configure(tmp_path, text)
    assert configuration.explore == 0.05
    house, coding = configuration.policies["house"], configuration.policies["coding"]
    assert (house.prefer, house.max_cost, house.max_ttft_ms, house.min_success_rate) == ("cost", 0.01, 1500, 0.95)
    assert coding.capabilities == (ModelCapability.FUNCTION_CALLING,)
    assert (coding.models, coding.min_context) == (("openai/gpt-4o", "claude:claude-sonnet-4-5"), 100_000)
