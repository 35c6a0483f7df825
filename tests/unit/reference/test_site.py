"""Every page is in the site's navigation, and every link to a heading leads to one."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

from scripts.llms_txt import llms_txt, navigation

ROOT = Path(__file__).parents[3]
SOURCES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "examples").glob("*.md"),
    ROOT / "bench/README.md",
]


@cache
def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@cache
def headings(page: Path) -> set[str]:
    return set(re.findall(r"^#+ +(.+?)\s*$", prose(page), re.MULTILINE))


def anchors(page: Path) -> tuple[set[str], set[str]]:
    """What the headings are called on GitHub, and on the site."""
    plain = {re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading) for heading in headings(page)}
    on_github = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}
    ascii_only = {unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode() for heading in plain}
    on_site = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in ascii_only}
    return on_github, on_site


def test_every_link_to_a_heading_leads_to_one() -> None:
    dead = []
    for page in SOURCES:
        for path, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", prose(page)):
            target = (page.parent / path).resolve() if path else page
            if target.suffix == ".md" and not all(anchor in names for names in anchors(target)):
                dead.append(f"{page.relative_to(ROOT)}: {path}#{anchor}")
    assert dead == []


def test_every_page_is_in_the_navigation_once() -> None:
    listed = [page for _, pages in navigation() for page in pages]
    there = {page.relative_to(ROOT).as_posix() for page in SOURCES}
    decisions = {page for page in there if re.match(r"docs/decisions/0", page)}
    assert len(listed) == len(set(listed))
    assert set(listed) == there - decisions


def test_programs_are_told_of_every_page() -> None:
    lines = list(llms_txt())
    assert lines[0].startswith("# Noa\n\n> Noa runs AI models")
    links = [line for line in lines if line.startswith("- [")]
    assert len(links) == sum(len(pages) for _, pages in navigation())
    assert any(re.fullmatch(r"- \[Events\]\(docs/events\.html\): What happens .+\.?", line) for line in links)
