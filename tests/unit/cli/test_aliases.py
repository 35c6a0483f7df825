"""``noa alias``, run as people and programs run it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from click.testing import Result

from scripted_server import ScriptedServer

Noa = Callable[..., Result]

SINCE = "2026-11-20T12:00:00Z"
LISTED = {"aliases": [{"name": "prod", "key": "openai:gpt-4", "since": SINCE}], "count": 1}
HISTORY = {
    "name": "prod",
    "key": "openai:gpt-4",
    "history": [
        {"key": "openai:gpt-4", "previous": "openai:gpt-3", "reason": "better", "at": SINCE},
        {"key": None, "previous": None, "reason": "asked for", "at": SINCE},
    ],
}
DONE = {"message": "“prod” means x now.", "name": "prod", "key": "openai:x", "previous": None}
PROD = "/api/v1/aliases/prod"


@pytest.mark.parametrize("arguments", [["alias"], ["alias", "ls"]])
def test_aliases_are_listed(server: ScriptedServer, noa: Noa, arguments: list[str]) -> None:
    server.answer("GET", "/api/v1/aliases", LISTED)
    result = noa(*arguments)
    assert result.exit_code == 0
    head, row = [line.split() for line in result.stdout.splitlines()]
    assert head == ["ALIAS", "KEY", "SINCE"]
    assert row[:2] == ["prod", "openai:gpt-4"]
    assert msgspec.json.decode(noa(*arguments, "--json").stdout) == LISTED
    server.answer("GET", "/api/v1/aliases", {"aliases": [], "count": 0})
    nothing = noa(*arguments)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "noa alias set" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (["set", "prod", "x"], "PUT", PROD, {"key": "x", "load": True}),
        (
            ["set", "prod", "a/b:c", "--reason", "why", "--expected", "y", "--no-load"],
            "PUT",
            PROD,
            {"key": "a/b:c", "reason": "why", "expected": "y", "load": False},
        ),
        (["rm", "prod"], "DELETE", PROD, None),
        (["rollback", "prod"], "POST", f"{PROD}/rollback", {}),
        (["rollback", "prod", "--reason", "slow"], "POST", f"{PROD}/rollback", {"reason": "slow"}),
    ],
)
def test_changes_of_an_alias(
    server: ScriptedServer, noa: Noa, arguments: list[str], method: str, path: str, body: object
) -> None:
    server.answer(method, path, DONE)
    result = noa("alias", *arguments)
    assert (result.exit_code, result.stdout) == (0, "“prod” means x now.\n")
    sent = next(request for request in server.received if request.method == method and request.path == path)
    assert (sent.json if sent.body else None) == body
    assert msgspec.json.decode(noa("alias", *arguments, "--json").stdout) == DONE


def test_the_history_of_an_alias(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", PROD, HISTORY)
    head, first, last = noa("alias", "history", "prod").stdout.splitlines()
    assert head.split() == ["KEY", "BEFORE", "CHANGED", "REASON"]
    assert first.split()[:2] == ["openai:gpt-4", "openai:gpt-3"]
    assert first.split()[-1] == "better"
    assert last.split()[:2] == ["—", "—"]
    assert msgspec.json.decode(noa("alias", "history", "prod", "--json").stdout) == HISTORY


@pytest.mark.parametrize(
    ("status", "code", "expected"), [(404, "MODEL_NOT_FOUND", 3), (409, "CONFLICT", 1), (500, "MODEL_LOAD_ERROR", 6)]
)
def test_what_the_server_refuses_has_its_exit_code(
    server: ScriptedServer, noa: Noa, status: int, code: str, expected: int
) -> None:
    server.refuse("POST", f"{PROD}/rollback", status, code, "It cannot be done.")
    result = noa("alias", "rollback", "prod")
    assert (result.exit_code, result.stdout) == (expected, "")
    assert result.stderr == "Error: It cannot be done.\n"


def test_wrong_usage_exits_with_2(noa: Noa) -> None:
    for arguments in (["set", "prod"], ["nonsense"], ["rm"]):
        assert noa("alias", *arguments).exit_code == 2
