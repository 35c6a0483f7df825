"""What was measured of each contestant, round by round, and how they compare."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from bench.processes import Loaded


class Findings(msgspec.Struct, kw_only=True):
    """One contestant: ``samples`` by metric (``chat-1k.per_s``), one a round; ``failures`` by load."""

    name: str
    version: str
    samples: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    notes: dict[str, str] = {}

    def add(self, metric: str, value: float) -> None:
        """One more sample."""
        self.samples.setdefault(metric, []).append(value)

    def add_load(self, scenario: str, load: Loaded) -> None:
        """What a load showed."""
        result = load.result
        self.add(f"{scenario}.per_s", result.requests / result.seconds)
        self.add(f"{scenario}.cpu_us", load.cpu_us)
        self.add(f"{scenario}.helper", load.busiest_helper)
        for name, spread in (("latency", result.latency), ("first", result.first), ("gap", result.gap)):
            if spread is not None:
                self.add(f"{scenario}.{name}_p50_ms", spread.p50)
                self.add(f"{scenario}.{name}_p99_ms", spread.p99)
        if result.events:
            self.add(f"{scenario}.events_per_s", result.events / result.seconds)

    def median(self, metric: str) -> float | None:
        """The middle sample of a metric, ``None`` if there is none."""
        found = self.samples.get(metric)
        return statistics.median(found) if found else None


def ratio(metric: str, one: Findings | None, other: Findings | None) -> float | None:
    """The median of the ratios of two contestants, each to that of its own round, if both could be measured."""
    if one is None or other is None:
        return None
    pairs = zip(one.samples.get(metric, ()), other.samples.get(metric, ()), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs]
    return statistics.median(ratios) if ratios else None


def difference(metric: str, one: Findings | None, other: Findings | None) -> float | None:
    """The median of the differences of two contestants, round by round."""
    if one is None or other is None:
        return None
    pairs = zip(one.samples.get(metric, ()), other.samples.get(metric, ()), strict=False)
    differences = [mine - theirs for mine, theirs in pairs]
    return statistics.median(differences) if differences else None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Something to reach: what was found, what it must be and should be. Higher is better unless ``less`` is."""

    title: str
    found: float | None
    must: float
    goal: float
    unit: str = "×"
    less: bool = False

    @property
    def verdict(self) -> str:
        """How it stands, in a word or two."""
        if self.found is None:
            return "not measured"
        for bound, word in ((self.goal, "reaches the goal"), (self.must, "holds")):
            if (self.found <= bound) if self.less else (self.found >= bound):
                return word
        return "**misses**"


def targets(found: Mapping[str, Findings]) -> Sequence[Target]:
    """Every row that must hold."""
    noa, lite, portkey = found.get("Noa"), found.get("LiteLLM"), found.get("Portkey")
    nginx, direct = found.get("nginx"), found.get("direct")
    lite_added = difference("chat-at-rate.latency_p50_ms", lite, direct)
    noa_added = difference("chat-at-rate.latency_p50_ms", noa, direct)
    nginx_added = difference("chat-at-rate.latency_p50_ms", nginx, direct)
    added = None if not lite_added or noa_added is None else noa_added / lite_added
    nginx_goal = 0.0 if not lite_added or nginx_added is None else (nginx_added + 0.3) / lite_added
    grown = None if noa is None else _grown(noa)
    return (
        Target(title="requests/s, of LiteLLM's", found=ratio("chat-1k.per_s", noa, lite), must=45, goal=80),
        Target(title="requests/s, of Portkey's", found=ratio("chat-1k.per_s", noa, portkey), must=5, goal=8),
        Target(title="requests/s, of nginx'", found=ratio("chat-1k.per_s", noa, nginx), must=1 / 8, goal=1 / 4),
        Target(
            title="streamed events/s, of LiteLLM's",
            found=ratio("stream-fast.events_per_s", noa, lite),
            must=30,
            goal=50,
        ),
        Target(
            title="streamed events/s, of direct",
            found=ratio("stream-fast.events_per_s", noa, direct),
            must=0.5,
            goal=0.8,
        ),
        Target(
            title="added latency p50 at 50 requests/s, of LiteLLM's (goal: nginx' plus 0.3 ms)",
            found=added,
            must=1 / 20,
            goal=nginx_goal,
            less=True,
        ),
        Target(title="cold start, of LiteLLM's", found=ratio("start_s", noa, lite), must=1 / 5, goal=1 / 10, less=True),
        Target(
            title="memory after many requests, of LiteLLM's",
            found=ratio("memory_after_mb", noa, lite),
            must=1 / 3,
            goal=1 / 5,
            less=True,
        ),
        Target(title="memory then, of its own after a fifth", found=grown, must=1.05, goal=1.01, less=True),
    )


def _grown(noa: Findings) -> float | None:
    after, early = noa.median("memory_after_mb"), noa.median("memory_fifth_mb")
    return None if after is None or not early else after / early
