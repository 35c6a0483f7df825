"""Every example for a client does what it says, on the demo model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from machine import FOREIGN

ROOT = Path(__file__).parents[3]
EXAMPLES = (ROOT / "examples" / "clients.md").read_text(encoding="utf-8")
#: The blocks that are tested, by the title they stand under and their language.
BLOCKS = {
    (title, language): code
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", EXAMPLES, flags=re.DOTALL | re.MULTILINE)
    for language, code in re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", text, flags=re.DOTALL)
}
NODE_MODULES = Path(__file__).parent / "node" / "node_modules"

pytestmark = pytest.mark.engine


def example(title: str, language: str, demo: str) -> str:
    return str(BLOCKS[title, language]).replace("http://localhost:3001", demo)


def printed(folder: Path, *command: str) -> str:
    """What a command prints in a folder, which is ``llm``'s too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment |= {"PATH": path, "LLM_USER_PATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("title", [title for title, language in BLOCKS if language == "python"])
def test_a_python_client(title: str, demo: str, capsys: pytest.CaptureFixture[str]) -> None:
    # In this process, where other tests have imported it, because that takes seconds.
    exec(example(title, "python", demo), {})
    assert capsys.readouterr().out.strip()


def test_llm(demo: str, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(example("`llm`", "yaml", demo))
    assert printed(tmp_path, "bash", "-euo", "pipefail", "-c", example("`llm`", "bash", demo))


@pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="the Vercel AI SDK is not installed: make node-clients")
def test_the_vercel_ai_sdk(demo: str, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "example.mjs").write_text(example("Vercel AI SDK", "javascript", demo))
    assert printed(tmp_path, "node", "example.mjs")
