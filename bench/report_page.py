"""A page of the documentation in which each benchmark writes a section of its own."""

from __future__ import annotations

from pathlib import Path

_TITLE = "# Benchmarks\n\nMeasured, not promised: run them on your own machine.\n\n"


def update(page: Path, target: str, section: str) -> None:
    """Put the section of a ``make`` target into the page in place of its former self, or at the end."""
    begin, end = f"<!-- {target}: what follows is written by `make {target}` -->", f"<!-- {target}: end -->"
    text = page.read_text(encoding="utf-8") if page.exists() else _TITLE
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    if not rest:
        before, after = text.rstrip("\n") + "\n\n", "\n"
    page.write_text(f"{before}{begin}\n\n{section}\n{end}{after}", encoding="utf-8")
