"""The page of the command line: every command with its options, as click knows them."""

from __future__ import annotations

from collections.abc import Iterator

import click
from scripts.reference import markdown
from scripts.reference.markdown import code, told

from noa.cli.json_output import OUTPUT
from noa.cli.main import ALIASES, COMMANDS, cli

_EVERYWHERE = frozenset({"help", "as_json"})


def page() -> str:
    """The page."""
    return markdown.page(
        "The command line",
        _text(cli, "noa"),
        "Every command has `-h`, `--help` and `--json`. What the last prints is in "
        "[cli-json.schema.json](../cli-json.schema.json), the exit codes are in [Errors](errors.md#exit-codes).",
        markdown.table(("Command", ""), _overview()),
        *(described(path, command) for path, command in commands()),
    )


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by what is typed, without ``noa``: ``alias set``."""
    context = click.Context(cli, info_name="noa")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for below, each in command.commands.items():
                yield f"{name} {below}", each


def _overview() -> Iterator[list[str]]:
    others = {name: other for other, name in ALIASES.items()}
    for name, row in COMMANDS.items():
        also = f", `noa {others[name]}`" if name in others else ""
        yield [f"[`noa {name}`](#noa-{name}){also}", row.summary]


def described(path: str, command: click.Command) -> str:
    """The part about one command. Raises ``UndocumentedError`` if it or an option of it has no text."""
    context = click.Context(command, info_name=f"noa {path}")
    usage = " ".join([f"noa {path}", *command.collect_usage_pieces(context)])
    blocks = [f"## noa {path}", _text(command, f"noa {path}"), markdown.fenced(usage)]
    options = [
        _option(parameter, context, path)
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in _EVERYWHERE
    ]
    if options:
        blocks.append("\n".join(options))
    if path in OUTPUT:
        kinds = " or ".join(code(kind.__name__) if kind is not dict else "a JSON Schema" for kind in OUTPUT[path])
        blocks.append(f"With `--json`: {kinds}.")
    return "\n\n".join(blocks)


def _option(option: click.Option, context: click.Context, path: str) -> str:
    told(option.help, f"The option {option.opts[0]} of “noa {path}”")
    record = option.get_help_record(context)
    assert record is not None, f"The option {option.opts[0]} of “noa {path}” is hidden."
    return f"- {code(record[0])}: {markdown.prose(record[1], path)}"


def _text(command: click.Command, what: str) -> str:
    """The help as it was written; ``\\b`` marks a paragraph that click must not wrap."""
    paragraphs = markdown.prose(command.help, what).split("\n\n")
    return "\n\n".join(
        markdown.fenced(paragraph.removeprefix("\b\n")) if paragraph.startswith("\b") else paragraph
        for paragraph in paragraphs
    )
