"""``make bench``: Noa beside what people would use instead of it, and beside what bounds them all.

Each round starts every contestant anew, in another order, gives it every load, and ends it; only one runs at a time.
The first round also sends each a great many requests, and looks at its memory. A wrong answer of Noa's ends the run; a
peer's is noted in its place.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from bench import control_plane
from bench.contestants import Contestant, Direct, LiteLLM, Nginx, Noa, Portkey, Running, started
from bench.findings import Findings
from bench.gateways_report import Circumstances, rendered
from bench.peers import install
from bench.processes import ROOT, Process, end_with_us, loaded, service
from bench.report_page import update
from bench.scenarios import Scenario, scenarios
from bench.stream_client import WrongAnswerError

#: A machine that is busier than this before the run, of 1, makes its figures preliminary.
_QUIET = 0.10
_IDLE_CONNECTIONS = 1_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    rounds: int
    seconds: float
    memory_requests: int
    memory_seconds: float
    models: int
    records: int
    only: Sequence[str]
    write: bool
    install: bool


def main() -> int:
    """Install the peers, measure, show the tables, and put them into ``docs/benchmarks.md`` and JSON beside it."""
    end_with_us()
    options = _options()
    if options.install:
        install(_progress)
    busy = psutil.cpu_percent(2.0) / 100
    contestants, missing = _present(options.only)
    found = {each.name: Findings(name=each.name, version=each.version() or "") for each in contestants}
    try:
        with tempfile.TemporaryDirectory(prefix="noa-bench-") as folder:
            for turn in range(options.rounds):
                shift = turn % len(contestants)
                for each in (*contestants[shift:], *contestants[:shift]):
                    _progress(f"round {turn + 1} of {options.rounds}: {each.name}")
                    _measure(each, found[each.name], options, Path(folder) / f"{turn}-{each.name}", first=turn == 0)
            _progress("the control plane")
            control = control_plane.measure(Path(folder) / "control", models=options.models, records=options.records)
    except WrongAnswerError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    circumstances = Circumstances(
        rounds=options.rounds,
        seconds=options.seconds,
        memory_requests=options.memory_requests,
        busy=busy,
        preliminary=busy > _QUIET or options.rounds < 3 or options.seconds < 2,
        missing=missing,
    )
    text = rendered(circumstances, found, control)
    sys.stdout.write(text)
    if options.write:
        update(ROOT / "docs" / "benchmarks.md", "bench", text)
        whole = {"circumstances": circumstances, "found": found, "control": control}
        (ROOT / "docs" / "benchmarks.json").write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
    return 0


def _measure(who: Contestant, found: Findings, options: Options, folder: Path, *, first: bool) -> None:
    """One contestant's turn."""
    folder.mkdir(parents=True)
    with service(folder) as (upstream, port):
        try:
            with started(who, port, folder / "own") as run:
                found.add("start_s", run.start_s)
                found.add("memory_idle_mb", run.process.memory_bytes() / 1e6)
                loads = scenarios(options.seconds)
                for each in loads:
                    _load(who, found, each, run, upstream, folder)
                if first and who.name != "direct":
                    _look_at_memory(found, loads[0], run, upstream, options, folder)
        except WrongAnswerError as error:
            if isinstance(who, Noa):
                raise
            found.failures["start"] = str(error).partition("\n")[0]


def _load(who: Contestant, found: Findings, scenario: Scenario, run: Running, upstream: Process, folder: Path) -> None:
    plan = scenario.towards(run.port, run.headers, run.prefix)
    try:
        with loaded(plan, run.process, upstream, folder) as load:
            found.add_load(scenario.name, load)
    except WrongAnswerError as error:
        if isinstance(who, Noa):
            raise
        found.failures[scenario.name] = str(error).partition("\n")[0][:200]


def _look_at_memory(
    found: Findings, chat: Scenario, run: Running, upstream: Process, options: Options, folder: Path
) -> None:
    """Send a great many requests, as many as there is time for, and look at the memory on the way and at the end."""
    towards = chat.towards(run.port, run.headers, run.prefix)
    wanted, sent = options.memory_requests, 0
    speed = found.median(f"{chat.name}.per_s") or 1.0
    possible = min(wanted, int(speed * options.memory_seconds))
    for share, name in ((0.2, "memory_fifth_mb"), (0.8, "memory_after_mb")):
        plan = msgspec.structs.replace(towards, seconds=0.0, requests=max(1, int(possible * share)))
        with loaded(plan, run.process, upstream, folder) as load:
            sent += load.result.requests
        found.add(name, run.process.memory_bytes() / 1e6)
    if possible < wanted:
        found.notes["memory"] = f"after {sent:,} requests only, as many as {options.memory_seconds:.0f} s had room for"
    idle = msgspec.structs.replace(towards, seconds=0.0, connections=_IDLE_CONNECTIONS, warm_up=1)
    before = run.process.memory_bytes()
    with loaded(idle, run.process, upstream, folder):
        found.add("memory_idle_connections_mb", (run.process.memory_bytes() - before) / 1e6)


def _present(only: Sequence[str]) -> tuple[list[Contestant], dict[str, str]]:
    """Who takes part, and who cannot for which reason."""
    everybody: tuple[Contestant, ...] = (Noa(), LiteLLM(), Portkey(), Nginx(), Direct())
    missing: dict[str, str] = {}
    for each in everybody:
        if only and each.name.lower() not in only:
            missing[each.name] = "not asked for"
        elif each.version() is None:
            missing[each.name] = "not installed"
    return [each for each in everybody if each.name not in missing], missing


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="bench", description="Noa beside other gateways, on this machine.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load goes on")
    parser.add_argument("--memory-requests", type=int, default=100_000)
    parser.add_argument("--memory-seconds", type=float, default=240.0, help="how long those may take at most")
    parser.add_argument("--models", type=int, default=100_000, help="models registered for the control plane")
    parser.add_argument("--records", type=int, default=1_000_000, help="records on disk for the control plane")
    parser.add_argument("--only", default="", help="names of contestants, with commas; everybody unless given")
    parser.add_argument("--no-install", action="store_true", help="take the peers that are there")
    parser.add_argument("--dry", action="store_true", help="leave docs/ as it is")
    given = parser.parse_args()
    return Options(
        rounds=max(1, given.rounds),
        seconds=given.seconds,
        memory_requests=given.memory_requests,
        memory_seconds=given.memory_seconds,
        models=given.models,
        records=given.records,
        only=[each for each in given.only.lower().split(",") if each],
        write=not given.dry,
        install=not given.no_install,
    )


def _progress(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
