"""``make bench-swap``: what Noa adds to the start of a model, and to the first request after a switch.

Three ways to a first token take turns, so that whatever else the machine does meets them alike:

- *bare*: ``bare_engine.py`` from its spawn to the first token of the request. The script is the engine's package, the
  parameters of Noa's own engine (read from its command line in this run) and nothing else, which is less than Noa's
  child does; it says on a pipe that it is ready, which is sooner than any polling would know. Asked on its socket.
- *bare, alike*: the same, but with the huge pages that Noa's child asks for, and asked who it is and for one token
  before the request, as Noa must before it calls a model loaded. What Noa takes beyond this is Noa's own.
- *Noa*: a request over a kept-alive connection for a model that is not loaded, to its first token. Unloaded after it.

The exit code is 0 unless an answer is wrong; times are for people to read.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from asyncio import run
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import xllamacpp

from bench.noa_server import Moment, NoaServer, serving
from bench.report_page import update
from bench.stream_client import FirstToken, Question, WrongAnswerError, call, first_token, unix
from bench.swap_report import Series, StartFigures, SwitchFigures, rendered
from noa.runtime import llama_server
from noa.runtime.launch import ALLOCATION
from noa.weights import DEMO_SOURCE, fetch

ROOT = Path(__file__).parents[1]
KEYS = ("llama.cpp:a", "llama.cpp:b")
#: The engine's template makes some 35 tokens of the chat; the completion is one token, so nothing hides the overhead.
QUESTIONS = (
    Question(
        "chat, 1 sentence", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Name one colour."}]}
    ),
    Question("completion, 1 word", "/v1/completions", {"prompt": "Hello"}),
)
#: The events that end the stages of a start, in order, and what to call the stage.
STAGES = {
    "model-loading starting": "until the start is ordered",
    "model-loading verifying": "until the engine says it has loaded",
    "model-warmed-up": "until it has identified itself and answered one token",
    "model-loaded": "until that is written down",
}


class Bare:
    """Starts engines by hand, with the parameters that Noa's engine has."""

    def __init__(self, engine: llama_server.Arguments, folder: Path) -> None:
        accelerated = any("GPU" in str(device["type"]) for device in xllamacpp.get_device_info())
        self.alias = engine.alias
        self._socket = folder / "bare.sock"
        given = {
            "model": engine.model,
            "alias": engine.alias,
            "socket": str(self._socket),
            "context": engine.context_size * engine.slots,
            "slots": engine.slots,
            "threads": engine.threads,
            "http_threads": llama_server.HTTP_THREADS,
            "batch": llama_server.GPU_BATCH if accelerated else llama_server.CPU_BATCH,
            "fit": accelerated,
            "verbosity": llama_server.VERBOSITY,
        }
        self._command = [sys.executable, str(ROOT / "bench" / "bare_engine.py"), json.dumps(given)]

    def start(self, question: Question, *, alike: bool) -> tuple[float, float, FirstToken]:
        """Milliseconds from the spawn until it has loaded, and until the first token; and that token."""
        self._socket.unlink(missing_ok=True)
        began = time.perf_counter()
        with subprocess.Popen(  # noqa: S603  # A list of our own making.
            self._command,
            env={**os.environ, **ALLOCATION} if alike else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    raise WrongAnswerError("the bare engine did not load; start it by hand to see why")
                loaded_at = time.perf_counter()
                if alike:
                    call(unix(self._socket), "GET", "/props", None)
                    call(unix(self._socket), "POST", "/completion", {"prompt": "Hello", "n_predict": 1})
                first = first_token(unix(self._socket), question, self.alias)
            finally:
                process.terminate()
        return _ms(loaded_at - began), _ms(first.at - began), first


def start_through_noa(noa: NoaServer, question: Question) -> tuple[float, Mapping[str, float], FirstToken]:
    """Milliseconds to the first token of a model that is not loaded, those of each stage, and that token."""
    with closing(noa.connection()) as connection:
        began, wall = time.perf_counter(), time.time()
        first = first_token(connection, question, KEYS[0])
        whole = _ms(first.at - began)
    stages = _stages(noa.moments(), wall, whole)
    noa.manage("unload", key=KEYS[0])
    return whole, stages, first


def _stages(moments: list[Moment], began: float, whole_ms: float) -> dict[str, float]:
    ends = {moment.name: _ms(moment.at - began) for moment in moments if moment.at >= began}
    stages, before = {}, 0.0
    for name, stage in STAGES.items():
        if name not in ends:
            raise WrongAnswerError(f"the model was not started for the request: there was no event “{name}”")
        stages[stage] = ends[name] - before
        before = ends[name]
    stages["until the first token"] = whole_ms - before
    return stages


def measure_starts(noa: NoaServer, bare: Bare, question: Question, rounds: int) -> StartFigures:
    """Let the three take turns, each round in another order."""
    figures = StartFigures(question.name)
    texts: set[str] = set()

    def by_hand() -> None:
        loaded, whole, first = bare.start(question, alike=False)
        figures.bare_loaded.add(loaded)
        figures.bare.add(whole)
        texts.add(first.text)

    def alike() -> None:
        _, whole, first = bare.start(question, alike=True)
        figures.alike.add(whole)
        texts.add(first.text)

    def through_noa() -> None:
        whole, stages, first = start_through_noa(noa, question)
        figures.noa.add(whole)
        for stage, spent in stages.items():
            figures.stages.setdefault(stage, Series()).add(spent)
        texts.add(first.text)

    ways: list[Callable[[], None]] = [by_hand, alike, through_noa]
    for turn in range(rounds):
        for place in range(len(ways)):
            ways[(turn + place) % len(ways)]()
        _progress(f"{question.name}: start {turn + 1} of {rounds}")
    if len(texts) != 1:
        raise WrongAnswerError(f"the same question had different answers: {sorted(texts)}")
    return figures


def measure_switches(noa: NoaServer, question: Question, rounds: int) -> SwitchFigures:
    """Switch there and back between two loaded models, ask after each, and ask as often without a switch.

    The model that is switched to has not worked since the request before the last, and that alone costs something (its
    threads and caches are cold). So there is a third kind of request: to the other model by its key, nothing switched.
    """
    connection = noa.connection()
    for key in KEYS:
        noa.manage("load", key=key)
        first_token(connection, question, key)
    figures = SwitchFigures(question.name)
    for turn in range(rounds):
        for key in reversed(KEYS):
            figures.commit.add(_ms(noa.manage("switch", key=key, reason="bench-swap")))
            figures.after.add(_asked(connection, question, "current", key))
            figures.again.add(_asked(connection, question, "current", key))
        for key in reversed(KEYS):
            figures.other.add(_asked(connection, question, key, key))
        _progress(f"{question.name}: switches {2 * turn + 2} of {2 * rounds}")
    return figures


def _asked(connection: http.client.HTTPConnection, question: Question, name: str, served_by: str) -> float:
    began = time.perf_counter()
    first = first_token(connection, question, name)
    if first.served_by != served_by:
        raise WrongAnswerError(f"{name} was served by {first.served_by}, not by {served_by}")
    return _ms(first.at - began)


class Options(NamedTuple):
    """What the command line says."""

    rounds: int
    switches: int
    write: bool


def main() -> int:
    """Measure, show the tables, and put them into ``docs/benchmarks.md``."""
    options = _read_options()
    model = run(fetch(DEMO_SOURCE, ROOT / ".cache" / "models"))
    try:
        with _home(model) as home, serving(home) as noa:
            first_token(noa.connection(), QUESTIONS[0], KEYS[0])
            noa.moments()
            bare = Bare(noa.engine(), home.parent)
            noa.manage("unload", key=KEYS[0])
            bare.start(QUESTIONS[0], alike=False)  # Nobody's first start is measured.
            starts = [measure_starts(noa, bare, question, options.rounds) for question in QUESTIONS]
            switches = [measure_switches(noa, question, options.switches) for question in QUESTIONS]
    except (WrongAnswerError, http.client.HTTPException, OSError) as error:
        sys.stderr.write(f"bench-swap: {error}\n")
        return 1
    text = rendered(starts, switches)
    sys.stdout.write(text)
    if options.write:
        update(ROOT / "docs" / "benchmarks.md", "bench-swap", text)
    return 0


def _read_options() -> Options:
    parser = argparse.ArgumentParser(prog="bench-swap", description="What Noa adds to a start and to a switch.")
    parser.add_argument("--rounds", type=int, default=25, help="starts of each kind for each question")
    parser.add_argument("--switches", type=int, default=50, help="switches there and back")
    parser.add_argument("--dry", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    if min(given.rounds, given.switches) < 3:
        parser.error("fewer than 3 rounds show nothing")
    return Options(given.rounds, given.switches, not given.dry)


@contextmanager
def _home(model: Path) -> Iterator[Path]:
    """A home with the demo model under two names; links, so that neither is colder than the other."""
    with tempfile.TemporaryDirectory(prefix="noa-bench-") as folder:
        models = Path(folder) / "home" / "models"
        models.mkdir(parents=True)
        for key in KEYS:
            target = models / f"{key.partition(':')[2]}.gguf"
            try:
                os.link(model, target)
            except OSError:  # Another file system.
                shutil.copyfile(model, target)
        yield models.parent


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")


def _ms(seconds: float) -> float:
    return seconds * 1000


if __name__ == "__main__":
    sys.exit(main())
