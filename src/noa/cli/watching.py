"""``noa ps --watch``: the loaded models, shown again and again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

import click

from noa.cli.terminal import arranged, interactive, show_json_line, show_table, styled
from noa.client import NoaClient
from noa.client_answers import LoadedModels

NOTHING_LOADED = "No model is loaded. Load one with “noa load KEY”; “noa ls” lists the keys."

#: Makes the columns and rows of a look.
Tabulate = Callable[[LoadedModels], tuple[Sequence[str], Sequence[Sequence[str]]]]


async def keep_watching(client: NoaClient, interval_s: float, tabulate: Tabulate, *, as_json: bool) -> None:
    """Look every so many seconds, until interrupted or the server is gone, which raises.

    On a terminal the table is redrawn in its place; elsewhere every look is printed below the one before.
    """
    if as_json or not interactive(sys.stdout):
        while True:
            _print(await client.loaded(), tabulate, as_json=as_json)
            await asyncio.sleep(interval_s)
    from rich.console import Console  # here, so that commands without tables start without it
    from rich.live import Live
    from rich.text import Text

    console = Console(file=sys.stdout, force_terminal=True, no_color=not styled(), highlight=False)
    with Live(console=console, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
        while True:
            loaded = await client.loaded()
            shown = arranged(*tabulate(loaded), console.width) if loaded.models else Text(NOTHING_LOADED)
            live.update(shown, refresh=True)
            await asyncio.sleep(interval_s)


def _print(loaded: LoadedModels, tabulate: Tabulate, *, as_json: bool) -> None:
    if as_json:
        show_json_line(loaded)
    elif loaded.models:
        show_table(*tabulate(loaded))
    else:
        click.echo(NOTHING_LOADED)
    sys.stdout.flush()
