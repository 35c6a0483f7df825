"""The commands about models, run as people and programs run them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from click.testing import Result

from noa.cli.models import Duration, active_details, active_row
from noa.cli.terminal import byte_size, time_span
from noa.models import (
    ActiveModel,
    ModelCapability,
    ModelInfo,
    ModelStatus,
    PerformanceMetrics,
    RegistryEntry,
)
from scripted_server import ScriptedServer

Noa = Callable[..., Result]

MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LOCAL = "llama.cpp:smollm2-135m-instruct"


def entry(key: str, status: ModelStatus, **fields: Any) -> RegistryEntry:
    provider, _, model_id = key.partition(":")
    facts: dict[str, Any] = {
        "context_window": None,
        "max_tokens": None,
        "capabilities": (ModelCapability.CHAT_COMPLETION, ModelCapability.STREAMING),
        "metadata": {},
        **fields,
    }
    return RegistryEntry(
        key=key, id=model_id, name=model_id, provider=provider, status=status, registered_at=MOMENT, **facts
    )


def active(key: str = LOCAL, **fields: Any) -> ActiveModel:
    provider, _, model_id = key.partition(":")
    info = ModelInfo(id=model_id, name=model_id, provider=provider, context_window=8192)
    return ActiveModel(key=key, model=info, loaded_at=MOMENT, **fields)


@pytest.fixture
def fleet(server: ScriptedServer) -> ScriptedServer:
    models = [
        entry(LOCAL, ModelStatus.LOADED, context_window=8192, file_size=145_000_000),
        entry("claude:claude-haiku", ModelStatus.AVAILABLE, context_window=200_000),
        entry("openai:[bold]odd/name", ModelStatus.FAILED),
    ]
    server.answer("GET", "/api/v1/models", {"models": models, "count": 3})
    server.answer("GET", "/api/v1/models/loaded", {"models": [active()], "count": 1, "currentModel": active()})
    server.answer("GET", "/api/v1/models/current", {"model": active()})
    return server


def test_ls_shows_each_model_on_a_line_and_marks_the_one_in_use(fleet: ScriptedServer, noa: Noa) -> None:
    result = noa("ls")
    assert result.exit_code == 0
    head, *rows = [line.split() for line in result.stdout.splitlines()]
    assert head == ["KEY", "STATUS", "CONTEXT", "SIZE", "CAPABILITIES"]
    assert rows == [
        ["claude:claude-haiku", "available", "200000", "—", "chat_completion,", "streaming"],
        [LOCAL, "*", "loaded", "8192", "138.3", "MiB", "chat_completion,", "streaming"],
        ["openai:[bold]odd/name", "failed", "—", "—", "chat_completion,", "streaming"],
    ]


def test_ls_is_also_called_list(fleet: ScriptedServer, noa: Noa) -> None:
    assert noa("list").stdout == noa("ls").stdout != ""


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([], {}),
        (["--provider", "openai"], {"provider": "openai"}),
        (["--capability", "embeddings"], {"capability": "embeddings"}),
        (["--status", "failed"], {"status": "failed"}),
        (["--loaded"], {"status": "loaded"}),
        (
            ["--provider", "claude", "--capability", "vision", "--status", "available"],
            {"provider": "claude", "capability": "vision", "status": "available"},
        ),
    ],
)
def test_ls_leaves_the_filtering_to_the_server(
    fleet: ScriptedServer, noa: Noa, arguments: list[str], query: dict[str, str]
) -> None:
    assert noa("ls", *arguments).exit_code == 0
    assert next(request.query for request in fleet.received if request.path == "/api/v1/models") == query


def test_ls_refuses_filters_that_contradict_each_other(fleet: ScriptedServer, noa: Noa) -> None:
    assert noa("ls", "--loaded", "--status", "failed").exit_code == 2
    assert fleet.received == []


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/models/loaded", "/api/v1/models/current"])
def test_json_is_what_the_server_said(fleet: ScriptedServer, noa: Noa, path: str) -> None:
    said: dict[str, object] = {
        "/api/v1/models": {"models": [entry("openai:gpt-4", ModelStatus.AVAILABLE)], "count": 1},
        "/api/v1/models/loaded": {"models": [active(ttl_s=90.0)], "count": 1, "currentModel": None},
        "/api/v1/models/current": {"model": active(performance_metrics=PerformanceMetrics(success_rate=1.0))},
    }
    command = {"/api/v1/models": "ls", "/api/v1/models/loaded": "ps", "/api/v1/models/current": "current"}[path]
    fleet.answer("GET", path, said[path])
    result = noa(command, "--json")
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout) == msgspec.json.decode(msgspec.json.encode(said[path]))


@pytest.mark.parametrize("command", ["ls", "ps", "current"])
def test_nothing_is_coloured_without_a_terminal(fleet: ScriptedServer, noa: Noa, command: str) -> None:
    for variables in ({}, {"FORCE_COLOR": "1"}, {"CLICOLOR_FORCE": "1"}, {"COLUMNS": "20"}):
        result = noa(command, **variables)
        assert "\x1b" not in result.output
        assert LOCAL in result.stdout


def test_ps_shows_what_runs() -> None:
    busy = active(
        performance_metrics=PerformanceMetrics(tokens_per_second=41.26, total_inferences=7),
        total_inferences=7,
        in_flight=2,
        pid=4711,
        memory_bytes=3 * 1024**3,
        context_size=4096,
        ttl_s=600.0,
    )
    now = MOMENT + timedelta(minutes=3, seconds=20)
    shown = ("4711", "3.0 GiB", "4096", "2", "7", "41.3", "3m ago", "10m")
    assert active_row(busy, None, now) == (LOCAL, "loaded", *shown)
    idle = active(pinned=True, status=ModelStatus.DRAINING)
    unknown = ("—", "—", "8192", "0", "0", "—", "3m ago", "pinned")
    assert active_row(idle, LOCAL, now) == (f"{LOCAL} *", "draining", *unknown)


def test_ps_says_when_nothing_runs(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", "/api/v1/models/loaded", {"models": [], "count": 0, "currentModel": None})
    result = noa("ps")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "noa load" in result.stderr


def test_a_process_may_have_a_smaller_context_than_its_model_was_trained_for() -> None:
    now = MOMENT + timedelta(minutes=3)
    ours = active(context_size=4096, slots=2, threads=1, pid=1)
    assert "context: 4096 (the model: 8192), memory: —" in active_details(ours, now)
    assert "slots: 2, threads: 1" in active_details(ours, now)
    assert "context: 8192, memory: —" in active_details(active(), now)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"status": ModelStatus.UNLOADED}, "loaded when it is asked for"),
        ({"status": ModelStatus.LOADING}, "whoever asks for it waits"),
        ({"status": ModelStatus.UNLOADED, "error": "Its file is gone."}, "Its file is gone."),
    ],
)
@pytest.mark.parametrize("command", ["ps", "current"])
def test_a_model_in_use_that_is_not_loaded_is_told_of(
    server: ScriptedServer, noa: Noa, command: str, fields: dict[str, Any], says: str
) -> None:
    current = msgspec.structs.replace(active(**fields), loaded_at=None)
    server.answer("GET", "/api/v1/models/loaded", {"models": [], "count": 0, "currentModel": current})
    server.answer("GET", "/api/v1/models/current", {"model": current})
    result = noa(command)
    assert result.exit_code == 0
    assert result.stdout == (f"{LOCAL}\n" if command == "current" else "")
    assert says in result.stderr


def test_current_is_the_key_alone_in_a_pipe(fleet: ScriptedServer, noa: Noa) -> None:
    assert noa("current").stdout == f"{LOCAL}\n"


@pytest.mark.parametrize(("arguments", "stdout"), [([], ""), (["--json"], '{\n  "model": null\n}\n')])
def test_current_without_a_model_in_use_exits_with_3(
    server: ScriptedServer, noa: Noa, arguments: list[str], stdout: str
) -> None:
    server.answer("GET", "/api/v1/models/current", {"model": None})
    result = noa("current", *arguments)
    assert (result.exit_code, result.stdout) == (3, stdout)
    assert "noa switch" in result.stderr


ANSWER = {"message": "It is done.", "provider": "llama.cpp", "model": "x", "key": "llama.cpp:x"}


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["load", "x"], "load", {"key": "x", "warmup": False, "pin": False, "priority": 0, "wait": True}),
        (
            ["load", "a/b:c", "--warmup", "--ttl", "10m", "--pin", "--priority", "-3", "--no-wait"],
            "load",
            {"key": "a/b:c", "warmup": True, "ttl": 600.0, "pin": True, "priority": -3, "wait": False},
        ),
        (
            ["load", "x", "--context-size", "512", "--slots", "2", "--threads", "1", "--cache-type", "q8_0"],
            "load",
            {
                "key": "x",
                "warmup": False,
                "pin": False,
                "priority": 0,
                "wait": True,
                "options": {"contextSize": 512, "slots": 2, "threads": 1, "cacheType": "q8_0"},
            },
        ),
        (["unload", "x"], "unload", {"key": "x", "force": False}),
        (["stop", "x", "--force"], "unload", {"key": "x", "force": True}),
        (["switch", "x"], "switch", {"key": "x"}),
        (["switch", "x", "--reason", "better"], "switch", {"key": "x", "reason": "better"}),
    ],
)
def test_commands_that_change_something(
    server: ScriptedServer, noa: Noa, arguments: list[str], path: str, body: dict[str, object]
) -> None:
    server.answer("POST", f"/api/v1/models/{path}", {**ANSWER, "currentModel": None})
    result = noa(*arguments)
    assert result.exit_code == 0
    assert result.stdout == "It is done.\n"
    assert next(request.json for request in server.received if request.method == "POST") == body
    as_json = msgspec.json.decode(noa(*arguments, "--json").stdout)
    assert as_json["message"] == "It is done."


PLAN = {
    "key": "llama.cpp:x", "fits": True, "neededBytes": 3 * 1024**2, "basis": "measured", "budgetBytes": 8 * 1024**3,
    "usedBytes": 1024**3, "evicts": ["llama.cpp:y"], "waitsFor": [], "threads": 2,
}  # fmt: skip


def test_a_plan_is_shown_and_nothing_is_loaded(server: ScriptedServer, noa: Noa) -> None:
    server.answer("POST", "/api/v1/models/load", {"plan": PLAN})
    result = noa("load", "x", "--plan", "--context-size", "512")
    assert result.exit_code == 0
    head, row = (" ".join(line.split()) for line in result.stdout.splitlines())
    assert head == "KEY FITS NEEDS BASIS USED BUDGET THREADS EVICTS WAITS FOR"
    assert row == "llama.cpp:x yes 3.0 MiB measured 1.0 GiB 8.0 GiB 2 llama.cpp:y —"
    asked = {"key": "x", "plan": True, "options": {"contextSize": 512}}
    assert [request.json for request in server.received if request.method == "POST"] == [asked]
    assert msgspec.json.decode(noa("load", "x", "--plan", "--json").stdout) == {"plan": PLAN}


def test_a_load_shows_no_control_sequences_without_a_terminal(server: ScriptedServer, noa: Noa) -> None:
    server.answer("POST", "/api/v1/models/load", ANSWER)
    server.stream("GET", "/api/v1/events", [], hold=True)
    result = noa("load", "llama.cpp:x")
    assert result.exit_code == 0
    assert "\x1b" not in result.output


@pytest.mark.parametrize("command", ["load", "switch"])
def test_nothing_is_said_to_start_that_the_server_does_not_know(server: ScriptedServer, noa: Noa, command: str) -> None:
    server.refuse("POST", f"/api/v1/models/{command}", 404, "MODEL_NOT_FOUND", "No such model.")
    server.stream("GET", "/api/v1/events", [], hold=True)
    result = noa(command, "nonsense")
    assert (result.exit_code, result.stderr) == (3, "Error: No such model.\n")


def test_a_switch_as_json_has_the_key(server: ScriptedServer, noa: Noa) -> None:
    server.answer("POST", "/api/v1/models/switch", {**ANSWER, "currentModel": None})
    assert msgspec.json.decode(noa("switch", "x", "--json").stdout)["key"] == "llama.cpp:x"


@pytest.mark.parametrize(
    ("problems", "says"),
    [
        (["openai refused the key.", "Nothing answers at claude."], ["openai refused the key.", "answers at claude."]),
        ([], ["noa pull"]),
    ],
)
def test_ls_without_a_model_tells_which_providers_could_not_be_asked(
    server: ScriptedServer, noa: Noa, problems: list[str], says: list[str]
) -> None:
    server.answer("GET", "/api/v1/models", {"models": [], "count": 0})
    server.answer("GET", "/api/v1/models/current", {"model": None})
    server.answer("GET", "/api/v1/status/health", {"status": "degraded", "problems": problems})
    result = noa("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert all(words in result.stderr for words in says)
    assert ("noa pull" in result.stderr) is not bool(problems)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "—"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1024**3, "1.0 GiB"), (5 * 1024**4, "5.0 TiB")],
)
def test_sizes_for_people(count: int | None, shown: str) -> None:
    assert byte_size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (0, "0s"), (59.4, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (200_000, "2d")],
)
def test_time_spans_for_people(seconds: float, shown: str) -> None:
    assert time_span(seconds) == shown
