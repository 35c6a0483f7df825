"""``noa events``: what happens in the server."""

from __future__ import annotations

from collections.abc import Collection

import click

from noa.cli.connection import ask
from noa.cli.terminal import json_option, note, printable, show_json_line
from noa.client import NoaClient
from noa.client_answers import ServerEvent


@click.command()
@click.option("--after", type=click.IntRange(0), help="First those that the server remembers after this number.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type; may be repeated.")
@json_option
def events(after: int | None, types: tuple[str, ...], as_json: bool) -> None:
    """Show what happens in the server, as it happens.

    It goes on until Ctrl-C, or until the server ends. Each line has the time, the event's number and its type. With
    --json, each event is a JSON object on a line of its own.
    """
    ask(lambda client: _listen(client, after, types, as_json))
    note("The server has ended.")


async def _listen(client: NoaClient, after: int | None, types: Collection[str], as_json: bool) -> None:
    async for event in client.events(after):
        if types and event.type not in types:
            continue
        if as_json:
            show_json_line(event)
        else:
            click.echo(printable(event_line(event)))


def event_line(event: ServerEvent) -> str:
    """An event for people, in local time; what has fields of its own is left out."""
    plain = {name: value for name, value in event.data.items() if isinstance(value, str | int | float)}
    fields = "".join(f"  {name}={value}" for name, value in plain.items())
    return f"{event.time.astimezone():%H:%M:%S}  {event.sequence}  {event.type}{fields}".replace("\n", " ")
