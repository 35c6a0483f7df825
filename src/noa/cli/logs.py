"""``noa logs``: what a local model's process says."""

from __future__ import annotations

import click

from noa.cli.connection import ask
from noa.cli.terminal import json_option, note, printable, show_json, show_json_line
from noa.client import NoaClient
from noa.client_answers import Logs


@click.command()
@click.argument("key")
@click.option("-f", "--follow", is_flag=True, help="Go on until the process ends, or Ctrl-C.")
@click.option("-n", "--lines", "count", type=click.IntRange(1), help="Only so many of the last lines.")
@json_option
def logs(key: str, follow: bool, count: int | None, as_json: bool) -> None:
    """Show the last lines of a local model's process.

    After a crash or a load that failed, they are those of the process that is gone. With --follow --json, each line is
    a JSON object on a line of its own.
    """
    if follow:
        ask(lambda client: _follow(client, key, count, as_json))
        return
    answer: Logs = ask(lambda client: client.logs(key, tail=count))
    if as_json:
        show_json(answer)
        return
    for line in answer.lines:
        click.echo(printable(line))
    if not answer.lines:
        note(f"No process of {answer.key} has written anything since the server started.")


async def _follow(client: NoaClient, key: str, count: int | None, as_json: bool) -> None:
    async for line in client.follow_logs(key, tail=count):
        if as_json:
            show_json_line({"line": line})
        else:
            click.echo(printable(line))
    note(f"No process of {key} runs any more.")
