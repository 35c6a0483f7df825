"""``noa keys``: keys for single callers, beside the server's own."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from noa.cli.connection import ask
from noa.cli.models import Duration
from noa.cli.terminal import UNKNOWN, json_option, note, printable, show_json, show_table, time_since
from noa.client_answers import CallerKeyEntry, CallerKeyList


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def keys(ctx: click.Context, as_json: bool) -> None:
    """Manage keys for single callers of the server.

    Each works like NOA_API_KEY, but for managing keys, and “noa stats --by key” tells what its caller used. Managing
    them takes NOA_API_KEY, where the server has one. Without a command, the keys are listed.
    """
    if ctx.invoked_subcommand is None:
        list_keys(as_json)


@keys.command()
@json_option
def ls(as_json: bool) -> None:
    """List the keys, with when each was last used; never the keys themselves."""
    list_keys(as_json)


@keys.command()
@click.argument("name")
@click.option("--expires", type=Duration(), metavar="DURATION", help="How long it is valid: 12h, 30d. For ever if not.")
@json_option
def create(name: str, expires: float | None, as_json: bool) -> None:
    """Make a key for the caller NAME.

    It is printed on stdout, this once: the server keeps nothing it could be made from again.
    """
    made = ask(lambda client: client.create_caller_key(name, ttl_s=expires))
    if as_json:
        show_json(made)
        return
    click.echo(printable(made.secret))
    ending = "" if made.expires_at is None else f" It expires on {made.expires_at.astimezone():%Y-%m-%d at %H:%M}."
    note(f"This is the key of {made.name}. Keep it: it is shown only now.{ending}")
    if sys.stdout.isatty():
        note("Its caller sends it as “Authorization: Bearer …” or “x-api-key”.")


@keys.command()
@click.argument("name")
@json_option
def revoke(name: str, as_json: bool) -> None:
    """Have the key of NAME open nothing from now on."""
    answer = ask(lambda client: client.revoke_caller_key(name))
    if as_json:
        show_json(answer)
    else:
        click.echo(printable(answer.message))


def list_keys(as_json: bool) -> None:
    """Show every key."""
    answer: CallerKeyList = ask(lambda client: client.caller_keys())
    if as_json:
        show_json(answer)
        return
    if answer.keys:
        now = datetime.now(UTC)
        show_table(("NAME", "CREATED", "LAST USED", "EXPIRES"), [_row(key, now) for key in answer.keys])
    else:
        note("There is no key for a single caller. Make one with “noa keys create NAME”.")
    if not answer.enforced:
        note("This server asks for no key (NOA_API_KEY is not set for it); a key only tells it who calls.")


def _row(key: CallerKeyEntry, now: datetime) -> tuple[str, str, str, str]:
    expires = UNKNOWN
    if key.expires_at is not None:
        expires = "expired" if key.expires_at <= now else f"{key.expires_at.astimezone():%Y-%m-%d %H:%M}"
    used = "never" if key.last_used is None else time_since(key.last_used, now)
    return key.name, time_since(key.created_at, now), used, expires
