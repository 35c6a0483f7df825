"""``noa completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from noa.cli.terminal import json_option, note, show_json
from noa.models import Value

_KINDS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
#: Where each shell reads the script from when it starts.
_INSTALLED = {
    "bash": 'put eval "$(noa completion bash)" into ~/.bashrc',
    "zsh": 'put eval "$(noa completion zsh)" into ~/.zshrc',
    "fish": "noa completion fish > ~/.config/fish/completions/noa.fish",
}


class Completion(Value, frozen=True, kw_only=True):
    """What ``noa completion --json`` prints."""

    shell: str
    script: str


@click.command()
@click.argument("shell", type=click.Choice([*_KINDS]))
@json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the script that has a shell complete noa's commands and options.

    \b
    bash   put into ~/.bashrc:  eval "$(noa completion bash)"
    zsh    put into ~/.zshrc:   eval "$(noa completion zsh)"
    fish   noa completion fish > ~/.config/fish/completions/noa.fish
    """
    made = _KINDS[shell](ctx.find_root().command, {}, "noa", "_NOA_COMPLETE")
    # Not by its “source()”, which would run bash to ask for its version, on a machine that may have none.
    script = made.source_template % made.source_vars()
    if as_json:
        show_json(Completion(shell=shell, script=script))
        return
    click.echo(script)
    if sys.stdout.isatty():
        note(f"To have it at every start: {_INSTALLED[shell]}")
