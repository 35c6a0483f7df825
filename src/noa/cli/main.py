"""The root of the command line: the table of its commands, and what becomes of errors.

A command's module is imported when the command is called, so that ``noa version`` does not pay for HTTP and ``noa ls``
not for the server. This table is the one place that does so; a test resolves every row of it.
"""

from __future__ import annotations

import importlib
import io
import shutil
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from noa.cli.terminal import INTERRUPTED, exit_code, report, styled
from noa.errors import AIProviderError
from noa.version import __version__


class Row(NamedTuple):
    """Where a command is defined (``module:attribute``) and what it does, in the words of its own help."""

    target: str
    summary: str


COMMANDS: Mapping[str, Row] = {
    "serve": Row("noa.cli.serving:serve", "Serve models here, in the foreground."),
    "demo": Row("noa.cli.serving:demo", "Serve a small model here; it is fetched first if it must be."),
    "ls": Row("noa.cli.models:ls", "List the known models."),
    "ps": Row("noa.cli.models:ps", "List the loaded models."),
    "pull": Row("noa.cli.pulling:pull", "Fetch a model's weights into the model folder."),
    "load": Row("noa.cli.models:load", "Load a model and wait until it serves."),
    "unload": Row("noa.cli.models:unload", "Unload a model when those who use it have finished."),
    "switch": Row("noa.cli.models:switch", "Make a model the one in use; no request fails for it."),
    "current": Row("noa.cli.models:current", "Show the model in use."),
    "chat": Row("noa.cli.chat:chat", "Talk to a model."),
    "show": Row(
        "noa.cli.show:show",
        "Show what is known of a model: what it can do, how it is doing, and the end of its log.",
    ),
    "profile": Row("noa.cli.profile:profile", "Measure models by real requests and show them side by side."),
    "select": Row("noa.cli.select:select", "Say which model should serve, and why; nothing is loaded."),
    "alias": Row("noa.cli.aliases:alias", "Manage names that follow a model: prod, fast, whatever you like."),
    "events": Row("noa.cli.events:events", "Show what happens in the server, as it happens."),
    "logs": Row("noa.cli.logs:logs", "Show the last lines of a local model's process."),
    "catalog": Row("noa.cli.catalog:catalog", "Show what is known of models at large: windows, capabilities, prices."),
    "keys": Row("noa.cli.keys:keys", "Manage keys for single callers of the server."),
    "stats": Row("noa.cli.stats:stats", "Show what was used and what it cost."),
    "doctor": Row("noa.cli.doctor:doctor", "Find out what keeps Noa from working here, and say what to do."),
    "config": Row("noa.cli.config:config", "Show what is configured here, and where each value comes from."),
    "completion": Row(
        "noa.cli.completion:completion", "Print the script that has a shell complete noa's commands and options."
    ),
    "version": Row("noa.cli.version:version", "Show the version of Noa."),
}
ALIASES: Mapping[str, str] = {"list": "ls", "stop": "unload"}
#: Below so many columns click would go on writing help as wide as this, and the terminal would break it anywhere.
NARROW_COLUMNS = 52


class Commands(click.Group):
    """A group whose commands are rows of a table, and whose errors are sentences with an exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The root of all contexts, with the width of a narrow terminal for the help of every command."""
        columns = shutil.get_terminal_size().columns
        if columns < NARROW_COLUMNS:
            extra.setdefault("terminal_width", columns)
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command of this name, or of this other name for it."""
        row = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if row is None:
            return None
        module, _, attribute = row.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        """Write the list of commands from the table, importing none of them."""
        others = {name: other for other, name in ALIASES.items()}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(f"{name}, {others[name]}" if name in others else name, row.summary) for name, row in COMMANDS.items()]
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours becomes a sentence on stderr and its exit code."""
        try:
            return super().invoke(ctx)
        except AIProviderError as error:
            report(error)
            ctx.exit(exit_code(error))
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 server unreachable, 5 authentication, 6 load failed, "
    "130 interrupted.",
)
@click.version_option(__version__, message="noa %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Manage AI models, local and remote, as one fleet.

    Every command but serve and demo talks to a running server: the one at NOA_URL (http://localhost:3001 unless it is
    set), with NOA_API_KEY as the key where it asks for one. With --json, results are JSON on stdout; what went wrong is
    always a sentence on stderr.
    """
    if not styled():
        ctx.color = False


def main() -> None:
    """The entry point of the ``noa`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a model says must not break on a terminal that is not UTF-8
    cli(prog_name="noa")
