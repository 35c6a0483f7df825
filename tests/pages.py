"""The documentation's code blocks: what is shown on which page, how each is tested, and what is said to be seen.

A block stands below a comment that says how it is tested: ``<!-- test: with a server -->``. What a command prints may
follow it as a block of ``text``, in which numbers stand for any number and ``…`` for anything.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(
    r"^(?:<!-- test: (?P<test>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", flags=re.DOTALL | re.MULTILINE
)
_NUMBER = re.compile(r"\d[\d.,:]*")


class Block(NamedTuple):
    """A code block: its page, how it is tested (``""``: nothing says how), and what it is said to print."""

    page: str
    test: str
    language: str
    code: str
    seen: str = ""


def blocks(page: str) -> list[Block]:
    """The code blocks of a page, in its order; a ``text`` block belongs to the one before it."""
    found: list[Block] = []
    for match in _FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        if match["language"] == "text" and found:
            found[-1] = found[-1]._replace(seen=match["code"])
        else:
            found.append(Block(page, match["test"] or "", match["language"], match["code"]))
    return found


def lacking(seen: str, printed: str) -> list[str]:
    """The lines that a page says are seen and that were not printed; spaces and numbers may be others."""
    lines = [line for line in seen.splitlines() if line.strip()]
    return [line for line in lines if re.search(_pattern(line), printed, flags=re.MULTILINE) is None]


def _pattern(line: str) -> str:
    words = []
    for word in line.split():
        pieces = [r"[\d.,:]+".join(map(re.escape, _NUMBER.split(piece))) for piece in word.split("…")]
        words.append(".*".join(pieces))
    return r"^\s*" + r"\s+".join(words) + r"\s*$"
