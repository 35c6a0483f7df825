"""Tables of what was measured, for people, and their place in the documentation."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

import psutil


class Series:
    """Samples of one thing, in milliseconds."""

    def __init__(self) -> None:
        self._samples: list[float] = []

    def add(self, sample: float) -> None:
        """One more."""
        self._samples.append(sample)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self._samples)

    def against(self, other: Series) -> float:
        """The median of the ratios to the other's samples, each to that of its own round."""
        return statistics.median(own / theirs for own, theirs in zip(self._samples, other._samples, strict=True))

    def __str__(self) -> str:
        low, middle, high = statistics.quantiles(self._samples, n=4, method="inclusive")
        return f"{middle:.1f} ({low:.1f}–{high:.1f})"


class StartFigures:
    """How long the way to a first token is for a model that is not loaded."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.bare = Series()
        self.bare_loaded = Series()
        self.alike = Series()
        self.noa = Series()
        self.stages: dict[str, Series] = {}


class SwitchFigures:
    """How long a request takes right after a switch, right after another, and right after one to the other model."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.commit = Series()
        self.after = Series()
        self.again = Series()
        self.other = Series()


def rendered(starts: Sequence[StartFigures], switches: Sequence[SwitchFigures]) -> str:
    """The section of the documentation, in Markdown."""
    return "\n".join(
        [
            "## Swapping models",
            "",
            *_circumstances(),
            "",
            "### From the request for an unloaded model to its first token",
            "",
            *_starts(starts),
            "",
            "*By rounds* is the median of each round's own ratio, which a load that comes and goes disturbs less.",
            "",
            "Where Noa's time goes, stage by stage; the bare engine's own two stages are in the last rows:",
            "",
            *_stages(starts),
            "",
            "### The first request after a switch between two loaded models",
            "",
            *_switches(switches),
            "",
        ]
    )


def _circumstances() -> list[str]:
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("noa", "xllamacpp", "uvloop"))
    machine = f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} logical cores, {memory:.0f} GiB"
    return [
        f"{datetime.now(UTC):%Y-%m-%d} · {versions}, Python {platform.python_version()} · {machine} ·",
        f"load average at the end, over five minutes: {psutil.getloadavg()[1]:.1f}.",
        "SmolLM2-135M-Instruct (Q4_1), one slot of 4,096 tokens. Milliseconds: median (quartiles).",
    ]


def _starts(starts: Sequence[StartFigures]) -> list[str]:
    rows = [
        f"| {each.question} | {len(each.noa)} | {each.bare} | {each.alike} | {each.noa} "
        f"| **{each.noa.median / each.bare.median:.3f}** | {each.noa.against(each.bare):.3f} "
        f"| {each.noa.median / each.alike.median:.3f} | {each.noa.against(each.alike):.3f} |"
        for each in starts
    ]
    return [
        "| request | rounds | bare | bare, alike | Noa | Noa : bare | by rounds | Noa : alike | by rounds |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _stages(starts: Sequence[StartFigures]) -> list[str]:
    names = list(starts[0].stages)
    rows = [f"| {name} | {' | '.join(str(each.stages[name]) for each in starts)} |" for name in names]
    bare = " | ".join(str(each.bare_loaded) for each in starts)
    rest = " | ".join(f"{each.bare.median - each.bare_loaded.median:.1f}" for each in starts)
    return [
        f"| stage | {' | '.join(each.question for each in starts)} |",
        "|---|" + "---|" * len(starts),
        *rows,
        f"| bare: from its spawn until it says it has loaded | {bare} |",
        f"| bare: until the first token (difference of medians) | {rest} |",
    ]


def _switches(switches: Sequence[SwitchFigures]) -> list[str]:
    rows = [
        f"| {each.question} | {len(each.commit)} | {each.commit} | {each.again} | {each.other} | {each.after} "
        f"| **{each.after.median - each.again.median:+.1f}** | {each.after.median - each.other.median:+.1f} |"
        for each in switches
    ]
    heading = (
        "| request | switches | the switch itself | same model again | other model by its key | first after a switch "
        "| more than again | more than other |"
    )
    return [heading, "|---|---|---|---|---|---|---|---|", *rows]
