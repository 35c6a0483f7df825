"""``noa alias``: names that follow a model."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from noa.cli.connection import ask, phases_shown
from noa.cli.terminal import UNKNOWN, json_option, note, printable, show_json, show_table, time_since
from noa.client import NoaClient
from noa.client_answers import AliasAcknowledgement, AliasHistory, AliasList


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def alias(ctx: click.Context, as_json: bool) -> None:
    """Manage names that follow a model: prod, fast, whatever you like.

    Requests may use an alias wherever they name a model. Pointing it elsewhere fails none of them. Without a command,
    the aliases are listed.
    """
    if ctx.invoked_subcommand is None:
        list_aliases(as_json)


@alias.command()
@json_option
def ls(as_json: bool) -> None:
    """List the aliases and what they mean."""
    list_aliases(as_json)


@alias.command("set")
@click.argument("name")
@click.argument("key")
@click.option("--reason", help="Kept in the alias's history.")
@click.option("--expected", metavar="KEY", help="Only if it means this model now; otherwise the exit code is 1.")
@click.option("--load/--no-load", default=True, help="Load the model first (the default), or when it is used.")
@json_option
def point(name: str, key: str, reason: str | None, expected: str | None, load: bool, as_json: bool) -> None:
    """Make NAME mean the model KEY.

    The model is loaded first; until it serves, the alias means what it meant before.
    """

    async def work(client: NoaClient) -> AliasAcknowledgement:
        request = client.point_alias(name, key, reason=reason, expected=expected, load=load)
        if not load:
            return await request
        async with phases_shown(client, key):
            return await request

    acknowledge(ask(work), as_json)


@alias.command("rm")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Remove an alias; its model stays as it is, and a rollback brings the alias back."""
    acknowledge(ask(lambda client: client.remove_alias(name)), as_json)


@alias.command()
@click.argument("name")
@click.option("--reason", help="Kept in the alias's history.")
@json_option
def rollback(name: str, reason: str | None, as_json: bool) -> None:
    """Make NAME mean what it meant before its latest change; again is back again."""
    acknowledge(ask(lambda client: client.rollback_alias(name, reason=reason)), as_json)


@alias.command()
@click.argument("name")
@click.argument("shares", nargs=-1, metavar="[KEY=PERCENT]...")
@click.option("--off", is_flag=True, help="Send all requests to the alias's own model again.")
@click.option("--guard/--no-guard", default=True, help="Take out whoever is measurably worse, by itself (the default).")
@click.option(
    "--max-error-rise", type=float, default=0.05, show_default=True, help="How much more may fail: 0.05 is 5 %."
)
@click.option(
    "--max-latency-ratio", type=float, default=1.5, show_default=True, help="How many times as long it may take."
)
@click.option("--min-requests", type=int, default=20, show_default=True, help="Decide nothing before so many requests.")
@json_option
def split(
    name: str,
    shares: tuple[str, ...],
    off: bool,
    guard: bool,
    max_error_rise: float,
    max_latency_ratio: float,
    min_requests: int,
    as_json: bool,
) -> None:
    """Send part of NAME's requests to other models, or show how they do.

    \b
    noa alias split prod openai:gpt-4o=10    ten percent go there, the rest where NAME points
    noa alias split prod                     how each of them does
    noa alias promote prod openai:gpt-4o     it gets all of them
    noa alias split prod --off               it gets none
    """
    weights = dict(_share(each) for each in shares)
    limits = {"maxErrorRise": max_error_rise, "maxLatencyRatio": max_latency_ratio, "minRequests": min_requests}
    if weights or off:
        answer = ask(lambda client: client.split_alias(name, weights, limits if guard else None))
    else:
        answer = ask(lambda client: client.split(name))
    if as_json:
        show_json(answer)
    elif answer["shares"]:
        rows = [
            (each["key"], f"{each['percent']:g} %", str(each["requests"]), str(each["failures"]))
            for each in answer["shares"]
        ]
        show_table(("KEY", "SHARE", "REQUESTS", "FAILED"), rows)
    else:
        note(f"{name} is not split: its own model has all of its requests.")


def _share(text: str) -> tuple[str, float]:
    key, separator, percent = text.rpartition("=")
    try:
        return (key, float(percent)) if separator else ("", float(text))
    except ValueError:
        raise click.UsageError(f"“{text}” is no share; write KEY=PERCENT, such as openai:gpt-4o=10.") from None


@alias.command()
@click.argument("name")
@click.argument("key")
@json_option
def promote(name: str, key: str, as_json: bool) -> None:
    """Make KEY, which takes part in NAME, its own model for all requests; no request fails for it."""
    acknowledge(ask(lambda client: client.promote_alias(name, key)), as_json)


@alias.command()
@click.argument("name")
@json_option
def history(name: str, as_json: bool) -> None:
    """Show what NAME has meant, newest first."""
    answer: AliasHistory = ask(lambda client: client.alias(name))
    if as_json:
        show_json(answer)
    elif answer.history:
        now = datetime.now(UTC)
        rows = [
            (each.key or UNKNOWN, each.previous or UNKNOWN, time_since(each.at, now), each.reason)
            for each in answer.history
        ]
        show_table(("KEY", "BEFORE", "CHANGED", "REASON"), rows)
    else:
        note(f"{name} has meant no model yet.")


def list_aliases(as_json: bool) -> None:
    """Show every alias."""
    answer: AliasList = ask(lambda client: client.aliases())
    if as_json:
        show_json(answer)
    elif answer.aliases:
        now = datetime.now(UTC)
        show_table(
            ("ALIAS", "KEY", "SINCE"), [(each.name, each.key, time_since(each.since, now)) for each in answer.aliases]
        )
    else:
        note("There is no alias. Make one with “noa alias set NAME KEY”; current comes with the first loaded model.")


def acknowledge(answer: AliasAcknowledgement, as_json: bool) -> None:
    """Show what the server said it did."""
    if as_json:
        show_json(answer)
    else:
        click.echo(printable(answer.message))
