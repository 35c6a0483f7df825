"""``noa select``: which model would serve, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from click.testing import Result

from scripted_server import ScriptedServer

Noa = Callable[..., Result]
SELECT = "/api/v1/models/select"


def considered(key: str, **facts: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(("predictedLatencyMs", "predictedTtftMs", "predictedCostUsd", "successRate", "dataAgeS"))
    plain = {"ready": True, "busy": 0.0, "samples": 0, "origin": None, "priceSource": None, "priceAsOf": None}
    return {"key": key, **unknown, **plain, **facts}


def decision(**facts: Any) -> dict[str, Any]:
    known = {"predictedLatencyMs": 412.4, "predictedTtftMs": 90.6, "predictedCostUsd": 0.00125, "successRate": 0.998}
    candidates = [
        considered("a:gone", eliminated="not known to do vision"),
        considered("a:new", rank=2),
        considered("a:best", rank=1, samples=12, dataAgeS=3.4, **known),
    ]
    plain = {"at": "2026-11-23T10:00:00Z", "wish": {}, "chosen": "a:best", "order": ["a:best", "a:new"]}
    told = {"rule": "the lowest predicted latency", "reason": "a:best has it.", "explored": False}
    return {**plain, **told, "candidates": candidates, **facts}


def test_the_chosen_model_is_on_stdout_and_the_reason_beside_it(server: ScriptedServer, noa: Noa) -> None:
    server.answer("POST", SELECT, decision())
    shown = noa("select", "--task", "vision", "--prefer", "speed", "--max-cost", "0.01", "--max-ttft-ms", "800")
    assert (shown.exit_code, shown.stdout) == (0, "a:best\n"), shown.stderr
    assert "a:best has it." in shown.stderr
    wanted = {"task": "vision", "prefer": "speed", "maxCost": 0.01, "maxTtftMs": 800.0}
    assert server.received[-1].json == wanted


def test_every_candidate_is_explained_the_chosen_one_first(server: ScriptedServer, noa: Noa) -> None:
    server.answer("POST", SELECT, decision())
    shown = noa("select", "--explain")
    best, new, gone = [line.split() for line in shown.stdout.splitlines()[2:]]
    assert best == ["a:best", "$0.001250", "91", "ms", "412", "ms", "99.8%", "12,", "3", "s", "ago", "chosen"]
    assert new == ["a:new", "—", "—", "—", "—", "0", "may", "serve"]
    assert gone[0] == "a:gone"
    assert " ".join(gone).endswith("not known to do vision")
    assert "Rule: the lowest predicted latency." in shown.stderr
    assert msgspec.json.decode(noa("select", "--json").stdout)["order"] == ["a:best", "a:new"]


def test_a_decision_of_the_past_is_told_with_what_came_of_it(server: ScriptedServer, noa: Noa) -> None:
    came = {"key": "a:new", "attempts": 2, "success": False, "latencyMs": 30.2, "ttftMs": None, "costUsd": None}
    told = decision(requestId="req_1", outcome={**came, "errorCode": "PROVIDER_ERROR"})
    server.answer("GET", "/api/v1/decisions/req_1", told)
    shown = noa("select", "req_1")
    assert shown.exit_code == 0, shown.stderr
    assert "It failed (PROVIDER_ERROR) on a:new at attempt 2: 30 ms, —." in shown.stderr
    assert noa("select", "req_1", "--task", "chat").exit_code == 2
