from __future__ import annotations

from pathlib import Path

from bench.findings import Findings, difference, ratio, targets
from bench.report_page import update


def _found(name: str, **samples: list[float]) -> Findings:
    return Findings(name=name, version="1", samples={each.replace("__", "."): got for each, got in samples.items()})


def test_ratios_are_those_of_each_round_so_that_a_slow_round_slows_both() -> None:
    noa, other = _found("Noa", a=[100, 50, 10]), _found("other", a=[10, 5, 1])
    assert ratio("a", noa, other) == 10
    assert difference("a", noa, other) == 45


def test_what_was_not_measured_misses_nothing_and_holds_nothing() -> None:
    assert ratio("a", _found("Noa", a=[1]), None) is None
    assert {each.verdict for each in targets({})} == {"not measured"}


def test_a_target_is_held_reached_or_missed() -> None:
    def verdict(noa: float) -> str:
        found = {"Noa": _found("Noa", start_s=[noa]), "LiteLLM": _found("LiteLLM", start_s=[10.0])}
        return next(each.verdict for each in targets(found) if each.title.startswith("cold start"))

    assert [verdict(0.9), verdict(1.5), verdict(3.0)] == ["reaches the goal", "holds", "**misses**"]


def test_a_section_replaces_its_former_self_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    update(page, "bench-swap", "swap one")
    update(page, "bench", "gateways one")
    update(page, "bench", "gateways two")
    text = page.read_text()
    assert "swap one" in text
    assert "gateways two" in text
    assert "gateways one" not in text
