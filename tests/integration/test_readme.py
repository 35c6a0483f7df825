"""Every command the README shows does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from machine import NOA, Machine

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- test: ([^>]+) -->\n```(\w+)\n(.*?)```", README, flags=re.DOTALL)
pytestmark = pytest.mark.engine


def blocks(kind: str) -> list[tuple[str, str]]:
    found = [(language, code) for marked, language, code in BLOCKS if marked == kind]
    assert found, f"the README has no block marked “{kind}”"
    return found


@pytest.fixture
def machine(tmp_path: Path, demo_model: Path) -> Machine:
    machine = Machine.at(tmp_path)
    (machine.models / "smollm2-135m-instruct.gguf").hardlink_to(demo_model)
    command = tmp_path / "bin" / "noa"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {NOA[0]} -c "{NOA[2]}" "$@"\n')
    command.chmod(0o755)
    return machine.having(PATH=f"{command.parent}:{machine.environment['PATH']}")


def run(machine: Machine, language: str, code: str) -> None:
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=machine.folder, env=machine.environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert '"error":{' not in done.stdout
    assert done.stdout.strip()


def test_every_shell_and_code_block_is_either_tested_or_says_that_it_is_served() -> None:
    shown = re.findall(r"```(?:bash|python)\n", README)
    assert len(shown) == len(BLOCKS)


def test_the_blocks_that_talk_to_the_demo_server_work_in_their_order(machine: Machine) -> None:
    with machine.serving("demo") as server:
        for language, code in blocks("with the demo server"):
            run(server.machine, language, code.replace("http://localhost:3001", server.url))


def test_the_programs_work_without_a_server(machine: Machine) -> None:
    for language, code in blocks("python"):
        run(machine, language, code)
