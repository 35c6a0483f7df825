"""Prints the site's ``llms.txt``: every page with its first sentence, for programs that read documentation.

    python -m scripts.llms_txt > llms.txt

Its form is that of https://llmstxt.org: a title, a summary, and links in sections, here those of ``mkdocs.yml``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


def navigation() -> list[tuple[str, list[str]]]:
    """The sections of the site with their pages, as they stand in ``mkdocs.yml``."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return [(title, _pages(below)) for entry in site["nav"] for title, below in entry.items()]


def _pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    if isinstance(entry, dict):
        return [page for below in entry.values() for page in _pages(below)]
    return [page for below in entry for page in _pages(below)]


def llms_txt() -> Iterator[str]:
    """The lines of the file."""
    title, summary = _beginning("README.md")
    yield f"# {title}\n\n> {summary}"
    for section, pages in navigation():
        yield f"\n## {section}\n"
        for page in pages:
            title, summary = _beginning(page)
            yield f"- [{title}]({_address(page)})" + (f": {summary}" if summary else "")


def _beginning(page: str) -> tuple[str, str]:
    """The title of a page and its first sentence, without links; empty if it begins with something else."""
    blocks = (ROOT / page).read_text(encoding="utf-8").split("\n\n")
    title = blocks[0].removeprefix("# ").strip()
    prose = next((block for block in blocks[1:] if re.match(r"[\w`*\[“]", block)), "")
    plain = " ".join(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", prose).split())
    return title, re.split(r"(?<=[.!?])\s", plain)[0].removesuffix(":")


def _address(page: str) -> str:
    return re.sub(r"(^|/)README\.md$", r"\1index.md", page).removesuffix(".md") + ".html"


if __name__ == "__main__":
    sys.stdout.write("\n".join(llms_txt()) + "\n")
