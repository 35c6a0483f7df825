"""What managing costs where there is a lot: many models, many records, many listeners, and a busy database."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.contestants import Noa, Running, started
from bench.load_plan import Spread
from bench.processes import Process, loaded, service
from bench.scenarios import scenarios
from bench.scripted_service import CHAT_MODEL, PACED_MODEL
from bench.stream_client import WrongAnswerError
from noa.storage.usage import SqliteUsageStore

_LISTENERS = 200
_READERS = 4
_LAG_S = 5.0
_REPEATS = 100
_WARM_UP = 4


class ControlPlane(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Times in milliseconds, over HTTP on a kept-alive connection; starts in seconds.

    ``asking`` is for an answer that takes no work at all: nothing over HTTP is faster than that.
    """

    models: int
    records: int
    asking: Spread
    listing: Spread
    filtering: Spread
    selecting: Spread
    start_empty_s: float
    start_full_s: float
    chat_alone: Spread
    chat_with_listeners: Spread
    heard: float
    switching: Spread
    switching_while_read: Spread
    reads: int


def measure(folder: Path, *, models: int, records: int) -> ControlPlane:
    """Measure all of it with servers of its own. Raises ``WrongAnswerError``."""
    folder.mkdir(parents=True)
    asking, listing, filtering, selecting = _many_models(folder, models)
    with service(folder) as (upstream, port):
        with started(Noa(), port, folder / "empty") as run:
            start_empty_s = run.start_s
            alone, crowded, heard = _listeners(run, upstream, folder)
        home = folder / "full"
        home.mkdir()
        asyncio.run(_fill(home / "usage.db", records))
        with started(Noa(), port, home) as run:
            start_full_s = run.start_s
            switching = _switches(run)
            with _hard_reading(run) as reads:
                switching_while_read = _switches(run)
    return ControlPlane(
        models=models,
        records=records,
        asking=asking,
        listing=listing,
        filtering=filtering,
        selecting=selecting,
        start_empty_s=start_empty_s,
        start_full_s=start_full_s,
        chat_alone=alone,
        chat_with_listeners=crowded,
        heard=heard,
        switching=switching,
        switching_while_read=switching_while_read,
        reads=reads[0],
    )


def _many_models(folder: Path, models: int) -> tuple[Spread, Spread, Spread, Spread]:
    with service(folder, models) as (_, port), started(Noa(), port, folder / "many") as run:
        known = msgspec.json.decode(_ask(run, "GET", "/api/v1/models/statistics"))["statistics"]["totalModels"]
        if known < models:
            raise WrongAnswerError(f"{known} models are known where there are {models}")
        return (
            _timed(run, "GET", "/api/v1/models/current"),
            _timed(run, "GET", "/api/v1/models?limit=50"),
            _timed(run, "GET", "/api/v1/models?limit=50&provider=bench&capability=chat_completion"),
            _timed(run, "POST", "/api/v1/models/select", b'{"task": "chat", "prefer": "cost"}'),
        )


async def _fill(path: Path, records: int) -> None:
    """A history as it stands after so many requests, made by SQL since to serve them would take an hour."""
    store = await SqliteUsageStore.open(path)
    await store.aclose()
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    row = (
        "INSERT INTO requests (request_id, key, at_us, operation, streamed, success, latency_ms, prompt_tokens, "
        "completion_tokens) VALUES (?, ?, ?, 'chat', 0, 1, 250.0, 200, 200)"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            row,
            ((f"req_{index}", f"bench:{CHAT_MODEL}", now_us - (records - index) * 1000) for index in range(records)),
        )


def _listeners(run: Running, upstream: Process, folder: Path) -> tuple[Spread, Spread, float]:
    """How long requests take without listeners and with many, and how much of it the slowest listener hears of."""
    chat = scenarios(2.0)[0].towards(run.port, run.headers, run.prefix)
    chat = msgspec.structs.replace(chat, connections=4, rate=20.0, seconds=3.0, warm_up=20)
    with loaded(chat, run.process, upstream, folder) as load:
        alone = load.result.latency
    listening = [_listen(run) for _ in range(_LISTENERS)]
    heard = [0] * _LISTENERS
    threads = [threading.Thread(target=_count, args=(each, heard, place)) for place, each in enumerate(listening)]
    for thread in threads:
        thread.start()
    with loaded(chat, run.process, upstream, folder) as load:
        sent, crowded = load.result.requests + chat.warm_up, load.result.latency
    deadline = time.monotonic() + _LAG_S
    while min(heard) < sent and time.monotonic() < deadline:
        time.sleep(0.05)
    for each in listening:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
    for thread in threads:
        thread.join()
    assert alone is not None
    assert crowded is not None
    return alone, crowded, min(heard) / sent


def _listen(run: Running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", run.port), timeout=60)
    fields = "".join(f"{name}: {value}\r\n" for name, value in run.headers.items())
    connection.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{run.port}\r\n{fields}\r\n".encode())
    return connection


def _count(connection: socket.socket, heard: list[int], place: int) -> None:
    """Count the ends of requests that a listener hears of."""
    word, rest = b"event: inference-complete", b""
    with contextlib.suppress(OSError):
        while piece := connection.recv(1 << 18):
            rest += piece
            heard[place] += rest.count(word)
            rest = rest[rest.rfind(word) + len(word) :] if word in rest else rest[-len(word) :]


def _switches(run: Running) -> Spread:
    bodies = [msgspec.json.encode({"key": f"bench:{each}", "reason": "bench"}) for each in (PACED_MODEL, CHAT_MODEL)]
    return _timed(run, "POST", "/api/v1/models/switch", *bodies)


@contextmanager
def _hard_reading(run: Running) -> Iterator[list[int]]:
    """Have the usage summed up again and again by several at once; gives how often it was."""
    stop, reads = threading.Event(), [0]

    def read() -> None:
        while not stop.is_set():
            _ask(run, "GET", "/api/v1/status/usage?by=hour")
            reads[0] += 1

    threads = [threading.Thread(target=read) for _ in range(_READERS)]
    for thread in threads:
        thread.start()
    try:
        yield reads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _timed(run: Running, method: str, path: str, *bodies: bytes) -> Spread:
    """How long a request takes, again and again; the bodies take turns."""
    with closing(http.client.HTTPConnection("127.0.0.1", run.port, timeout=60)) as connection:
        spent = []
        for turn in range(_WARM_UP + _REPEATS):
            began = time.perf_counter()
            _answer(connection, run, method, path, bodies[turn % len(bodies)] if bodies else None)
            spent.append(time.perf_counter() - began)
    spread = Spread.of(spent[_WARM_UP:])
    assert spread is not None
    return spread


def _ask(run: Running, method: str, path: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", run.port, timeout=60)) as connection:
        return _answer(connection, run, method, path, None)


def _answer(connection: http.client.HTTPConnection, run: Running, method: str, path: str, body: bytes | None) -> bytes:
    connection.request(method, path, body, {"Content-Type": "application/json", **run.headers})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise WrongAnswerError(f"{method} {path} answered {answer.status}: {text[:300]!r}")
    return text
