"""Keys for single callers: made, shown once, accepted like the server's own, counted by name, revoked, expired."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from managed import birds, manager_over
from noa.caller_keys import CallerKeys
from noa.config import Secret
from noa.errors import CallerKeyNotFoundError, StorageError, ValidationError
from noa.storage.sqlite import SqliteStateStore
from served import Served, manager_of, serving

MASTER = "the-servers-own-key"
OWNER = {"Authorization": f"Bearer {MASTER}"}
KEYS, CHAT = "/api/v1/keys", "/v1/chat/completions"
HELLO = {"model": "fake:parrot", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}


async def create(server: Served, name: str, **more: object) -> str:
    made = await server.post(KEYS, {"name": name, **more}, OWNER)
    assert made.status == 201, made.body
    assert made.headers["cache-control"] == "no-store"
    secret = made.json["secret"]
    assert isinstance(secret, str)
    return secret


async def test_a_callers_key_opens_what_the_servers_own_opens_but_not_the_keys() -> None:
    async with manager_of(birds(), api_key=Secret(MASTER)) as manager, serving(manager) as server:
        secret = await create(server, "ci")
        for headers in ({"Authorization": f"Bearer {secret}"}, {"x-api-key": secret}):
            assert (await server.get("/v1/models", headers)).status == 200
            assert (await server.get("/api/v1/models", headers)).status == 200
            for method, path, body in (
                ("GET", KEYS, None),
                ("POST", KEYS, {"name": "x"}),
                ("DELETE", f"{KEYS}/ci", None),
            ):
                refused = await server.ask(method, path, body, headers)
                assert (refused.status, refused.error["code"]) == (401, "AUTHENTICATION_ERROR")
        assert (await server.get("/v1/models", {"x-api-key": secret[:-1]})).status == 401
        assert (await server.get("/v1/models", {"x-api-key": ""})).status == 401
        assert (await server.get("/v1/models")).status == 401


async def test_what_a_caller_used_is_counted_under_the_keys_name() -> None:
    async with manager_of(birds(), api_key=Secret(MASTER)) as manager, serving(manager) as server:
        secret = await create(server, "ci")
        assert (await server.post(CHAT, HELLO, {"x-api-key": secret})).status == 200
        assert (await server.post(CHAT, {**HELLO, "stream": True}, {"x-api-key": secret})).status == 200
        assert (await server.post(CHAT, HELLO, OWNER)).status == 200
        groups = (await server.get("/api/v1/status/usage?by=key", OWNER)).json["groups"]
        assert {group["group"]: group["requests"] for group in groups} == {"ci": 2, None: 1}
        (listed,) = (await server.get(KEYS, OWNER)).json["keys"]
        assert listed["name"] == "ci"
        assert listed["lastUsed"] is not None


async def test_a_revoked_key_opens_nothing_from_that_moment_on() -> None:
    async with manager_of(birds(), api_key=Secret(MASTER)) as manager, serving(manager) as server:
        secret = await create(server, "ci")
        assert (await server.ask("DELETE", f"{KEYS}/ci", headers=OWNER)).status == 200
        assert (await server.get("/v1/models", {"x-api-key": secret})).status == 401
        gone = await server.ask("DELETE", f"{KEYS}/ci", headers=OWNER)
        assert (gone.status, gone.error["code"]) == (404, "KEY_NOT_FOUND")


async def test_names_and_times_that_make_no_sense_are_refused() -> None:
    async with manager_of(birds(), api_key=Secret(MASTER)) as manager, serving(manager) as server:
        await create(server, "ci", ttl=60)
        assert (await server.post(KEYS, {"name": "ci"}, OWNER)).status == 409
        for body in (
            {},
            {"name": ""},
            {"name": "a b"},
            {"name": "x/y"},
            {"name": "x", "ttl": 0},
            {"name": "x", "ttl": 1e300},
        ):
            assert (await server.post(KEYS, body, OWNER)).status == 400, body
        assert (await server.get(KEYS, OWNER)).json["count"] == 1


async def test_without_a_key_of_its_own_the_server_asks_for_none_and_still_knows_who_calls() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        secret = await create(server, "ci")
        assert (await server.get(KEYS)).json["enforced"] is False
        assert (await server.get("/v1/models")).status == 200
        assert (await server.post(CHAT, HELLO, {"x-api-key": secret})).status == 200
        assert (await server.post(CHAT, HELLO, {"x-api-key": "anything"})).status == 200
        groups = (await server.get("/api/v1/status/usage?by=key")).json["groups"]
        assert {group["group"]: group["requests"] for group in groups} == {"ci": 1, None: 1}


async def test_keys_survive_a_restart_and_stand_nowhere_on_the_disk_or_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with manager_over(birds(), path=tmp_path / "state.json") as manager:
        events: list[object] = []
        manager.on("*", events.append)
        made = await manager.create_caller_key("ci")
        assert manager.caller_of(made.secret.encode()) == "ci"
        assert made.secret not in repr(made)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or made.secret.encode() not in file.read_bytes(), file
    assert made.secret not in caplog.text + repr(events)
    async with manager_over(birds(), path=tmp_path / "state.json") as manager:
        assert manager.caller_of(made.secret.encode()) == "ci"
        (key,) = manager.caller_keys()
        assert key.last_used is not None
    (tmp_path / "state.db").unlink()
    async with manager_over(birds(), path=tmp_path / "state.json") as manager:
        assert manager.caller_of(made.secret.encode()) == "ci", "the readable snapshot restores them"


async def test_an_expired_key_opens_nothing() -> None:
    state = await SqliteStateStore.open()
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    keys = CallerKeys(state, lambda: now)
    made = await keys.create("ci", 60)
    assert keys.name_of(made.secret.encode()) == "ci"
    now += timedelta(seconds=60)
    assert keys.name_of(made.secret.encode()) is None
    await state.aclose()


async def test_a_key_that_could_not_be_written_was_not_made() -> None:
    state = await SqliteStateStore.open()
    keys = CallerKeys(state)
    await state.aclose()
    with pytest.raises(StorageError):
        await keys.create("ci")
    assert keys.all() == []
    with pytest.raises(CallerKeyNotFoundError):
        await keys.revoke("ci")
    with pytest.raises(ValidationError):
        await keys.create("-")


async def test_a_name_is_taken_while_its_key_is_written() -> None:
    state = await SqliteStateStore.open()
    keys = CallerKeys(state)
    outcomes = await asyncio.gather(keys.create("ci"), keys.create("ci"), return_exceptions=True)
    assert [type(each).__name__ for each in outcomes] == ["NewCallerKey", "ConflictError"]
    assert len(keys.all()) == 1
    await state.aclose()


async def test_what_is_noted_of_a_keys_use_does_not_bring_it_back(tmp_path: Path) -> None:
    state = await SqliteStateStore.open(tmp_path / "state.db")
    keys = CallerKeys(state)
    made = await keys.create("ci")
    assert keys.name_of(made.secret.encode()) == "ci"
    await asyncio.gather(keys.keep(), keys.revoke("ci"), keys.keep())
    assert keys.name_of(made.secret.encode()) is None
    assert (await state.read()).caller_keys == ()
    again = await keys.create("ci")
    assert keys.name_of(made.secret.encode()) is None
    assert keys.name_of(again.secret.encode()) == "ci"
    await state.aclose()


async def test_a_key_whose_revocation_could_not_be_written_still_opens(tmp_path: Path) -> None:
    state = await SqliteStateStore.open(tmp_path / "state.db")
    keys = CallerKeys(state)
    made = await keys.create("ci")
    await state.aclose()
    with pytest.raises(StorageError):
        await keys.revoke("ci")
    assert keys.name_of(made.secret.encode()) == "ci"
