"""The root of the command line: its table, what an error becomes, and what starting costs."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from noa.cli.main import ALIASES, COMMANDS, cli
from noa.version import __version__
from scripted_server import ScriptedServer

Noa = Callable[..., Result]

START = "from noa.cli.main import main; main()"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_row_of_the_table_is_a_command_described_in_its_own_words(name: str) -> None:
    module, _, attribute = COMMANDS[name].target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name].summary
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_help_lists_every_command_with_its_other_name() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for name, row in COMMANDS.items():
        assert f"  {name}" in result.stdout
        assert " ".join(row.summary.split()[:3]) in result.stdout
    for other, name in ALIASES.items():
        assert f"{name}, {other}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["version"], {"aiohttp", "rich", "fastapi", "msgspec", "asyncio", "noa.client", "noa.config"}),
        (["--help"], {"aiohttp", "rich", "fastapi", "msgspec", "asyncio", "noa.client", "noa.config"}),
        (["ls"], {"fastapi", "uvicorn", "rich", "noa.manager", "noa.server.app"}),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: set[str], tmp_path: Path) -> None:
    script = (
        "import sys, noa.cli.main as main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main.main()\n"
        f"except SystemExit:\n    print(sorted({unwanted!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {**os.environ, "NOA_URL": "http://127.0.0.1:9", "NOA_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, arguments).stdout == f"noa {__version__}\n"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (500, "INTERNAL_ERROR", 1),
        (400, "VALIDATION_ERROR", 1),
        (400, "CONFIGURATION_ERROR", 1),
        (409, "CONFLICT", 1),
        (429, "RATE_LIMIT_ERROR", 1),
        (503, "MODEL_UNAVAILABLE", 1),
        (418, "SOMETHING_OF_TOMORROW", 1),
        (404, "MODEL_NOT_FOUND", 3),
        (404, "MODEL_NOT_LOADED", 3),
        (401, "AUTHENTICATION_ERROR", 5),
        (500, "MODEL_LOAD_ERROR", 6),
    ],
)
@pytest.mark.parametrize("output", [[], ["--json"]])
def test_what_the_server_refuses_is_a_sentence_and_an_exit_code(
    server: ScriptedServer, noa: Noa, status: int, code: str, expected: int, output: list[str]
) -> None:
    server.refuse("POST", "/api/v1/models/load", status, code, "It cannot be done.")
    result = noa("load", "openai:x", *output)
    assert result.exit_code == expected
    assert result.stdout == ""
    assert "Error: It cannot be done.\n" in result.stderr


def test_usage_errors_exit_with_2(noa: Noa) -> None:
    for arguments in (["load"], ["nonsense"], ["ls", "--nonsense"], ["load", "x", "--ttl", "soon"]):
        assert noa(*arguments).exit_code == 2


def test_without_a_server_it_says_how_to_start_one(noa: Noa) -> None:
    result = noa("ls", NOA_URL="http://127.0.0.1:9")
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "http://127.0.0.1:9" in result.stderr
    assert "noa serve" in result.stderr
    assert "noa demo" in result.stderr


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [
        (200, "text/html", "<html>another program</html>"),
        (404, "text/html", "<html>not found</html>"),
        (404, "application/json", '{"detail": "Not Found"}'),
        (200, "application/json", '{"answer": 42}'),
        (302, "text/html", ""),
    ],
)
def test_a_server_that_is_not_noa_is_told_apart(
    server: ScriptedServer, noa: Noa, status: int, content_type: str, text: str
) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type, headers={"Location": "/login"})

    server.handle("GET", "/api/v1/models/loaded", handler)
    result = noa("ps")
    assert result.exit_code == 4
    assert "not as Noa does" in result.stderr
    assert "another program" not in result.stderr
    assert len(server.received) == 1


def test_the_key_is_sent_and_never_shown(server: ScriptedServer, noa: Noa) -> None:
    server.refuse("GET", "/api/v1/models/loaded", 401, "AUTHENTICATION_ERROR", "The key is wrong.")
    result = noa("ps", NOA_API_KEY="sk-noa-very-secret")
    assert server.received[0].headers["Authorization"] == "Bearer sk-noa-very-secret"
    assert result.exit_code == 5
    assert "very-secret" not in result.output
    assert "NOA_API_KEY" in result.stderr


def test_what_a_server_says_cannot_drive_the_terminal(server: ScriptedServer, noa: Noa) -> None:
    server.refuse("GET", "/api/v1/models/loaded", 500, "INTERNAL_ERROR", "Oh \x1b[2J\x1b]0;owned\x07no.")
    result = noa("ps")
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


def test_interrupting_a_command_exits_with_130(server: ScriptedServer, tmp_path: Path) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        os.kill(command.pid, signal.SIGINT)
        await server.stopping()
        return web.Response()

    server.handle("GET", "/api/v1/models/loaded", handler)
    environment = {**os.environ, "NOA_URL": server.url, "NOA_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", START, "ps"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        stdout, stderr = command.communicate(timeout=60)
    assert command.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr
