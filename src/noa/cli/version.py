"""``noa version``."""

from __future__ import annotations

import platform

import click

from noa.cli.terminal import json_option, show_json
from noa.version import __version__


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version of Noa."""
    if as_json:
        show_json({"version": __version__, "python": platform.python_version(), "platform": platform.platform()})
    else:
        click.echo(f"noa {__version__}")
