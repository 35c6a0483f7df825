"""``noa doctor``: each thing that can be wrong is found, with what to do about it."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import Result

from noa.storage.lock import DatabaseLock
from scripted_server import ScriptedServer

Noa = Callable[..., Result]
CANARY = "sk-canary-0123456789"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


class Found(NamedTuple):
    code: int
    findings: dict[str, dict[str, Any]]

    def of(self, subject: str) -> str:
        return str(self.findings[subject]["verdict"])


def doctor(noa: Noa, port: int, **variables: str) -> Found:
    """``models`` has two findings of its own where folders are missing; the last counts."""
    ran = noa("doctor", "--json", NOA_PORT=str(port), NOA_HOST="127.0.0.1", NOA_URL=None, **variables)
    answer = msgspec.json.decode(ran.stdout)
    findings = {each["subject"]: each for each in answer["findings"]}
    problems = [each for each in answer["findings"] if each["verdict"] == "problem"]
    assert answer["healthy"] is not bool(problems)
    assert ran.exit_code == (1 if problems else 0)
    assert all(each["advice"] for each in answer["findings"] if each["verdict"] != "ok")
    assert CANARY not in ran.output
    return Found(ran.exit_code, findings)


def test_an_untouched_machine_is_healthy_and_is_told_how_to_get_models(noa: Noa, port: int, tmp_path: Path) -> None:
    found = doctor(noa, port)
    assert found.code == 0
    assert found.of("keys") == "warning"
    assert "OPENAI_API_KEY" in found.findings["keys"]["advice"]
    assert "noa pull demo" in found.findings["models"]["advice"]
    assert {found.of(each) for each in ("configuration", "model folder", "state", "port", "state lock")} == {"ok"}
    assert not (tmp_path / "home").exists(), "it changes nothing"


def test_people_get_lines_with_the_advice_below(noa: Noa, port: int) -> None:
    shown = noa("doctor", NOA_PORT=str(port), NOA_HOST="127.0.0.1")
    assert "ok    port: 127.0.0.1:" in shown.stdout
    assert "\n      → Get a small one: noa pull demo\n" in shown.stdout


def test_a_configuration_that_is_wrong_is_the_only_thing_said(noa: Noa, port: int, tmp_path: Path) -> None:
    (tmp_path / "noa.yaml").write_text("server:\n  prot: 1\n")
    found = doctor(noa, port)
    assert (found.code, [*found.findings]) == (1, ["configuration"])
    assert "noa.yaml:2" in found.findings["configuration"]["message"]


def test_a_provider_that_answers_and_one_that_does_not(noa: Noa, port: int, server: ScriptedServer) -> None:
    server.answer("GET", "/v1/models", {"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})
    found = doctor(
        noa,
        port,
        OPENAI_API_KEY=CANARY,
        OPENAI_BASE_URL=f"{server.url}/v1",
        GROQ_API_KEY=CANARY,
        GROQ_BASE_URL="http://127.0.0.1:9/v1",
    )
    assert found.of("keys") == "ok"
    assert found.of("provider openai") == "ok"
    assert found.of("provider groq") == "problem"
    assert "GROQ_API_KEY" in found.findings["provider groq"]["advice"]


def test_a_key_that_is_refused_is_a_problem(noa: Noa, port: int, server: ScriptedServer) -> None:
    server.refuse("GET", "/v1/models", 401, "invalid_api_key", "No such key.")
    found = doctor(noa, port, OPENAI_API_KEY=CANARY, OPENAI_BASE_URL=f"{server.url}/v1")
    assert found.of("provider openai") == "problem"


def test_a_port_that_another_program_has_is_a_problem(noa: Noa) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # It does not listen, so nothing can be asked there; it cannot be bound all the same.
        found = doctor(noa, taken.getsockname()[1])
    assert found.of("port") == "problem"
    assert "NOA_PORT" in found.findings["port"]["advice"]


def test_a_port_where_noa_itself_runs_is_none(noa: Noa, server: ScriptedServer) -> None:
    server.answer("GET", "/api/v1/status/health", {"knownModels": 1, "version": "1.2.3"})
    found = doctor(noa, int(server.url.rpartition(":")[2]))
    assert found.of("port") == "ok"
    assert "1.2.3" in found.findings["port"]["message"]


def test_a_state_that_another_manager_holds_is_told(noa: Noa, port: int, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    lock = DatabaseLock.acquire(tmp_path / "home" / "state.db")
    lock.announce("http://localhost:4711")
    try:
        found = doctor(noa, port)
    finally:
        lock.release()
    assert found.of("state lock") == "warning"
    assert "http://localhost:4711" in found.findings["state lock"]["message"]
    assert doctor(noa, port).of("state lock") == "ok"


def test_folders_that_are_none_and_disks_that_are_full(
    noa: Noa, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").write_text("a file")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    found = doctor(noa, port)
    assert found.of("model folder") == "problem"
    assert found.of("disk") == "problem"
    assert "NOA_HOME" in found.findings["disk"]["advice"]


def test_an_engine_that_is_missing_is_named_with_how_to_get_it(
    noa: Noa, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = doctor(noa, port)
    assert "noa[local]" in found.findings["engine"]["advice"]
    assert found.of("extras") == "ok", "what one does not want need not be there"
    assert "hub (models of Hugging Face by name)" in found.findings["extras"]["message"]
    assert "noa[hub,plots,otel]" in found.findings["extras"]["advice"]
