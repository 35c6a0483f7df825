"""``noa logs`` and ``noa events``: what goes on, as it goes on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from click.testing import Result

from scripted_server import ScriptedServer

Noa = Callable[..., Result]

PATH = "/api/v1/models/llama.cpp:x/logs"
LINES = [b": listening\n\n", b"data: loading\n\n", b"data: \n\n", b"data: \x1b[31mred\n\n"]
END = b"event: end\ndata: {}\n\n"


def test_logs_are_the_last_lines(server: ScriptedServer, noa: Noa) -> None:
    answer = {"success": True, "key": "llama.cpp:x", "lines": ["loading", "out of memory"]}
    server.answer("GET", PATH, answer)
    result = noa("logs", "llama.cpp:x", "-n", "2")
    assert (result.exit_code, result.stdout) == (0, "loading\nout of memory\n")
    assert server.received[0].query == {"tail": "2"}
    assert msgspec.json.decode(noa("logs", "llama.cpp:x", "--json").stdout)["lines"] == answer["lines"]
    assert server.received[1].query == {}


def test_no_logs_are_said_to_be_none(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", PATH, {"success": True, "key": "llama.cpp:x", "lines": []})
    result = noa("logs", "llama.cpp:x")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "llama.cpp:x" in result.stderr


def test_logs_are_followed_until_the_process_ends(server: ScriptedServer, noa: Noa) -> None:
    server.stream("GET", PATH, [*LINES, END], hold=True)
    result = noa("logs", "llama.cpp:x", "-f", "-n", "9")
    assert result.exit_code == 0
    assert result.stdout == "loading\n\n\N{REPLACEMENT CHARACTER}[31mred\n"
    assert server.received[0].query == {"follow": "true", "tail": "9"}
    written = noa("logs", "llama.cpp:x", "--follow", "--json").stdout.splitlines()
    assert [msgspec.json.decode(line)["line"] for line in written] == ["loading", "", "\x1b[31mred"]


def test_a_log_that_breaks_off_is_no_end(server: ScriptedServer, noa: Noa) -> None:
    server.stream("GET", PATH, LINES)
    result = noa("logs", "llama.cpp:x", "-f")
    assert result.exit_code == 4
    assert result.stdout.startswith("loading\n")
    assert "ended before" in result.stderr


def test_an_unknown_model_has_no_logs(server: ScriptedServer, noa: Noa) -> None:
    server.refuse("GET", PATH, 404, "MODEL_NOT_FOUND", "There is no model “x”.")
    assert noa("logs", "llama.cpp:x").exit_code == 3
    assert noa("logs", "llama.cpp:x", "-f").exit_code == 3
    assert noa("logs", "llama.cpp:x", "-n", "0").exit_code == 2


def event(sequence: int, kind: str, data: dict[str, object]) -> bytes:
    body = {"type": kind, "sequence": sequence, "time": "2026-11-20T12:00:00Z", "data": data}
    return f"event: {kind}\nid: {sequence}\ndata: ".encode() + msgspec.json.encode(body) + b"\n\n"


EVENTS = [
    event(7, "model-loading", {"key": "llama.cpp:x", "phase": "loading", "model": {"id": "x"}}),
    event(8, "model-loaded", {"key": "llama.cpp:x", "generation": 1}),
]


def test_events_are_a_line_each(server: ScriptedServer, noa: Noa) -> None:
    server.stream("GET", "/api/v1/events", EVENTS)
    result = noa("events", "--after", "6")
    assert result.exit_code == 0
    assert server.received[0].headers["Last-Event-ID"] == "6"
    shown = [line.partition("  ")[2] for line in result.stdout.splitlines()]
    assert shown == [
        "7  model-loading  key=llama.cpp:x  phase=loading",
        "8  model-loaded  key=llama.cpp:x  generation=1",
    ]


def test_events_of_some_types_as_json(server: ScriptedServer, noa: Noa) -> None:
    server.stream("GET", "/api/v1/events", EVENTS)
    (line,) = noa("events", "--type", "model-loaded", "--type", "model-unloaded", "--json").stdout.splitlines()
    assert msgspec.json.decode(line) == {
        "type": "model-loaded", "sequence": 8, "time": "2026-11-20T12:00:00Z",
        "data": {"key": "llama.cpp:x", "generation": 1},
    }  # fmt: skip
    assert "Last-Event-ID" not in server.received[0].headers
