"""Whether ``noa profile`` and an independent tool find the same of the same model.

    python -m venv /tmp/aiperf && /tmp/aiperf/bin/pip install aiperf
    python -m bench.profile_agreement --aiperf /tmp/aiperf/bin/aiperf

It needs AIPerf (NVIDIA's, from the package index) in an environment of its own, the local engine, and the demo model,
which is fetched if it is not there. One server runs; the two take turns on it, and who begins changes with each round.
Each turn warms up with one request and then sends the same prompts one after the other, for 32 tokens each. The prompts
of all turns are the same but for the nonce at their beginning, which keeps the engine's prompt cache out. Tokens are
the server's own count in both. A turn's figure is its median; what is compared is the median of the turns.

The exit code is 0 if all figures agree within 10 %. Run it on a quiet machine: AIPerf's processes need processors too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from asyncio import run
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil

from bench.noa_server import NoaServer, serving
from bench.stream_client import call
from noa.measurement.prompts import prompts
from noa.measurement.summary import ProfileMetrics
from noa.weights import DEMO_SOURCE, fetch

ROOT = Path(__file__).parents[1]
KEY = "llama.cpp:smol"
MAX_TOKENS = 32
#: How far the two may lie apart.
AGREEMENT = 0.10
#: A turn begins when the processors are less busy than this, or after so many seconds.
QUIET_PERCENT = 25.0
QUIET_PATIENCE_S = 60
#: Only its being there is needed, since the server counts: a vocabulary of one word.
_TOKENIZER = {
    "tokenizer.json": {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
    },
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"},
}

#: The server's tokens, and as little beside the measuring as there can be: each process needs a processor.
_SWITCHES = ("--streaming", "--use-server-token-count", "--no-gpu-telemetry", "--no-server-metrics")

#: A turn's figures by name.
Figures = Mapping[str, float]
Turn = Callable[[], Figures]


def by_noa(noa: NoaServer, requests: int) -> Figures:
    """One turn of ``noa profile``."""
    with closing(noa.connection()) as connection:
        body = {"testCount": requests, "maxTokens": MAX_TOKENS}
        answer = call(connection, "POST", f"/api/v1/models/{KEY}/profile", body)
    found = msgspec.convert(answer["metrics"], ProfileMetrics)
    medians = {"TTFT, ms": found.ttft_ms.p50, "TPOT, ms": found.tpot_ms.p50, "E2E, ms": found.e2e_ms.p50}
    return {name: value for name, value in {**medians, "ITL, ms": found.itl_ms.p50}.items() if value is not None}


def by_aiperf(command: str, url: str, requests: int, folder: Path) -> Figures:
    """One turn of AIPerf's."""
    texts = prompts(uuid.uuid4().hex[:16], requests + 1)
    questions, artifacts = folder / "prompts.jsonl", folder / "artifacts"
    questions.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shutil.rmtree(artifacts, ignore_errors=True)
    arguments = {
        "--model": KEY,
        "--url": url,
        "--endpoint-type": "chat",
        "--concurrency": "1",
        "--request-count": str(requests),
        "--warmup-request-count": "1",
        "--input-file": str(questions),
        "--custom-dataset-type": "single_turn",
        "--dataset-sampling-strategy": "sequential",
        "--extra-inputs": f"max_tokens:{MAX_TOKENS}",
        "--tokenizer": str(folder / "tokenizer"),
        "--workers-max": "1",
        "--record-processors": "1",
        "--ui": "none",
        "--artifact-dir": str(artifacts),
    }
    words = [word for pair in arguments.items() for word in pair]
    subprocess.run(  # noqa: S603  # A list of our own making.
        [command, "profile", *words, *_SWITCHES],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    found: Mapping[str, Any] = json.loads((artifacts / "profile_export_aiperf.json").read_text())
    return {
        "TTFT, ms": found["time_to_first_token"]["p50"],
        "TPOT, ms": found["inter_token_latency"]["p50"],
        "E2E, ms": found["request_latency"]["p50"],
        "ITL, ms": found["inter_chunk_latency"]["p50"],
    }


def wait_for_quiet() -> None:
    """Return when nobody else uses the processors, or when that has taken too long: it is for people to judge then."""
    for _ in range(QUIET_PATIENCE_S):
        if psutil.cpu_percent(interval=1.0) < QUIET_PERCENT:
            return
    sys.stderr.write("The machine is busy; what follows is disturbed.\n")


def take_turns(turns: Sequence[Turn], rounds: int) -> list[list[Figures]]:
    """Every turn's figures; who begins changes with each round."""
    found: list[list[Figures]] = [[] for _ in turns]
    for number in range(rounds):
        order = range(len(turns)) if number % 2 == 0 else reversed(range(len(turns)))
        for index in order:
            wait_for_quiet()
            found[index].append(turns[index]())
            sys.stderr.write(f"{number + 1} {('noa', 'aiperf')[index]} {dict(found[index][-1])}\n")
    return found


def table(noa: Sequence[Figures], aiperf: Sequence[Figures]) -> tuple[list[str], bool]:
    """The figures side by side in Markdown, and whether all of them agree."""
    lines = ["| | noa profile | aiperf | noa : aiperf | by rounds |", "|---|---|---|---|---|"]
    agree = True
    for name in ("TTFT, ms", "TPOT, ms", "ITL, ms", "E2E, ms"):
        ours, theirs = (median(each[name] for each in turns) for turns in (noa, aiperf))
        each_round = median(one[name] / other[name] for one, other in zip(noa, aiperf, strict=True))
        lines.append(f"| {name} | {ours:.1f} | {theirs:.1f} | **{ours / theirs:.3f}** | {each_round:.3f} |")
        agree = agree and abs(ours / theirs - 1) <= AGREEMENT
    return lines, agree


def main() -> int:
    """Compare, print, and say by the exit code whether the two agree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--aiperf", default="aiperf", help="the command, in its own environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10, help="tests of each turn")
    options = parser.parse_args()
    if shutil.which(options.aiperf) is None:
        parser.error(f"{options.aiperf} is not here: install aiperf into an environment of its own and name it.")
    weights = run(fetch(DEMO_SOURCE, ROOT / ".cache" / "models"))
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(scratch), Path(scratch) / "home"
        (home / "models").mkdir(parents=True)
        (home / "models" / "smol.gguf").symlink_to(weights)
        (folder / "tokenizer").mkdir()
        for file, content in _TOKENIZER.items():
            (folder / "tokenizer" / file).write_text(json.dumps(content))
        with serving(home) as noa:
            noa.manage("load", key=KEY)
            turns: tuple[Turn, Turn] = (
                lambda: by_noa(noa, options.requests),
                lambda: by_aiperf(options.aiperf, noa.url, options.requests, folder),
            )
            ours, theirs = take_turns(turns, options.rounds)
    lines, agree = table(ours, theirs)
    verdict = "They agree within 10 %." if agree else "They differ by more than 10 %."
    sys.stdout.write("\n".join([*lines, "", verdict, ""]))
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
