"""Writes every page anew: ``python -m scripts.reference``."""

from pathlib import Path

from scripts.reference.pages import PAGES

if __name__ == "__main__":
    docs = Path(__file__).parents[2] / "docs"
    for name, write in PAGES.items():
        (docs / name).write_text(write(), encoding="utf-8")
