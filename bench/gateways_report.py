"""What ``make bench`` found, as tables for people."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import psutil

from bench.control_plane import ControlPlane
from bench.findings import Findings, Target, ratio, targets
from bench.load_plan import Spread
from bench.scenarios import scenarios

#: Above this share of a processor, the generator or the service may have been what limited a contestant.
_LIMITED = 0.9
_ORDER = ("Noa", "LiteLLM", "Portkey", "nginx", "direct")


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """Under what it was measured. ``busy`` is the share of the machine that was taken before the run."""

    rounds: int
    seconds: float
    memory_requests: int
    busy: float
    preliminary: bool
    missing: Mapping[str, str]


def rendered(circumstances: Circumstances, found: Mapping[str, Findings], control: ControlPlane) -> str:
    """The section of the documentation, in Markdown."""
    present = [found[name] for name in _ORDER if name in found]
    lines = ["## Beside other gateways", "", *_circumstances(circumstances, present), "", "### What it must reach", ""]
    lines += _targets(targets(found), preliminary=circumstances.preliminary)
    for scenario in scenarios(1):
        lines += ["", f"### {scenario.title[0].upper()}{scenario.title[1:]}", "", *_load(scenario.name, present)]
    lines += [
        "",
        "### Start and memory",
        "",
        *_resources(present),
        "",
        "### Managing a lot",
        "",
        *_control(control, preliminary=circumstances.preliminary),
    ]
    return "\n".join([*lines, ""])


def _circumstances(given: Circumstances, present: Sequence[Findings]) -> list[str]:
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} logical cores, {memory:.0f} GiB"
    versions = ", ".join(f"{each.name} {each.version}" for each in present if each.name != "direct")
    lines = []
    if given.preliminary:
        lines += ["**Preliminary: the machine was busy, or the run short. These are no results.**", ""]
    lines += [
        f"{datetime.now(UTC):%Y-%m-%d} · {versions} · Python {platform.python_version()} ·",
        f"{machine}, {given.busy:.0%} busy before the run · {given.rounds} rounds of {given.seconds:g} s a load,",
        "everybody started anew in each, one at a time. Median (least–most); *Noa, of it* is the median of the rounds'",
        "own ratios. All processes of a contestant count. Noa has a key, prices, live figures, metrics and records on.",
    ]
    if given.missing:
        lines += ["", "Left out: " + "; ".join(f"{name} ({why})" for name, why in given.missing.items()) + "."]
    failures = [f"{each.name}, {what}: {why}" for each in present for what, why in each.failures.items()]
    if failures:
        lines += ["", "What could not be done:", "", *(f"- {each}" for each in failures)]
    return lines


def _targets(rows: Sequence[Target], *, preliminary: bool) -> list[str]:
    lines = ["| | found | must | goal | |", "|---|---|---|---|---|"]
    for row in rows:
        shown = "—" if row.found is None else f"{row.found:.3g} {row.unit}"
        sign = "≤" if row.less else "≥"
        verdict = "preliminary" if preliminary and row.found is not None else row.verdict
        lines.append(f"| {row.title} | {shown} | {sign} {row.must:.3g} | {sign} {row.goal:.3g} | {verdict} |")
    return lines


def _load(name: str, present: Sequence[Findings]) -> list[str]:
    streamed = name.startswith("stream")
    columns = [("events/s", "events_per_s", 0)] if streamed else [("requests/s", "per_s", 0)]
    columns += [("CPU µs a request", "cpu_us", 0)]
    if streamed:
        columns += [
            ("first event p50", "first_p50_ms", 1),
            ("first event p99", "first_p99_ms", 1),
            ("gap p99", "gap_p99_ms", 2),
        ]
    else:
        columns += [("p50, ms", "latency_p50_ms", 2), ("p99, ms", "latency_p99_ms", 2)]
    return _table(name, columns, present, reference=columns[0][1])


def _resources(present: Sequence[Findings]) -> list[str]:
    columns = [
        ("cold start, s", "start_s", 2),
        ("idle, MB", "memory_idle_mb", 0),
        ("after a fifth, MB", "memory_fifth_mb", 0),
        ("after all requests, MB", "memory_after_mb", 0),
        ("more for 1,000 idle connections, MB", "memory_idle_connections_mb", 0),
    ]
    others = [each for each in present if each.name != "direct"]
    notes = [f"{each.name}: {note}." for each in others for note in each.notes.values()]
    return [*_table("", columns, others, reference="start_s"), *(["", *notes] if notes else [])]


def _table(
    scenario: str, columns: Sequence[tuple[str, str, int]], present: Sequence[Findings], *, reference: str
) -> list[str]:
    def full(metric: str) -> str:
        return f"{scenario}.{metric}" if scenario else metric

    noa = next((each for each in present if each.name == "Noa"), None)
    heading = " | ".join(title for title, _, _ in columns)
    lines = [f"| | {heading} | Noa, of it |", "|---|" + "---|" * (len(columns) + 1)]
    for each in present:
        cells = [_shown(each.samples.get(full(metric), ()), digits) for _, metric, digits in columns]
        helper = each.median(f"{scenario}.helper") if scenario else None
        mark = " †" if helper is not None and helper > _LIMITED and each.name != "direct" else ""
        share = ratio(full(reference), noa, each)
        of_it = "" if each.name == "Noa" else "—" if share is None else f"{share:.3g} ×"
        lines.append(f"| {each.name}{mark} | {' | '.join(cells)} | {of_it} |")
    if any("†" in line for line in lines):
        lines += ["", "† The generator or the service was at its limit, so it could do more than this."]
    return lines


def _shown(samples: Sequence[float], digits: int) -> str:
    if not samples:
        return "—"
    middle = f"{statistics.median(samples):,.{digits}f}"
    return middle if len(samples) == 1 else f"{middle} ({min(samples):,.{digits}f}–{max(samples):,.{digits}f})"


def _control(found: ControlPlane, *, preliminary: bool) -> list[str]:
    def row(title: str, spread: Spread, must_ms: float | None = None, goal_ms: float | None = None) -> str:
        target = " | | "
        if must_ms is not None and goal_ms is not None:
            asked = Target(title=title, found=spread.p95, must=must_ms, goal=goal_ms, unit="ms", less=True)
            verdict = "preliminary" if preliminary else asked.verdict
            target = f"≤ {must_ms:g} ms | ≤ {goal_ms:g} ms | {verdict}"
        return f"| {title} | {spread.p50:.2f} ms | {spread.p95:.2f} ms | {spread.p99:.2f} ms | {target} |"

    models, records = f"{found.models:,}", f"{found.records:,}"
    added_ms = found.selecting.p50 - found.asking.p50
    return [
        "| over HTTP | p50 | p95 | p99 | p95 must | goal | |",
        "|---|---|---|---|---|---|---|",
        row("an answer that takes no work", found.asking),
        row(f"the first 50 of {models} models", found.listing, 10, 2),
        row(f"50 of {models} models by a filter", found.filtering, 10, 2),
        row(f"one selection among {models} models", found.selecting, 1, 0.1),
        row("a chat at 20 requests/s", found.chat_alone),
        row("a chat at 20 requests/s, with 200 listeners to the events", found.chat_with_listeners),
        row("a switch", found.switching),
        row(f"a switch while {found.reads:,} sums of the usage were read", found.switching_while_read),
        "",
        f"- A selection, with every candidate told of, adds {added_ms:.2f} ms to an answer that takes no work. As that",
        f"  alone takes {found.asking.p50:.2f} ms, 0.1 ms is beyond what can be reached over HTTP.",
        f"- Start with {records} records on disk: {found.start_full_s:.2f} s; with none {found.start_empty_s:.2f} s.",
        f"- The slowest of 200 listeners to the events heard of {found.heard:.0%} of what happened.",
    ]
