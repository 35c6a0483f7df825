"""``make bench-compare BASE=<git ref>``: the same load for this build and for that one, and which costs more.

Both run all the time and are asked in turns, a short load each, so that whatever else the machine does meets them
alike. What is compared is processor time per request, which a busy machine disturbs far less than requests per second.
The exit code is 1 if this build is slower. ``--plant 20`` compares this build with itself, slowed by so many per cent.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import msgspec

from bench.contestants import Noa, Running, started
from bench.processes import ROOT, Process, end_with_us, loaded, service
from bench.scenarios import Scenario, scenarios
from bench.stream_client import WrongAnswerError
from bench.verdict import Verdict, judge

_LOADS = ("chat-1k", "chat-100k", "stream-fast", "embeddings")


def main() -> int:
    """Compare, and say how it went."""
    end_with_us()
    parser = argparse.ArgumentParser(prog="bench-compare", description="This build of Noa beside another one.")
    parser.add_argument("base", help="a git ref: the build to compare with")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load goes on")
    parser.add_argument(
        "--plant", type=float, default=0.0, metavar="PERCENT", help="slow this build, and see it noticed"
    )
    given = parser.parse_args()
    if given.rounds < 5:
        parser.error("fewer than 5 rounds prove nothing")
    try:
        with tempfile.TemporaryDirectory(prefix="noa-bench-") as folder:
            base = None if given.plant else _unpacked(given.base, Path(folder) / "base")
            verdicts = _compare(Path(folder), base, given.rounds, given.seconds, given.plant / 100)
    except (WrongAnswerError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"bench-compare: {error}\n")
        return 2
    other = f"this build without the planted {given.plant:g} %" if given.plant else given.base
    sys.stdout.write(_shown(verdicts, other))
    return 1 if any(each.is_slower for each in verdicts.values()) else 0


def _compare(folder: Path, base: Path | None, rounds: int, seconds: float, planted: float) -> dict[str, Verdict]:
    loads = [each for each in scenarios(seconds) if each.name in _LOADS]
    with ExitStack() as stack:
        upstream, port = stack.enter_context(service(folder))
        ours = stack.enter_context(started(Noa("base", source=base), port, folder / "one"))
        spin_us = planted * _cost(loads[0], ours, upstream, folder) if planted else 0.0
        theirs = stack.enter_context(started(Noa("this", spin_us=spin_us), port, folder / "two"))
        costs: dict[str, tuple[list[float], list[float]]] = {}
        for turn in range(rounds):
            for each in loads:
                pair = costs.setdefault(each.name, ([], []))
                order = [(ours, pair[0]), (theirs, pair[1])]
                for run, found in order if turn % 2 else reversed(order):
                    found.append(_cost(each, run, upstream, folder))
            sys.stderr.write(f"bench-compare: round {turn + 1} of {rounds}\n")
    return {name: judge(*pair) for name, pair in costs.items()}


def _cost(load: Scenario, run: Running, upstream: Process, folder: Path) -> float:
    """Microseconds of a processor per request. The connections are closed again before anybody else is asked."""
    plan = msgspec.structs.replace(load.towards(run.port, run.headers, run.prefix), warm_up=load.plan.connections)
    with loaded(plan, run.process, upstream, folder) as sent:
        return sent.cpu_us


def _unpacked(ref: str, folder: Path) -> Path:
    """The sources of a git ref, without touching the checkout. They run with what is installed here."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", ref, "src"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # No shell; git judges the ref.
    if done.returncode:
        raise WrongAnswerError(f"git does not know the build “{ref}”: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def _shown(verdicts: dict[str, Verdict], base: str) -> str:
    titles = {each.name: each.title for each in scenarios(1)}
    lines: Sequence[str] = [
        f"{titles[name]}: {_word(each)}: {each.ratio:.3f} × the processor time of {base} "
        f"(between {each.low:.3f} and {each.high:.3f})"
        for name, each in verdicts.items()
    ]
    whole = statistics.geometric_mean([each.ratio for each in verdicts.values()])
    return "\n".join([*lines, f"all of them: {whole:.3f} ×", ""])


def _word(verdict: Verdict) -> str:
    return "SLOWER" if verdict.is_slower else "faster" if verdict.is_faster else "the same"


if __name__ == "__main__":
    sys.exit(main())
