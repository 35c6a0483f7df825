"""``noa keys``."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from click.testing import Result

from scripted_server import ScriptedServer

Noa = Callable[..., Result]
KEYS = "/api/v1/keys"
AT = "2026-11-23T12:00:00Z"
CI = {"name": "ci", "createdAt": AT, "expiresAt": None, "lastUsed": None}


def test_a_key_is_all_that_is_printed_when_it_is_made(server: ScriptedServer, noa: Noa) -> None:
    server.answer("POST", KEYS, {"name": "ci", "secret": "sk-noa-x", "createdAt": AT, "expiresAt": AT}, status=201)
    made = noa("keys", "create", "ci", "--expires", "30d")
    assert (made.exit_code, made.stdout) == (0, "sk-noa-x\n")
    assert "only now" in made.stderr
    assert "2026-11-23" in made.stderr
    assert server.received[-1].json == {"name": "ci", "ttl": 30 * 86_400}
    assert msgspec.json.decode(noa("keys", "create", "ci", "--json").stdout)["secret"] == "sk-noa-x"


def test_keys_are_listed_and_revoked(server: ScriptedServer, noa: Noa) -> None:
    expired = {**CI, "name": "old", "expiresAt": "2020-01-01T00:00:00Z", "lastUsed": AT}
    server.answer("GET", KEYS, {"keys": [CI, expired], "count": 2, "enforced": True})
    listed = noa("keys")
    assert listed.stdout.splitlines()[0].split() == ["NAME", "CREATED", "LAST", "USED", "EXPIRES"]
    assert "never" in listed.stdout.splitlines()[1]
    assert listed.stdout.splitlines()[2].endswith("expired")
    assert listed.stdout == noa("keys", "ls").stdout
    server.answer("DELETE", f"{KEYS}/ci", {"message": "The key “ci” is revoked.", "name": "ci"})
    assert noa("keys", "revoke", "ci").stdout == "The key “ci” is revoked.\n"
    server.refuse("DELETE", f"{KEYS}/no", 404, "KEY_NOT_FOUND", "There is no key “no”.")
    assert noa("keys", "revoke", "no").exit_code == 3


def test_a_server_that_asks_for_no_key_is_said_to(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", KEYS, {"keys": [], "count": 0, "enforced": False})
    listed = noa("keys")
    assert listed.stdout == ""
    assert "noa keys create" in listed.stderr
    assert "asks for no key" in listed.stderr
