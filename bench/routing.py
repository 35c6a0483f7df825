"""``python -m bench.routing``: does ``auto`` find the best upstream, and find it again when they change places?

Three upstreams, different in speed, price and reliability, answer 10 streamed requests a second to each way to choose:
``auto`` by each objective with exploration 0.05, round robin, and the lowest latency (an exponentially weighted mean of
raw end-to-end times, as common gateways keep it). Every way has three upstreams of its own, so that none learns from
another's requests; all go through one ``noa serve``, at the same time. After 400 requests the upstreams change places.
Prices are what they were: Noa reads them from the catalogue and the configuration, not from answers.

What counts is what the chosen upstream was like, as planted, so that a busy machine, which slows all of them down, is
no excuse and no help. The oracle knows all that and always takes the best. The exit code is 1 if ``auto`` is more than
5 % worse than it over the requests 201–400, or from 30 s after the change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from aiohttp import web

from bench.noa_server import serving

OUTPUT_TOKENS: Final = 20
TOKENS_PER_CHUNK: Final = 5
PLACES: Final = ("a", "b", "c")
OBJECTIVES: Final = ("speed", "cost", "reliability", "balanced")
#: What a request costs at each place, in USD.
PRICES: Final = {"a": 0.004, "b": 0.001, "c": 0.002}
BEFORE: Final = 400
SETTLED: Final = 200
#: From here on after the change it must be near the oracle again, in seconds; and for how long that is looked at.
ADAPTS_WITHIN_S: Final = 30
AFTERWARDS_S: Final = 30
NEAR: Final = 0.05
#: Below this success rate the cheapest is no bargain.
GOOD: Final = 0.95


class Nature(NamedTuple):
    """How an upstream is: milliseconds to the first token and between tokens, and the part of requests that fail."""

    ttft_ms: float
    tpot_ms: float
    failures: float

    @property
    def latency_ms(self) -> float:
        """What an answer takes."""
        return self.ttft_ms + (OUTPUT_TOKENS - 1) * self.tpot_ms


HASTY, SLOW, SOLID = Nature(80, 4, 0.20), Nature(300, 10, 0.02), Nature(200, 8, 0.0)
#: Who is where, before and after.
WORLDS: Final[Sequence[Mapping[str, Nature]]] = (
    {"a": HASTY, "b": SLOW, "c": SOLID},
    {"a": SOLID, "b": HASTY, "c": SLOW},
)


class Served(NamedTuple):
    """A request that is over: at which place, and its answer's id; what it was like is known by the world it was in."""

    place: str
    world: int
    request_id: str


def scores(objective: str, world: Mapping[str, Nature]) -> dict[str, float]:
    """What a request costs there by an objective; lower is better."""
    match objective:
        case "speed":
            return {place: nature.latency_ms for place, nature in world.items()}
        case "cost":
            return dict(PRICES)
        case "reliability":
            return {place: 1 - nature.failures for place, nature in world.items()}
        case _:
            parts = (
                (0.4, {place: nature.latency_ms for place, nature in world.items()}),
                (0.3, PRICES),
                (0.3, {place: nature.failures for place, nature in world.items()}),
            )
            return {place: sum(weight * _scaled(part, place) for weight, part in parts) for place in world}


def _scaled(values: Mapping[str, float], place: str) -> float:
    low, high = min(values.values()), max(values.values())
    return (values[place] - low) / (high - low)


def oracle(objective: str, world: Mapping[str, Nature]) -> float:
    """The best that anybody could do who knew the world."""
    known = scores(objective, world)
    if objective == "reliability":
        return max(known.values())
    if objective == "cost":
        return min(known[place] for place, nature in world.items() if 1 - nature.failures >= GOOD)
    return min(known.values())


def excess(objective: str, mean: float, best: float) -> float:
    """By how much a mean is worse than the oracle's, as a part of that; negative if it is better."""
    return (best - mean if objective == "reliability" else mean - best) / best


class Upstreams:
    """All upstreams of all ways on one port: ``/<way>-<place>/v1/chat/completions``."""

    def __init__(self, seed: int) -> None:
        self.world = 0
        self._dice = random.Random(seed)  # noqa: S311  # Chance of a test, to be had again by its seed.

    async def start(self) -> tuple[web.AppRunner, int]:
        """Listen on a free loopback port."""
        app = web.Application()
        app.router.add_get("/{name}/v1/models", self._models)
        app.router.add_post("/{name}/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        nature = WORLDS[self.world][request.match_info["name"].rpartition("-")[2]]
        pace = self._dice.uniform(0.9, 1.1) / 1000
        fails = self._dice.random() < nature.failures
        await request.read()
        await asyncio.sleep(nature.ttft_ms * pace)
        if fails:
            return web.json_response({"error": {"message": "it broke", "type": "server_error"}}, status=500)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        for number in range(0, OUTPUT_TOKENS, TOKENS_PER_CHUNK):
            if number:
                await asyncio.sleep(nature.tpot_ms * TOKENS_PER_CHUNK * pace)
            delta = {"index": 0, "delta": {"content": "word " * TOKENS_PER_CHUNK}, "finish_reason": None}
            await response.write(_event({**head, "choices": [delta]}))
        await asyncio.sleep(nature.tpot_ms * (TOKENS_PER_CHUNK - 1) * pace)
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 50, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 50 + OUTPUT_TOKENS}
        await response.write(_event({**head, "choices": [end]}) + _event({**head, "choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response


def _event(data: object) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


class Auto:
    """Noa chooses, by a policy."""

    def __init__(self, way: str) -> None:
        self.way = way

    def model(self) -> str:
        """What to ask for."""
        return f"auto:{self.way}"

    def saw(self, place: str, took_s: float) -> None:
        """Noa sees for itself."""


class RoundRobin(Auto):
    """One after the other."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self._turn = 0

    def model(self) -> str:
        """The next one."""
        self._turn += 1
        return f"{self.way}-{PLACES[self._turn % len(PLACES)]}:m"


class LowestLatency(Auto):
    """The lowest mean of end-to-end times, the newest of which weighs 0.3; whoever is unknown goes first."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self._mean_s: dict[str, float] = {}

    def model(self) -> str:
        """The fastest by now."""
        place = min(PLACES, key=lambda each: self._mean_s.get(each, 0.0))
        return f"{self.way}-{place}:m"

    def saw(self, place: str, took_s: float) -> None:
        """Learn, also from failures: they answer fast."""
        before = self._mean_s.get(place, took_s)
        self._mean_s[place] = before + 0.3 * (took_s - before)


def configuration(ways: Sequence[str], port: int) -> str:
    """The ``noa.yaml`` of the server, which is JSON, which is YAML."""
    names = [f"{way}-{place}" for way in ways for place in PLACES]
    address = f"http://127.0.0.1:{port}"
    service = {"type": "openai", "apiKey": "unused", "maxRetries": 0}
    providers = [{**service, "name": name, "baseURL": f"{address}/{name}/v1"} for name in names]
    models = {
        f"{name}:m": {"price": {"input": 0, "output": PRICES[name[-1]] / OUTPUT_TOKENS * 1e6}, "contextWindow": 8192}
        for name in names
    }
    policies = {
        f"by-{objective}": {"prefer": objective, "providers": [f"by-{objective}-{place}" for place in PLACES]}
        for objective in OBJECTIVES
    }
    return json.dumps(
        {"providers": providers, "models": models, "selection": {"explore": 0.05, "policies": policies}}, indent=1
    )


async def drive(way: Auto, url: str, upstreams: Upstreams, rate: float) -> list[Served]:
    """Ask ``rate`` times a second, for as long as the schedule says; in the order in which they were asked."""
    served: dict[int, Served] = {}
    count = BEFORE + round((ADAPTS_WITHIN_S + AFTERWARDS_S) * rate)
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:

        async def ask(number: int) -> None:
            world, began = upstreams.world, loop.time()
            messages = [{"role": "user", "content": "Write twenty words. " * 10}]
            body = {"model": way.model(), "messages": messages, "max_tokens": OUTPUT_TOKENS, "stream": True}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                await response.read()
                key = response.headers.get("x-noa-model", "")
                place = key.partition(":")[0].rpartition("-")[2]
                way.saw(place, loop.time() - began)
                served[number] = Served(place, world, response.headers["x-request-id"])

        begun = loop.time()
        for number in range(count):
            await asyncio.sleep(begun + number / rate - loop.time())
            if number == BEFORE:
                upstreams.world = 1
            tasks.create_task(ask(number))
    return [served[number] for number in range(count)]


async def explained(url: str, served: Sequence[Served]) -> int:
    """How many of these requests' decisions can be read afterwards, with a reason and an outcome."""
    found = 0
    async with aiohttp.ClientSession() as session:
        for each in served:
            async with session.get(f"{url}/api/v1/decisions/{each.request_id}") as response:
                told = await response.json()
                found += bool(told.get("reason") and told.get("outcome") and told["outcome"]["key"])
    return found


class Row(NamedTuple):
    """How one way did by one objective: the mean, the oracle's, and by how much it was worse, before and after."""

    objective: str
    way: str
    before: tuple[float, float, float]
    after: tuple[float, float, float]


def row(objective: str, way: str, served: Sequence[Served], rate: float) -> Row:
    """Judge a way by an objective."""
    spans = (served[SETTLED:BEFORE], served[BEFORE + round(ADAPTS_WITHIN_S * rate) :])
    judged = []
    for world, span in zip(WORLDS, spans, strict=True):
        known = scores(objective, world)
        mean, best = sum(known[each.place] for each in span) / len(span), oracle(objective, world)
        judged.append((mean, best, excess(objective, mean, best)))
    return Row(objective, way, judged[0], judged[1])


async def measure(rate: float, seed: int) -> tuple[list[Row], int, int]:
    """Run all ways side by side."""
    ways: list[Auto] = [Auto(f"by-{objective}") for objective in OBJECTIVES]
    others: list[Auto] = [RoundRobin("round-robin"), LowestLatency("lowest-latency")]
    upstreams = Upstreams(seed)
    runner, port = await upstreams.start()
    try:
        with tempfile.TemporaryDirectory(prefix="noa-routing-") as folder:
            home = Path(folder) / "home"
            home.mkdir()
            (home / "noa.yaml").write_text(configuration([each.way for each in (*ways, *others)], port))
            server = serving(home)
            noa = await asyncio.to_thread(server.__enter__)
            try:
                done = await asyncio.gather(*(drive(way, noa.url, upstreams, rate) for way in (*ways, *others)))
                # The server remembers the latest 2,000 decisions of all.
                last = [each for served in done[: len(ways)] for each in served[-100:]]
                told = await explained(noa.url, last)
            finally:
                await asyncio.to_thread(server.__exit__, None, None, None)
    finally:
        with suppress(asyncio.CancelledError):
            await runner.cleanup()
    rows = [row(objective, "auto", served, rate) for objective, served in zip(OBJECTIVES, done, strict=False)]
    for way, served in zip(others, done[len(ways) :], strict=True):
        rows += [row(objective, way.way, served, rate) for objective in OBJECTIVES]
    return rows, told, len(last)


_UNITS: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "speed": ("ms", lambda value: f"{value:.0f}"),
    "cost": ("USD", lambda value: f"{value:.5f}"),
    "reliability": ("success", lambda value: f"{value:.3f}"),
    "balanced": ("0 to 1", lambda value: f"{value:.3f}"),
}


def rendered(rows: Sequence[Row]) -> str:
    """The table for ``docs/selection.md``."""
    lines = ["| by | way | 201–400 | oracle | worse by | after the change | oracle | worse by |", "|---" * 8 + "|"]
    for objective in OBJECTIVES:
        unit, shown = _UNITS[objective]
        for each in (one for one in rows if one.objective == objective):
            cells = [f"{shown(mean)} | {shown(best)} | {worse:+.1%}" for mean, best, worse in (each.before, each.after)]
            lines.append(f"| {objective}, {unit} | {each.way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, and show the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second to each way")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows, told, asked = asyncio.run(measure(options.rate, options.seed))
    sys.stdout.write(rendered(rows))
    sys.stdout.write(f"\n{told} of {asked} decisions could be read afterwards, with their reasons and outcomes.\n")
    mine = [each for each in rows if each.way == "auto"]
    far = [each.objective for each in mine if max(each.before[2], each.after[2]) > NEAR]
    if far:
        sys.stderr.write(f"routing: more than {NEAR:.0%} worse than the oracle by {', '.join(far)}\n")
    return 1 if far or told < asked else 0


if __name__ == "__main__":
    sys.exit(main())
