"""Aliases besides ``current``: requests follow them, changes are compared, remembered, and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from managed import OWL, PARROT, WREN, birds, manager_over, names, watched
from noa.client import NoaClient
from noa.errors import ConflictError, ModelLoadError, ModelNotFoundError, ValidationError
from noa.manager import ModelManager
from noa.models import ModelStatus
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from served import Served, manager_of, serving, until

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


# The library.


async def test_requests_follow_an_alias_and_current_does_not() -> None:
    manager = manager_over(birds())
    async with watched(manager) as events:
        await manager.load_model(PARROT)
        pointed = await manager.point_alias("prod", "owl", "it sees more")
        assert (pointed.previous_model, pointed.current_model, pointed.reason) == (None, OWL, "it sees more")
        assert (await manager.chat("hi", model="prod")).model == "owl"
        assert (await manager.chat("hi")).model == "parrot"
        await manager.point_alias("prod", WREN)
        assert (await manager.chat("hi", model="prod")).model == "wren"
        assert await manager.remove_alias("prod") == WREN
        with pytest.raises(ModelNotFoundError):
            await manager.chat("hi", model="prod")
        await asyncio.sleep(0)
        assert "model-switched" not in names(events)
        changes = [event for event in events if event.type.startswith("alias-")]
        assert names(changes) == ["alias-pointed", "alias-pointed", "alias-removed"]
        assert changes[1].data.items() >= {"alias": "prod", "key": WREN, "previous": OWL}.items()


async def test_an_alias_wins_over_a_bare_id() -> None:
    async with manager_over(birds()) as manager:
        await manager.point_alias("wren", OWL)
        assert (await manager.chat("hi", model="wren")).model == "owl"
        assert (await manager.chat("hi", model=WREN)).model == "wren"


async def test_without_a_load_the_model_is_loaded_when_it_is_used() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime) as manager:
        await manager.point_alias("fast", PARROT, load=False)
        assert manager.engine.status(PARROT) is ModelStatus.AVAILABLE
        assert (await manager.chat("hi", model="fast")).model == "parrot"
        assert runtime.starts == {PARROT: 1}


async def test_a_model_that_does_not_load_leaves_the_alias_where_it_was() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime) as manager:
        await manager.point_alias("prod", PARROT)
        runtime.fail(OWL, ModelLoadError("owl.gguf is corrupt.", provider="fake"))
        with pytest.raises(ModelLoadError):
            await manager.point_alias("prod", OWL)
        assert manager.engine.aliases["prod"] == PARROT
        assert len(await manager.alias_history("prod")) == 1


async def test_who_waits_through_a_change_lands_on_the_new_model() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime) as manager:
        await manager.load_model(OWL)
        await manager.point_alias("prod", PARROT, load=False)
        runtime.hold_start(PARROT)
        waiting = asyncio.create_task(manager.chat("hi", model="prod"))
        await until(lambda: manager.engine.waiting)
        await manager.point_alias("prod", OWL)
        assert (await waiting).model == "owl"


async def test_a_change_is_refused_if_somebody_else_was_faster() -> None:
    async with manager_over(birds()) as manager:
        await manager.point_alias("prod", PARROT, expected=None)
        for load in (True, False):
            with pytest.raises(ConflictError, match=f"means {PARROT} now, not {OWL}"):
                await manager.point_alias("prod", WREN, expected=OWL, load=load)
        with pytest.raises(ConflictError, match="not nothing"):
            await manager.point_alias("prod", WREN, expected=None)
        await manager.point_alias("prod", WREN, expected="fake/parrot")
        with pytest.raises(ConflictError):
            await manager.switch_model(OWL, expected=OWL)
        await manager.switch_model(OWL, expected=PARROT)
        assert manager.engine.aliases == {"prod": WREN, "current": OWL}


async def test_rolling_back_goes_to_what_was_before_and_back_again() -> None:
    runtime = FakeRuntime()
    async with manager_over(birds(owned=True), runtime=runtime) as manager:
        await manager.point_alias("prod", PARROT)
        with pytest.raises(ConflictError, match=f"meant nothing before {PARROT}"):
            await manager.rollback_alias("prod")
        await manager.point_alias("prod", OWL)
        await manager.unload_model(PARROT)
        back = await manager.rollback_alias("prod", "owls are slow")
        assert (back.previous_model, back.current_model) == (OWL, PARROT)
        assert manager.engine.status(PARROT) is ModelStatus.LOADED
        await manager.rollback_alias("prod")
        await manager.remove_alias("prod")
        with pytest.raises(ModelNotFoundError, match="rollback prod"):
            await manager.alias_history("prod")
        await manager.rollback_alias("prod")
        history = await manager.alias_history("prod")
        assert [record.key for record in history] == [OWL, None, OWL, PARROT, OWL, PARROT]
        assert [record.reason for record in history][:4] == [
            "rolled back from nothing", "asked for", f"rolled back from {PARROT}", "owls are slow",
        ]  # fmt: skip
        with pytest.raises(ModelNotFoundError):
            await manager.rollback_alias("never")


async def test_a_switch_can_be_rolled_back_too() -> None:
    async with manager_over(birds()) as manager:
        await manager.load_model(PARROT)
        await manager.switch_model(OWL)
        assert (await manager.rollback_alias("current")).current_model == PARROT
        assert manager.engine.current_key == PARROT


async def test_aliases_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with manager_over(birds(), path=path) as manager:
        await manager.point_alias("prod", PARROT)
        await manager.point_alias("prod", OWL)
        await manager.point_alias("gone", OWL)
        await manager.remove_alias("gone")
        before = {record.name: (record.key, record.at) for record in await manager.aliases()}
    async with manager_over(birds(), path=path) as manager:
        assert {record.name: (record.key, record.at) for record in await manager.aliases()} == before
        assert before.keys() == {"current", "prod"}
        assert (await manager.chat("hi", model="prod")).model == "owl"
        assert (await manager.rollback_alias("prod")).current_model == PARROT


@pytest.mark.parametrize(
    "name", ["", "Prod", "a b", "a:b", "a/b", "-a", "x" * 65, "auto", "autopilot", "openai", "anthropic", "loaded", "ä"]
)
async def test_what_can_be_no_alias(name: str) -> None:
    async with manager_over(birds()) as manager:
        for load in (True, False):
            with pytest.raises(ValidationError, match="cannot be an alias"):
                await manager.point_alias(name, PARROT, load=load)
        assert manager.engine.aliases == {}


async def test_current_is_reserved() -> None:
    async with manager_over(birds()) as manager:
        with pytest.raises(ValidationError, match="always loaded"):
            await manager.point_alias("current", PARROT, load=False)
        with pytest.raises(ValidationError, match="cannot be removed"):
            await manager.remove_alias("current")
        assert await manager.alias_history("current") == []


# The server.


@pytest.fixture
async def manager() -> AsyncIterator[ModelManager]:
    models = [FakeModel(id=name) for name in ("gpt-4", "gpt-3", "sub/x")]
    async with manager_of(FakeProvider(models, name="openai")) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager) as server:
        yield server


async def test_an_aliass_life_over_http(server: Served) -> None:
    path = "/api/v1/aliases/prod"
    put = await server.ask("PUT", path, {"key": "openai:gpt-4", "expected": None})
    assert (put.status, put.json) == (
        200,
        {"message": "“prod” means openai:gpt-4 now.", "name": "prod", "key": "openai:gpt-4", "previous": None},
    )
    await server.ask("PUT", path, {"provider": "openai", "model": "gpt-3", "reason": "cheaper", "load": False})
    listed = (await server.get("/api/v1/aliases")).json
    assert [(each["name"], each["key"]) for each in listed["aliases"]] == [
        ("current", "openai:gpt-4"), ("prod", "openai:gpt-3"),
    ]  # fmt: skip
    assert listed["count"] == 2
    shown = (await server.get(path)).json
    assert (shown["name"], shown["key"], listed["aliases"][1]["since"]) == (
        "prod", "openai:gpt-3", shown["history"][0]["at"],
    )  # fmt: skip
    assert [(each["key"], each["previous"], each["reason"]) for each in shown["history"]] == [
        ("openai:gpt-3", "openai:gpt-4", "cheaper"), ("openai:gpt-4", None, "asked for"),
    ]  # fmt: skip
    reply = await server.post("/v1/chat/completions", {**HELLO, "model": "prod"})
    assert reply.headers["x-noa-model"] == "openai:gpt-3"
    assert "prod" in [model["id"] for model in (await server.get("/v1/models")).json["data"]]
    assert (await server.get("/api/v1/models/prod")).json["key"] == "openai:gpt-3"

    back = await server.post(f"{path}/rollback")
    assert (back.status, back.json["key"], back.json["previous"]) == (200, "openai:gpt-4", "openai:gpt-3")
    removed = await server.ask("DELETE", path)
    assert (removed.status, removed.json["key"]) == (200, "openai:gpt-4")
    assert (await server.get(path)).status == 404
    assert (await server.ask("DELETE", path)).error["code"] == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "sentence"),
    [
        ("GET", "prod", None, 404, "MODEL_NOT_FOUND", "no alias “prod”"),
        ("POST", "prod/rollback", None, 404, "MODEL_NOT_FOUND", "no alias “prod”"),
        ("POST", "current/rollback", None, 409, "CONFLICT", "meant nothing before openai:gpt-4"),
        ("POST", "current/rollback", {"why": 1}, 400, "VALIDATION_ERROR", "Known are reason"),
        ("DELETE", "current", None, 400, "VALIDATION_ERROR", "cannot be removed"),
        ("PUT", "prod", {}, 400, "VALIDATION_ERROR", "Say which model"),
        ("PUT", "prod", {"key": "openai:gpt-9"}, 404, "MODEL_NOT_FOUND", "gpt-9"),
        ("PUT", "prod", {"key": "gpt-4", "expected": "gpt-3"}, 409, "CONFLICT", "means nothing now, not openai:gpt-3"),
        ("PUT", "current", {"key": "gpt-3", "expected": "x"}, 409, "CONFLICT", "means openai:gpt-4 now, not x"),
        ("PUT", "openai", {"key": "gpt-4"}, 400, "VALIDATION_ERROR", "a provider’s name"),
        ("PUT", "auto", {"key": "gpt-4"}, 400, "VALIDATION_ERROR", "uses the name itself"),
        ("PUT", "Prod", {"key": "gpt-4"}, 400, "VALIDATION_ERROR", "a-z, 0-9"),
        ("PATCH", "prod", None, 405, "METHOD_NOT_ALLOWED", "takes"),
    ],
)
async def test_what_is_refused(
    server: Served, method: str, path: str, body: object, status: int, code: str, sentence: str
) -> None:
    await server.post("/api/v1/models/load", {"key": "openai:gpt-4"})
    answer = await server.ask(method, f"/api/v1/aliases/{path}", body)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert sentence in answer.error["message"]


async def test_a_switch_over_http_compares_too(server: Served) -> None:
    await server.post("/api/v1/models/load", {"key": "openai:gpt-4"})
    refused = await server.post("/api/v1/models/switch", {"key": "openai:gpt-3", "expected": "openai:sub/x"})
    assert (refused.status, refused.error["code"]) == (409, "CONFLICT")
    assert (await server.post("/api/v1/models/switch", {"key": "gpt-3", "expected": "gpt-4"})).status == 200


async def test_the_client_speaks_of_aliases(server: Served) -> None:
    async with NoaClient(server.url) as client:
        assert (await client.point_alias("prod", "openai:sub/x", reason="why", load=False)).previous is None
        with pytest.raises(ConflictError):
            await client.point_alias("prod", "gpt-4", expected="gpt-3")
        await client.point_alias("prod", "gpt-4")
        assert (await client.rollback_alias("prod", reason="slow")).key == "openai:sub/x"
        assert [each.reason for each in (await client.alias("prod")).history] == ["slow", "asked for", "why"]
        assert [each.name for each in (await client.aliases()).aliases] == ["current", "prod"]
        assert (await client.remove_alias("prod")).key == "openai:sub/x"
        with pytest.raises(ConflictError):
            await client.switch("gpt-3", expected="openai:sub/x")
