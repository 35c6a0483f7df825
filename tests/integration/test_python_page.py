"""What the page about programs shows, works."""

from __future__ import annotations

import asyncio
import re
import sys
import textwrap
from pathlib import Path

import pytest

from machine import Machine
from scripted_upstream import ScriptedUpstream

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- test: (asyncio|plain) -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_program_on_the_page_is_tested() -> None:
    assert len(SHOWN) == PAGE.count("```python") == 5


@pytest.mark.parametrize(("kind", "code"), SHOWN)
async def test_it_runs(kind: str, code: str, tmp_path: Path) -> None:
    if kind == "asyncio":
        code = f"import asyncio\nasync def main():\n{textwrap.indent(code, '    ')}\nasyncio.run(main())"
    async with ScriptedUpstream(models=["gpt-4", "gpt-3.5-turbo"]) as upstream:
        machine = Machine.at(tmp_path, OPENAI_API_KEY="sk-unused", OPENAI_BASE_URL=f"{upstream.url}/v1")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", code),
            cwd=tmp_path,
            env=machine.environment,
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        _, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
