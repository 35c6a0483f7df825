"""``noa config``: what is in effect and where it comes from, the schema of ``noa.yaml``, and the check of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from noa.cli.connection import ask
from noa.cli.terminal import UNKNOWN, json_option, note, printable, show_json, show_table
from noa.config import Configuration, InEffect, Reloaded, Sources, in_effect, json_schema
from noa.models import Value


class EffectiveConfiguration(Value, frozen=True, kw_only=True):
    """What ``noa config --json`` prints. ``file`` is the ``noa.yaml`` that was read; keys stand as ``(set)``."""

    file: str | None
    settings: tuple[InEffect, ...]


class Checked(Value, frozen=True, kw_only=True):
    """What ``noa config check --json`` prints of a file that is right; one that is not is an error."""

    file: str
    providers: tuple[str, ...]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def config(ctx: click.Context, as_json: bool) -> None:
    """Show what is configured here, and where each value comes from.

    Keys are not shown, only that they are set. It is the configuration that “noa serve” would have in this folder; no
    server is asked, but for “noa config reload”.
    """
    if ctx.invoked_subcommand is None:
        show(as_json)


@config.command()
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001 - it is JSON anyway
    """Print the JSON Schema of noa.yaml, for editors."""
    click.echo(json_schema(), nl=False)


@config.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say whether FILE is a noa.yaml that a server would take.

    What is wrong is named with its line, and the exit code is 1.
    """
    configuration = Configuration.from_file(file)
    providers = tuple(provider.name for provider in configuration.providers)
    if as_json:
        show_json(Checked(file=str(file), providers=providers))
    else:
        click.echo(f"{printable(str(file))} is right; its providers are {', '.join(map(printable, providers))}.")


@config.command()
@json_option
def reload(as_json: bool) -> None:
    """Have the server read its configuration anew, and put into effect what has changed.

    Running requests notice nothing. A file that is wrong changes nothing, and the exit code is 1. It takes
    NOA_API_KEY, where the server has one.
    """
    reloaded = ask(lambda client: client.reload_configuration())
    if as_json:
        show_json(reloaded)
        return
    for line in told(reloaded):
        click.echo(printable(line))


def told(reloaded: Reloaded) -> Iterator[str]:
    """What a reload changed, a line for each kind of change."""
    kinds = (
        ("Providers added", reloaded.providers_added),
        ("Providers changed", reloaded.providers_changed),
        ("Providers removed", reloaded.providers_removed),
        ("Settings changed", reloaded.settings),
        ("Takes effect at the next start", reloaded.needs_restart),
    )
    changed = [f"{kind}: {', '.join(names)}" for kind, names in kinds if names]
    yield f"Read {reloaded.file}." if reloaded.file else "There is no noa.yaml; the variables were read."
    yield from changed or ["Nothing has changed."]


def show(as_json: bool) -> None:
    """Show what is in effect."""
    sources = Sources.gather("AI_", environ=None, cwd=None)
    settings = in_effect(Configuration.from_sources(sources), sources)
    if as_json:
        file = None if sources.path is None else str(sources.path)
        show_json(EffectiveConfiguration(file=file, settings=tuple(settings)))
        return
    show_table(("SETTING", "FROM", "VALUE"), [(each.setting, each.source, _text(each.value)) for each in settings])
    note("No noa.yaml was found; variables and defaults are all." if sources.path is None else f"Read {sources.path}.")


def _text(value: object) -> str:
    if value is None:
        return UNKNOWN
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
