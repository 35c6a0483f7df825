"""Aliases that are split over real sockets: a worse newcomer goes by itself, a better one is promoted when told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from choosing import CHAT_PATH, CHEAP, FAST, SOLID, Trio, three_upstreams
from managed import OWL, PARROT, birds, manager_over, watched
from noa.errors import ModelLoadError, ModelNotFoundError, ValidationError
from noa.runtime.fake import FakeRuntime
from noa.state import Guard
from scripted_upstream import Answer, json_answer
from served import Served, serving, until

OWN, CANARY = SOLID, FAST
ASK = {"model": "prod", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}
ERRORS = Guard(max_error_rise=0.05, max_latency_ratio=None, min_requests=20)
REFUSALS = {
    "503": Answer(status=503),
    "429": Answer(status=429, headers={"retry-after": "30"}),
    "401": json_answer({"error": {"message": "wrong key", "type": "invalid_request_error"}}, 401),
    "404": json_answer({"error": {"message": "no such model", "code": "model_not_found"}}, 404),
}


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    async with three_upstreams(tmp_path) as trio:
        await trio.manager.point_alias("prod", OWN)
        deal(trio, 50)
        yield trio


@pytest.fixture
async def server(trio: Trio) -> AsyncIterator[Served]:
    async with serving(trio.manager) as server:
        yield server


def deal(trio: Trio, percent: float) -> None:
    """Let chance give the newcomer exactly its percentage, evenly spread."""
    turns = itertools.cycle([0.0] * round(percent / 10) + [0.999] * (10 - round(percent / 10)))
    trio.manager._open.splits._draw = lambda: next(turns)


async def ask(server: Served, *, stream: bool = False) -> tuple[int, str]:
    answer = await server.post(CHAT_PATH, {**ASK, "stream": stream})
    return answer.status, answer.headers["x-noa-model"]


# A worse one.


async def test_a_newcomer_that_fails_is_rolled_back_by_itself(trio: Trio, server: Served) -> None:
    await trio.manager.split_alias("prod", {CANARY: 50}, guard=ERRORS)
    trio.upstreams[CANARY].always(CHAT_PATH, Answer(status=500))
    for number in range(60):
        status, key = await ask(server, stream=number % 2 == 0)
        assert (status, key) in ((200, OWN), (502, CANARY))
        if trio.manager.alias_split("prod") is None:
            break
    [rolled_back] = trio.told("canary-rolled-back")
    assert rolled_back.items() >= {"alias": "prod", "key": CANARY, "own": OWN}.items()
    assert "of its 20 requests failed, against 0 of" in str(rolled_back["reason"])
    assert [await ask(server) for _ in range(20)] == [(200, OWN)] * 20
    await trio.heard()
    assert [ended["keys"] for ended in trio.told("alias-split-ended")] == [[CANARY]]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_no_caller_sees_what_the_newcomer_refuses_and_it_is_rolled_back(
    trio: Trio, server: Served, refusal: Answer
) -> None:
    await trio.manager.split_alias("prod", {CANARY: 50}, guard=ERRORS)
    trio.upstreams[CANARY].always(CHAT_PATH, refusal)
    served = [await ask(server, stream=number % 2 == 0) for number in range(60)]
    assert served == [(200, OWN)] * 60
    assert trio.manager.alias_split("prod") is None
    assert len(trio.told("canary-rolled-back")) == 1


async def test_a_newcomer_that_cannot_be_reached_is_rolled_back(trio: Trio, server: Served) -> None:
    await trio.manager.split_alias("prod", {CANARY: 50}, guard=ERRORS)
    await trio.upstreams[CANARY].aclose()
    assert [await ask(server) for _ in range(60)] == [(200, OWN)] * 60
    assert len(trio.told("canary-rolled-back")) == 1


async def test_a_newcomer_that_cannot_be_loaded_is_rolled_back() -> None:
    runtime = FakeRuntime()
    manager = manager_over(birds(owned=True), runtime=runtime)
    async with watched(manager) as events:
        await manager.point_alias("prod", PARROT)
        runtime.fail(OWL, *[ModelLoadError("owl.gguf is corrupt.", provider="fake")] * 50)
        await manager.split_alias("prod", {OWL: 50}, guard=ERRORS)
        manager._open.splits._draw = lambda: 0.0
        async with manager.use("prod") as model:
            assert model.key == PARROT
        for _ in range(20):
            assert (await manager.chat("hello", "prod")).model == "parrot"
        assert manager.alias_split("prod") is None
        await asyncio.sleep(0)
        assert [event.data["key"] for event in events if event.type == "canary-rolled-back"] == [OWL]


async def test_a_newcomer_that_is_slower_is_rolled_back(trio: Trio) -> None:
    slow = Guard(max_error_rise=1.0, max_latency_ratio=1.5, min_requests=10)
    await trio.manager.split_alias("prod", {CANARY: 50}, guard=slow)
    trio.upstreams[CANARY].always(CHAT_PATH, delayed(0.1))
    trio.upstreams[OWN].always(CHAT_PATH, delayed(0.0))
    for _ in range(60):
        await trio.manager.chat("hello", "prod", max_tokens=9)
        if trio.manager.alias_split("prod") is None:
            break
    await trio.heard()
    [rolled_back] = trio.told("canary-rolled-back")
    assert "more than 1.5 times the" in str(rolled_back["reason"])


def delayed(seconds: float) -> Answer:
    message = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message]}
    return json_answer(body, delay_s=seconds)


async def test_one_that_is_as_good_stays(trio: Trio, server: Served) -> None:
    await trio.manager.split_alias("prod", {CANARY: 50}, guard=ERRORS)
    served = [await ask(server) for _ in range(60)]
    assert {key: served.count((200, key)) for key in (OWN, CANARY)} == {OWN: 30, CANARY: 30}
    shares = {share.key: share for share in trio.manager.alias_shares("prod")}
    assert (shares[OWN].requests, shares[CANARY].requests, shares[CANARY].failures) == (30, 30, 0)
    assert trio.told("canary-rolled-back") == []


async def test_what_is_the_callers_fault_or_choice_says_nothing_of_the_newcomer(trio: Trio, server: Served) -> None:
    await trio.manager.split_alias("prod", {CANARY: 50}, guard=ERRORS)
    bad = json_answer({"error": {"message": "bad request", "type": "invalid_request_error"}}, 400)
    for key in (OWN, CANARY):
        trio.upstreams[key].always(CHAT_PATH, bad)
    assert [status for status, _ in [await ask(server) for _ in range(30)]] == [400] * 30
    shares = trio.manager.alias_shares("prod")
    assert [share.requests for share in shares] == [0, 0]


# A better one.


async def test_a_newcomer_is_promoted_when_told_without_one_failed_request(trio: Trio, server: Served) -> None:
    await trio.manager.split_alias("prod", {CANARY: 20}, guard=ERRORS)
    stop = asyncio.Event()
    served: list[tuple[int, str]] = []

    async def caller(stream: bool) -> None:
        while not stop.is_set():
            served.append(await ask(server, stream=stream))

    callers = [asyncio.create_task(caller(number % 2 == 0)) for number in range(8)]
    await until(lambda: len(served) > 40)
    answer = await server.post("/api/v1/aliases/prod/promote", {"key": "fast/m"})
    assert answer.json["key"] == CANARY
    before = len(served)
    await until(lambda: len(served) > before + 40)
    stop.set()
    await asyncio.gather(*callers)
    assert {status for status, _ in served} == {200}
    assert {key for _, key in served} == {OWN, CANARY}
    assert [await ask(server) for _ in range(20)] == [(200, CANARY)] * 20
    assert trio.manager.alias_split("prod") is None
    assert (await trio.manager.alias_history("prod"))[0].previous == OWN
    await trio.heard()
    assert [ended["reason"] for ended in trio.told("alias-split-ended")] == [f"{CANARY} was promoted"]


async def test_a_local_model_is_loaded_before_it_is_promoted() -> None:
    runtime = FakeRuntime()
    manager = manager_over(birds(owned=True), runtime=runtime)
    async with watched(manager):
        await manager.point_alias("prod", PARROT)
        await manager.split_alias("prod", {OWL: 10})
        manager._open.splits._draw = lambda: 0.999
        runtime.fail(OWL, ModelLoadError("owl.gguf is corrupt.", provider="fake"))
        with pytest.raises(ModelLoadError):
            await manager.promote_alias("prod", OWL)
        assert manager.alias_split("prod") is not None, "nothing changes when it does not load"
        assert (await manager.chat("hello", "prod")).model == "parrot"


# What becomes of a split.


async def test_a_split_survives_a_restart_and_so_does_its_end(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    manager = manager_over(birds(), path=path)
    async with manager:
        await manager.point_alias("prod", PARROT)
        await manager.split_alias("prod", {"owl": 30}, guard=ERRORS)
    async with manager_over(birds(), path=path) as manager:
        split = manager.alias_split("prod")
        assert split is not None
        assert (split.weights, split.guard) == ({OWL: 30}, ERRORS)
        await manager.remove_alias("prod")
        await asyncio.sleep(0)
    async with manager_over(birds(), path=path) as manager:
        await manager.rollback_alias("prod")
        assert manager.alias_split("prod") is None


async def test_an_alias_that_goes_takes_its_split_along(trio: Trio, server: Served) -> None:
    await trio.manager.split_alias("prod", {CANARY: 90})
    await trio.manager.remove_alias("prod")
    assert (await server.post(CHAT_PATH, ASK)).status == 404
    await trio.heard()
    assert [ended["reason"] for ended in trio.told("alias-split-ended")] == ["“prod” was removed"]


async def test_a_newcomer_that_the_alias_is_pointed_at_takes_part_no_longer(trio: Trio) -> None:
    await trio.manager.split_alias("prod", {CANARY: 20, CHEAP: 30})
    await trio.manager.point_alias("prod", CANARY)
    await trio.heard()
    shares = {share.key: share.percent for share in trio.manager.alias_shares("prod")}
    assert shares == {CANARY: 70, CHEAP: 30}


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        ("current", {CANARY: 10}, "cannot be split; make an alias"),
        ("other", {CANARY: 10}, "means nothing yet"),
        ("prod", {CANARY: 10, "fast/m": 20}, "named twice"),
        ("prod", {OWN: 10}, "gets what the others leave"),
    ],
)
async def test_a_split_that_makes_no_sense_is_refused(
    trio: Trio, server: Served, name: str, weights: dict[str, float], says: str
) -> None:
    await trio.manager.switch_model(OWN)
    refused = await server.ask("PUT", f"/api/v1/aliases/{name}/split", {"weights": weights})
    assert (refused.status, refused.error["code"]) == (400, "VALIDATION_ERROR")
    assert says in refused.error["message"]
    with pytest.raises(ValidationError):
        await trio.manager.split_alias(name, weights)


async def test_over_http_a_split_is_shown_changed_and_ended(trio: Trio, server: Served) -> None:
    path = "/api/v1/aliases/prod/split"
    assert (await server.get(path)).json["shares"] == []
    begun = await server.ask("PUT", path, {"weights": {"fast/m": 10}, "guard": {"minRequests": 5}})
    shown: Any = begun.json
    assert [(each["key"], each["percent"]) for each in shown["shares"]] == [(OWN, 90), (CANARY, 10)]
    assert shown["guard"]["minRequests"] == 5
    refused = await server.post("/api/v1/aliases/prod/promote", {"key": CHEAP})
    assert (refused.status, refused.error["code"]) == (404, "MODEL_NOT_FOUND")
    assert (await server.ask("DELETE", path)).json["shares"] == []
    with pytest.raises(ModelNotFoundError):
        await trio.manager.unsplit_alias("prod")
