"""The terminal: how results and errors are shown on it, and the exit codes.

Results go to stdout, as tables for people or as JSON for programs; everything else goes to stderr. Whatever a provider
or a model wrote is shown without its control characters, so that it cannot drive the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING

import click

from noa.errors import AIProviderError

if TYPE_CHECKING:
    from rich.console import RenderableType

#: The exit code for an error of each code; every other code exits with 1, and click's usage errors with 2.
EXIT_CODES: Mapping[str, int] = {
    "MODEL_NOT_FOUND": 3,
    "MODEL_NOT_LOADED": 3,
    "KEY_NOT_FOUND": 3,
    "SERVER_UNREACHABLE": 4,
    "AUTHENTICATION_ERROR": 5,
    "MODEL_LOAD_ERROR": 6,
}
#: The exit code after Ctrl-C.
INTERRUPTED = 130
#: What a table shows for what is not known.
UNKNOWN = "—"
#: How wide a table may become where no terminal limits it.
UNLIMITED_WIDTH = 10_000
#: How narrow the last column of a table may become on a narrow terminal, and how far columns stand apart.
LAST_COLUMN_WIDTH = 16
COLUMN_GAP = 2
#: Where the values stand below the first of a row that is too wide for the terminal.
INDENT = "  "

_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def exit_code(error: AIProviderError) -> int:
    """The exit code that tells a script what kind of error this was."""
    return EXIT_CODES.get(error.code, 1)


def report(error: AIProviderError) -> None:
    """Say on stderr what went wrong, and which variable holds the caller's key if that was it."""
    click.echo(f"Error: {printable(error.message)}", err=True)
    if error.code == "AUTHENTICATION_ERROR" and error.provider is None and "NOA_API_KEY" not in error.message:
        click.echo("Set NOA_API_KEY to the key this server asks its callers for.", err=True)


def note(sentence: str) -> None:
    """Tell the person something that is not the result, on stderr."""
    click.echo(printable(sentence), err=True)


def show_json(value: object) -> None:
    """Print a value as JSON on stdout."""
    import msgspec  # here, so that "noa version" starts without it

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def show_json_line(value: object) -> None:
    """Print a value as JSON on a line of its own, for what goes on."""
    import msgspec  # as above

    click.echo(msgspec.json.encode(value))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout.

    Only the last column is folded to fit the terminal; the others hold what one copies into the next command. On a
    terminal too narrow for them each row becomes a few lines. Where there is no terminal, a row is a line.
    """
    from rich.console import Console  # here, so that commands without tables start without it

    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, force_terminal=terminal and styled(), highlight=False)
    console.width = console.width if terminal else UNLIMITED_WIDTH
    console.print(arranged(columns, rows, console.width))


def arranged(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """The rows as a table of this width, or as a few lines each where that is too narrow for one."""
    from rich.cells import cell_len  # as above
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown = [[printable(cell) for cell in row] for row in rows]
    kept = [max(map(cell_len, cells)) for cells in zip(columns, *shown, strict=True)][:-1]
    if sum(kept) + len(kept) * COLUMN_GAP + LAST_COLUMN_WIDTH > width:
        return Group(*(Text(line, overflow="fold") for row in shown for line in _stacked(columns, row, width)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, kept, strict=False):
        table.add_column(column, min_width=width, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in shown:
        table.add_row(*map(Text, row))
    return table


def _stacked(columns: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """A row as lines: its first value alone, since one copies it, then the others by name, as many as fit a line."""
    yield row[0]
    line = ""
    for name, value in zip(columns[1:], row[1:], strict=True):
        if value == UNKNOWN:
            continue
        piece = f"{name.lower()}: {value}"
        if line and len(INDENT + line) + len(COLUMN_GAP * " " + piece) > width:
            yield INDENT + line
            line = ""
        line = f"{line}{COLUMN_GAP * ' '}{piece}" if line else piece
    if line:
        yield INDENT + line


def styled() -> bool:
    """Whether the person lets a terminal be given colours and the like."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def interactive(stream: IO[str]) -> bool:
    """Whether a stream is a terminal on which lines can be redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """The text with each control character replaced, save newline and tab."""
    return text.translate(_CONTROL)


def byte_size(count: int | None) -> str:
    """A number of bytes for people, in binary units."""
    if count is None:
        return UNKNOWN
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def time_span(seconds: float) -> str:
    """A duration for people, in its largest whole unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def time_since(moment: datetime, now: datetime) -> str:
    """How long ago a moment was."""
    return f"{time_span((now - moment).total_seconds())} ago"
