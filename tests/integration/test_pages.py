"""What the README, the tutorial and the how-tos show, works: every command, program and file in them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import click
import pytest
from anyio.from_thread import start_blocking_portal
from click.testing import CliRunner, Result

from configured import CANARY, configure
from machine import NOA, Machine, Server
from noa.cli.main import cli
from noa.config.variables import ROWS
from noa.presets import PRESETS
from pages import ROOT, Block, blocks, lacking
from scripted_upstream import ScriptedUpstream

PAGES = (
    "README.md",
    "docs/tutorial.md",
    *(f"docs/how-to/{path.name}" for path in sorted((ROOT / "docs/how-to").glob("*.md"))),
)
BLOCKS = [block for page in PAGES for block in blocks(page)]
#: How a block may be tested; another one names the file of the repository that it shows.
SERVED, PROGRAM, SETTINGS, UNDERSTOOD = "with a server", "python", "noa.yaml", "understood"
#: What only a shell understands.
SHELL = re.compile(r"[|&;<>$`\\]")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
VARIABLES = {
    *("PATH", "NOA_HOME", "NOA_CONFIG", "NOA_URL"),
    *(name for row in ROWS for name in (*row.own, *row.bare)),
    *(name for preset in PRESETS for name in (*preset.key_variables, *preset.base_url_variables)),
}


def shown_as(how: str) -> list[Block]:
    return [block for block in BLOCKS if block.test == how]


def by_page(how: str) -> list[str]:
    return list(dict.fromkeys(block.page for block in shown_as(how)))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[Machine]:
    """A machine with the demo model, the command ``noa``, and two models of a service that speaks OpenAI's API."""
    folder = tmp_path_factory.mktemp("reader")
    command = folder / "bin" / "noa"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {NOA[0]} -c "{NOA[2]}" "$@"\n')
    command.chmod(0o755)
    service = ScriptedUpstream(models=("gpt-4o", "gpt-4o-mini"))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(service) as upstream:
        machine = Machine.at(folder, OPENAI_API_KEY=CANARY, OPENAI_BASE_URL=f"{upstream.url}/v1")
        (machine.models / "smollm2-135m-instruct.gguf").hardlink_to(demo_model)
        yield machine.having(
            PATH=f"{command.parent}:{machine.environment['PATH']}", NOA_ALLOWED_HOSTS="models.example.com"
        )


@pytest.fixture(scope="module")
def server(machine: Machine) -> Iterator[Server]:
    with machine.serving("demo") as server:
        yield server


def run(machine: Machine, block: Block) -> None:
    """Run a block; what is nothing but commands of Noa runs in this process, since a start of Python takes longer."""
    lines = block.code.splitlines()
    if block.language == "bash" and all(line.startswith("noa ") and not SHELL.search(line) for line in lines):
        done = [command(machine, shlex.split(line)[1:]) for line in lines]
        code, printed = max(each.exit_code for each in done), "".join(each.output for each in done)
    else:
        code, printed = program(machine, block)
    assert code == 0, f"{block.page}: {block.code}\n{printed}"
    assert '"error":{' not in printed
    assert lacking(block.seen, printed) == [], f"{block.page}: {block.code}\n{printed}"


def command(machine: Machine, words: list[str]) -> Result:
    with patch.dict(os.environ, machine.environment, clear=True), contextlib.chdir(machine.folder):
        return CliRunner().invoke(cli, words)


def program(machine: Machine, block: Block) -> tuple[int, str]:
    with_shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    done = subprocess.run(
        [*with_shell, block.code.replace("http://localhost:3001", machine.environment.get("NOA_URL", "nowhere"))],
        cwd=machine.folder,
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout


def test_every_block_is_tested() -> None:
    files = {block.test for block in BLOCKS if (ROOT / block.test).is_file()}
    known = {SERVED, PROGRAM, SETTINGS, UNDERSTOOD, *files}
    assert [(block.page, block.code) for block in BLOCKS if block.test not in known] == []


@pytest.mark.engine
@pytest.mark.parametrize("page", by_page(SERVED))
def test_what_talks_to_a_server_works_in_its_order(page: str, server: Server) -> None:
    for block in shown_as(SERVED):
        if block.page == page:
            run(server.machine, block)


@pytest.mark.engine
@pytest.mark.parametrize("page", by_page(PROGRAM))
def test_a_program_needs_no_server(page: str, machine: Machine) -> None:
    for block in shown_as(PROGRAM):
        if block.page == page:
            run(machine, block)


@pytest.mark.parametrize("block", shown_as(SETTINGS), ids=lambda block: block.page)
def test_settings_are_taken(block: Block, tmp_path: Path) -> None:
    configure(tmp_path, block.code, **dict.fromkeys(re.findall(r"\$\{env\.(\w+)\}", block.code), CANARY))


@pytest.mark.parametrize("page", by_page(UNDERSTOOD))
def test_what_is_not_run_is_understood(page: str) -> None:
    """Every command of Noa parses, every variable and every target of make exists."""
    for block in shown_as(UNDERSTOOD):
        for line in block.code.replace("\\\n", " ").splitlines() if block.page == page else ():
            words = shlex.split(line, comments=True)
            words = words[1:] if words[:1] == ["export"] else words
            while words and (variable := re.match(r"([A-Z_]+)=", words[0])):
                assert variable[1] in VARIABLES or variable[1].removesuffix("_FILE") in VARIABLES, line
                words = words[1:]
            if words and Path(words[0]).name == "noa":
                understand(words[1:])
            elif words and words[0] == "make":
                assert words[1] in TARGETS, line


def understand(words: list[str]) -> None:
    """Parse a command line of ``noa`` as the command would, and do nothing."""
    command: click.Command | None = cli
    name, parent = "noa", None
    while command is not None:
        parent = command.make_context(name, words, parent=parent)
        rest = [*parent._protected_args, *parent.args]
        if not isinstance(command, click.Group) or not rest:
            return
        found, command, words = command.resolve_command(parent, rest)
        name = found or name


def test_a_file_that_is_shown_is_the_file() -> None:
    shown = [block for block in BLOCKS if (ROOT / block.test).is_file()]
    assert [block.test for block in shown if (ROOT / block.test).read_text(encoding="utf-8") != block.code] == []


def test_every_link_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []
