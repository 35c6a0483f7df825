"""Draw ``noa.svg``: a terminal in which real commands talk to a real server.

Start ``noa demo``, copy the demo model's file to ``second.gguf`` beside it, then run this program.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 124
COMMANDS = (
    "noa ls",
    "noa load llama.cpp:second",
    "noa switch llama.cpp:second",
    'noa chat current "Name a colour of the sky."',
    "noa ps",
)


def run(command: str) -> str:
    """What the command shows on a terminal of ``COLUMNS`` columns; lines that it draws over are left out."""
    shown = bytearray()

    def read(terminal: int) -> bytes:
        piece = os.read(terminal, 4096)
        shown.extend(piece)
        return piece

    pty.spawn(shlex.split(command), read)
    text = re.sub(r"\x1b\[\?25[lh]|\x1b\[\d*[ABK]|\x1b\[2K", "", shown.decode()).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))


def main() -> None:
    """Run the commands and write the picture beside this file."""
    os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    for command in COMMANDS:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(run(command).strip()))
        console.print()
    svg = console.export_svg(title="noa")
    # The page that shows the picture must not be made to ask another host for a font.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    Path(__file__).with_name("noa.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
