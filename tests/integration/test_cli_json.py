"""What commands print with ``--json`` is what is documented: no field more, none fewer, each of its type."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from managed import OWL, PARROT, birds
from noa.cli.json_output import OUTPUT, schema
from noa.cli.main import COMMANDS, cli
from served import manager_of, serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli-json.schema.json"

#: Commands in an order in which each finds what it needs, and the type of what it prints: the first of its row in
#: ``OUTPUT``, or the one with this number.
RUNS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("version",), 0),
    (("config",), 0),
    (("config", "check", "noa.yaml"), 0),
    (("config", "schema"), 0),
    (("config", "reload"), 0),
    (("completion", "zsh"), 0),
    (("doctor",), 0),
    (("catalog",), 0),
    (("catalog", "show", "openai:gpt-4o"), 0),
    (("load", PARROT, "--plan"), 1),
    (("load", PARROT), 0),
    (("switch", PARROT), 0),
    (("ls",), 0),
    (("ps",), 0),
    (("current",), 0),
    (("chat", "--max-tokens", "5", PARROT, "Hello"), 0),
    (("show", PARROT), 0),
    (("logs", PARROT), 0),
    (("alias", "set", "prod", PARROT), 0),
    (("alias", "set", "prod", OWL), 0),
    (("alias",), 0),
    (("alias", "ls"), 0),
    (("alias", "history", "prod"), 0),
    (("alias", "split", "prod", f"{PARROT}=10"), 0),
    (("alias", "promote", "prod", PARROT), 0),
    (("alias", "rollback", "prod"), 0),
    (("alias", "rm", "prod"), 0),
    (("select", "--task", "chat"), 0),
    (("keys", "create", "ci"), 0),
    (("keys",), 0),
    (("keys", "ls"), 0),
    (("keys", "revoke", "ci"), 0),
    (("stats",), 0),
    (("stats", "--by", "hour"), 0),
    (("unload", OWL), 0),
)
#: What goes on until it is stopped, fetches something, or takes its time; their own tests hold their types.
ELSEWHERE = {"serve", "demo", "pull", "profile", "events", "catalog refresh", "catalog undo"}


def commands() -> Iterator[str]:
    """Every command with ``--json``, by the words that call it."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {inner}" for inner, each in command.commands.items() if _has_json(each))


def _has_json(command: click.Command) -> bool:
    return "--json" in {option for parameter in command.params for option in parameter.opts}


def _called(arguments: tuple[str, ...]) -> str:
    two = " ".join(arguments[:2])
    return two if two in OUTPUT else arguments[0]


def test_every_command_is_documented_and_tried() -> None:
    assert set(OUTPUT) == set(commands())
    assert {_called(arguments) for arguments, _ in RUNS} == set(OUTPUT) - ELSEWHERE


@pytest.mark.parametrize("command", OUTPUT)
def test_every_command_has_help(command: str) -> None:
    shown = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert f"Usage: cli {command}" in shown.stdout
    assert "--json" in shown.stdout


def test_the_sentences_of_help_fit_a_narrow_terminal() -> None:
    runner = CliRunner(env={"COLUMNS": "40"})
    for command in ("", *OUTPUT):
        sentences = runner.invoke(cli, [*command.split(), "--help"]).stdout.partition("Options:")[0].splitlines()
        copied = re.compile(r"\s+(noa|cat|bash|zsh|fish) ")  # which stays whole
        assert [line for line in sentences if cell_len(line) > 40 and not copied.match(line)] == [], command


def test_the_published_schema_is_what_the_types_say() -> None:
    assert DOCUMENT.read_bytes() == schema(), "python -m noa.cli.json_output > docs/cli-json.schema.json"


async def test_what_is_printed_is_what_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noa.yaml").write_text("server: {port: 0}\n")
    async with manager_of(birds()) as manager, serving(manager) as server:
        manager.read_by(lambda: manager.configuration)
        variables = {"NOA_URL": server.url, "NOA_HOME": str(tmp_path), "NOA_API_KEY": None, "NOA_CONFIG": None}
        for arguments, number in RUNS:
            runner = CliRunner(env=variables)
            ran: Result = await asyncio.to_thread(partial(runner.invoke, cli, [*arguments, "--json"]))
            assert ran.exit_code == 0, (arguments, ran.output, ran.exception)
            expected = OUTPUT[_called(arguments)][number]
            decoded: Any = msgspec.json.decode(ran.stdout, type=expected)
            assert msgspec.to_builtins(decoded, str_keys=True) == _as_values(ran.stdout, expected), arguments


REASON = "to have a history that is longer than a narrow terminal"
#: What shows tables, and the end of a row of each; the rest says sentences, which a terminal breaks by itself.
TABLES = {
    ("ls",): "text_generation,streaming",
    ("ps",): "ago",
    ("alias", "ls"): f"prod{OWL}",
    ("alias", "history", "prod"): REASON,
    ("keys", "ls"): "never",
    ("stats", "--by", "hour"): "tokensout",
}


class Terminal(io.TextIOWrapper):
    """Where what is written there is taken for a terminal."""

    def isatty(self) -> bool:
        return True


def _shown(*arguments: str) -> str:
    """What a command shows on a terminal."""
    written = io.BytesIO()
    with patch.object(sys, "stdout", Terminal(written, encoding="utf-8", write_through=True)):
        cli.main([*arguments], prog_name="noa", standalone_mode=False)
        return written.getvalue().decode()


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}], ids=str)
async def test_no_table_is_wider_than_its_terminal(
    plain: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    async with manager_of(birds()) as manager, serving(manager) as server:
        await manager.switch_model(OWL)
        for key in (PARROT, OWL):
            await manager.point_alias("prod", key, reason=REASON)
            await manager.chat("Hello", model=key)
        await manager.create_caller_key("a-caller-with-a-long-name")
        given = {"NOA_URL": server.url, "NOA_HOME": str(tmp_path), **plain}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        for columns in (40, 60):
            monkeypatch.setenv("COLUMNS", str(columns))
            for arguments, end in TABLES.items():
                shown = await asyncio.to_thread(_shown, *arguments)
                assert "".join(end.split()) in "".join(shown.lower().split()), arguments
                assert "\x1b" not in shown, arguments
                assert [line for line in shown.splitlines() if cell_len(line) > columns] == [], (arguments, columns)


def _as_values(text: str, expected: type) -> Any:
    """What was printed, with moments and numbers written as the type writes them."""
    raw = msgspec.json.decode(text)
    return _like(raw, msgspec.to_builtins(msgspec.json.decode(text, type=expected), str_keys=True))


def _like(raw: Any, typed: Any) -> Any:
    """``raw`` in the containers of ``typed``; a field that either lacks stays missing, so that they differ."""
    if isinstance(raw, dict):
        return {
            name: _like(value, typed.get(name)) if isinstance(typed, dict) else value for name, value in raw.items()
        }
    if isinstance(raw, list):
        if isinstance(typed, list | tuple) and len(typed) == len(raw):
            return type(typed)(_like(value, other) for value, other in zip(raw, typed, strict=True))
        return raw
    return raw
