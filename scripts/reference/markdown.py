"""Markdown as GitHub and the site's builder both read it, made of what stands in the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence


class UndocumentedError(Exception):
    """Something that people can use has no text that says what it is for."""


def told(text: str | None, what: str) -> str:
    """The text, or ``UndocumentedError``: whatever is in the reference says what it is for."""
    if not text or not text.strip():
        raise UndocumentedError(f"{what} has no text that says what it is for.")
    return text.strip()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows as a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def code(text: object) -> str:
    """The text as it is typed."""
    return f"`{text}`"


def fenced(text: str, language: str = "") -> str:
    """Lines as they are typed."""
    return f"```{language}\n{text}\n```"


def prose(docstring: str | None, what: str) -> str:
    """A docstring as Markdown: double backquotes become single ones, an indented example becomes a block."""
    paragraphs = inspect.cleandoc(told(docstring, what)).split("\n\n")
    return "\n\n".join(
        _block(paragraph) if paragraph.startswith("    ") else _text(paragraph) for paragraph in paragraphs
    )


def line(docstring: str | None, what: str) -> str:
    """A docstring on one line, as a table needs it."""
    return " ".join(prose(docstring, what).split())


def page(title: str, *blocks: str) -> str:
    """A whole page."""
    return "\n\n".join([f"# {title}", *filter(None, blocks)]) + "\n"


def _block(paragraph: str) -> str:
    return fenced(inspect.cleandoc("\n" + paragraph), "python")


def _text(paragraph: str) -> str:
    # A placeholder between angle brackets would be taken for a tag.
    parts = re.split(r"(``.+?``|`[^`]+`)", paragraph, flags=re.DOTALL)
    return "".join(
        part.replace("``", "`") if part.startswith("`") else re.sub(r"<(?=\w)", r"\\<", part).replace("::", ":")
        for part in parts
    )
