"""Every example that is a program runs, against a service that speaks OpenAI's API."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from example_programs import PROGRAMS
from machine import Machine
from scripted_upstream import ScriptedUpstream

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_a_program_does_what_it_says(program: str, tmp_path: Path) -> None:
    async with ScriptedUpstream(models=["gpt-4", "gpt-3.5-turbo"], key="sk-example-key") as upstream:
        machine = Machine.at(
            tmp_path,
            OPENAI_API_KEY="sk-example-key",
            OPENAI_BASE_URL=f"{upstream.url}/v1",
            MODEL_MANAGER_PERSISTENCE_PATH=str(tmp_path / "data"),
            PYTHONWARNINGS="error",
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / program),
            cwd=tmp_path,
            env=machine.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complained = (stream.decode() for stream in await process.communicate())
    assert process.returncode == 0, complained
    assert [words for words in PROGRAMS[program] if words not in printed] == [], printed
    assert "sk-example-key" not in printed + complained
