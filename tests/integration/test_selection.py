"""``auto`` over real sockets: who serves, in either dialect, by what, and what is told of it afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from choosing import CHAT_PATH as CHAT
from choosing import CHATS, CHEAP, EMBEDDINGS_PATH, FAST, MESSAGES_PATH, SOLID, Trio, three_upstreams
from machine import Machine
from noa.config.policies import PolicySettings
from noa.errors import ModelNotFoundError, ValidationError
from noa.models import ModelCapability
from scripted_upstream import Answer, json_answer
from served import Answer as Got
from served import Served, serving, until

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Say hello."}]
POLICIES = {
    "thrift": PolicySettings(prefer="cost", max_cost=0.001, providers=("cheap", "solid")),
    "named": PolicySettings(prefer="speed", models=("solid/m", "cheap/m")),
    "nobody": PolicySettings(models=("fast:other",)),
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    async with three_upstreams(tmp_path, policies=POLICIES) as trio:
        trio.served(FAST, 100, failures=2)
        trio.served(CHEAP, 900, failures=1)
        trio.served(SOLID, 500, times=22)
        yield trio


@pytest.fixture
async def server(trio: Trio) -> AsyncIterator[Served]:
    async with serving(trio.manager) as server:
        yield server


async def ask(server: Served, model: str = "auto", *, path: str = CHAT, status: int = 200, **more: Any) -> Got:
    answer = await server.post(path, {"model": model, "messages": MESSAGES, "max_tokens": 9, **more})
    assert answer.status == status, answer.body
    return answer


async def decision(server: Served, answer: Got) -> Any:
    return (await server.get(f"/api/v1/decisions/{answer.headers['x-request-id']}")).json


# Who serves.


@pytest.mark.parametrize("path", [CHAT, MESSAGES_PATH])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "best"),
    [
        ("auto:speed", FAST),
        ("auto:cost", CHEAP),
        ("auto:reliability", SOLID),
        ("auto:thrift", CHEAP),
        ("auto:named", SOLID),
        ("auto", SOLID),
        ("auto:balanced", SOLID),
    ],
)
async def test_auto_goes_to_the_best_by_what_was_asked_for(
    trio: Trio, server: Served, model: str, best: str, path: str, stream: bool
) -> None:
    answer = await ask(server, model, path=path, stream=stream)
    assert (answer.headers["x-noa-model"], answer.headers["x-noa-attempts"]) == (best, "1")
    assert b"friend" in answer.body
    assert {key: trio.asked(key) for key in trio.upstreams} == {FAST: 0, CHEAP: 0, SOLID: 0, best: 1}


async def test_the_library_chooses_as_the_server_does(trio: Trio) -> None:
    manager = trio.manager
    assert (await manager.chat("hello", "auto:speed", max_tokens=9)).text == "Hello there, friend."
    assert "".join([piece async for piece in manager.stream("hello", "auto:cost", max_tokens=9)])
    async with manager.use("auto:reliability") as model:
        assert model.key == SOLID
        assert (await model.chat("hello", max_tokens=9)).text == "Hello there, friend."
    assert {key: trio.asked(key) for key in trio.upstreams} == {FAST: 1, CHEAP: 1, SOLID: 1}
    assert not any(active.in_flight for active in manager.loaded_models)


async def test_a_model_of_unknown_price_does_not_stay_under_a_limit(tmp_path: Path) -> None:
    async with three_upstreams(tmp_path, prices={FAST: None, CHEAP: 1e6, SOLID: 4.0}) as trio:
        trio.served(FAST, 10)
        chosen = await trio.manager.select("chat", prefer="speed", max_cost=0.01)
        reasons = {each.key: each.eliminated for each in chosen.candidates}
        assert chosen.order == (SOLID,)
        assert str(reasons[FAST]).startswith("its price is unknown")
        assert str(reasons[CHEAP]).startswith("it would cost 800.000000 USD, more than 0.01")


# What a request needs.


@pytest.mark.parametrize(
    ("capability", "more"),
    [
        (ModelCapability.FUNCTION_CALLING, {"tools": [TOOL]}),
        (ModelCapability.JSON_MODE, {"response_format": {"type": "json_object"}}),
        (ModelCapability.VISION, {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ],
)
async def test_only_who_can_do_what_the_request_holds_is_asked(
    tmp_path: Path, capability: ModelCapability, more: dict[str, Any]
) -> None:
    async with three_upstreams(tmp_path, capabilities={CHEAP: (*CHATS, capability)}) as trio:
        trio.served(FAST, 10)
        trio.served(CHEAP, 5_000)
        async with serving(trio.manager) as server:
            assert (await ask(server, "auto:speed")).headers["x-noa-model"] == FAST
            answer = await ask(server, "auto:speed", **more)
            assert answer.headers["x-noa-model"] == CHEAP
            told = await decision(server, answer)
            assert capability in told["wish"]["capabilities"]
            reasons = {each["key"]: each["eliminated"] for each in told["candidates"]}
            assert reasons == {
                FAST: f"not known to do {capability}",
                SOLID: f"not known to do {capability}",
                CHEAP: None,
            }


async def test_embeddings_go_to_who_makes_them(tmp_path: Path) -> None:
    async with three_upstreams(tmp_path, capabilities={SOLID: (ModelCapability.EMBEDDINGS,)}) as trio:
        async with serving(trio.manager) as server:
            answer = await server.post(EMBEDDINGS_PATH, {"model": "auto:speed", "input": ["one", "two"]})
            assert (answer.status, answer.headers["x-noa-model"]) == (200, SOLID)
        assert len((await trio.manager.embed("one", "auto")).vectors) == 1
        assert (await trio.manager.select("embedding")).order == (SOLID,)


async def test_a_prompt_that_is_too_long_for_a_window_goes_elsewhere(trio: Trio, server: Served) -> None:
    answer = await ask(server, messages=[{"role": "user", "content": "x" * 40_000}], status=404)
    assert "is too long for its window of 8,192" in answer.error["message"]
    assert not any(trio.asked(key) for key in trio.upstreams)


# Where the first does not take it.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "refusal",
    [
        Answer(status=503),
        Answer(status=429, headers={"retry-after": "30"}),
        json_answer({"error": {"message": "wrong key", "type": "invalid_request_error"}}, 401),
        json_answer({"error": {"message": "no such model", "code": "model_not_found"}}, 404),
    ],
    ids=["503", "429", "401", "404"],
)
async def test_the_next_candidate_serves_what_the_first_refuses(
    trio: Trio, server: Served, refusal: Answer, stream: bool
) -> None:
    trio.upstreams[FAST].always(CHAT, refusal)
    answer = await ask(server, "auto:speed", stream=stream)
    assert (answer.headers["x-noa-model"], answer.headers["x-noa-attempts"]) == (SOLID, "2")
    told = await decision(server, answer)
    assert (told["chosen"], told["order"]) == (FAST, [FAST, SOLID, CHEAP])
    assert (told["outcome"]["key"], told["outcome"]["success"], told["outcome"]["attempts"]) == (SOLID, True, 2)


async def test_when_nobody_takes_it_the_best_ones_word_is_passed_on(trio: Trio, server: Served) -> None:
    for upstream in trio.upstreams.values():
        upstream.always(CHAT, Answer(status=503))
    trio.upstreams[FAST].always(
        CHAT, json_answer({"error": {"message": "slow down"}}, 429, headers={"retry-after": "7"})
    )
    answer = await ask(server, "auto:speed", status=429)
    assert (answer.headers["x-noa-model"], answer.headers["retry-after"]) == (FAST, "7")
    outcome = (await decision(server, answer))["outcome"]
    assert (outcome["success"], outcome["attempts"]) == (False, 3)


async def test_who_asked_to_slow_down_is_no_candidate_meanwhile_unless_all_did(trio: Trio, server: Served) -> None:
    limit = Answer(status=429, headers={"retry-after": "30"})
    trio.upstreams[FAST].script(CHAT, limit)
    await ask(server, "auto:speed")
    answer = await ask(server, "auto:speed")
    assert (answer.headers["x-noa-model"], answer.headers["x-noa-attempts"]) == (SOLID, "1")
    told = {each["key"]: each for each in (await decision(server, answer))["candidates"]}
    assert told[FAST]["eliminated"].startswith("it is left alone for")
    assert told[FAST]["forNow"]
    for key in (SOLID, CHEAP):
        trio.upstreams[key].script(CHAT, limit)
    await ask(server, "auto:speed", status=429)
    answer = await ask(server, "auto:speed")
    assert (await decision(server, answer))["reason"].endswith("All who could serve are in trouble.")


# What is told.


async def test_a_decision_says_what_was_predicted_and_what_came_of_it(trio: Trio, server: Served) -> None:
    answer = await ask(server, "auto:speed")
    told = await decision(server, answer)
    assert told["requestId"] == answer.headers["x-request-id"]
    assert (told["rule"], told["reason"]) == (
        "the lowest predicted latency",
        f"{FAST} has the lowest predicted latency.",
    )
    best = next(each for each in told["candidates"] if each["rank"] == 1)
    assert (best["key"], best["samples"], best["priceSource"]) == (FAST, 22, "configured")
    assert best["predictedLatencyMs"] == pytest.approx(100, rel=0.01)
    assert best["predictedCostUsd"] == pytest.approx((told["wish"]["promptTokens"] + 9) * 8e-6)
    outcome = told["outcome"]
    assert (outcome["key"], outcome["success"], outcome["attempts"]) == (FAST, True, 1)
    assert outcome["costUsd"] == pytest.approx((9 + 3) * 8e-6)
    assert [each["requestId"] for each in (await server.get("/api/v1/decisions")).json["decisions"]] == [
        told["requestId"]
    ]
    missing = await server.get("/api/v1/decisions/nothing")
    assert (missing.status, missing.error["code"]) == (404, "MODEL_NOT_FOUND")


async def test_a_caller_who_leaves_says_nothing_of_the_model(trio: Trio, server: Served) -> None:
    trio.upstreams[FAST].always(CHAT, Answer(delay_s=60))
    asking = asyncio.create_task(ask(server, "auto:speed"))
    await until(lambda: trio.asked(FAST))
    before = (await trio.manager.select(prefer="speed")).candidates
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.wait_for(trio.upstreams[FAST].gone.wait(), 5)
    after = (await trio.manager.select(prefer="speed")).candidates
    assert [each.samples for each in after] == [each.samples for each in before]


async def test_the_library_the_route_and_the_command_tell_the_same(trio: Trio, server: Served, tmp_path: Path) -> None:
    machine = Machine.at(tmp_path, NOA_URL=server.url)
    wanted = {"task": "chat", "prefer": "cost", "maxCost": 0.01}
    ran = await asyncio.to_thread(
        machine.run, "select", "--task", "chat", "--prefer", "cost", "--max-cost", "0.01", "--explain"
    )
    assert ran.returncode == 0, ran.stderr
    route = (await server.post("/api/v1/models/select", wanted)).json
    library = msgspec.to_builtins(await trio.manager.select("chat", prefer="cost", max_cost=0.01))
    assert ran.stdout.splitlines()[0] == route["chosen"] == library["chosen"] == CHEAP
    assert route["order"] == list(library["order"]) == [CHEAP, SOLID, FAST]
    assert route["reason"] == library["reason"]
    assert route["reason"] in ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()[2:]] == route["order"]
    assert not any(trio.asked(key) for key in trio.upstreams), "nothing is asked for a selection"


async def test_the_command_talks_to_whom_noa_chooses_and_says_why_afterwards(
    trio: Trio, server: Served, tmp_path: Path
) -> None:
    machine = Machine.at(tmp_path, NOA_URL=server.url)
    said = await asyncio.to_thread(machine.run, "chat", "auto:cost", "Say hello.", "--max-tokens", "9")
    assert (said.returncode, said.stdout) == (0, "Hello there, friend.\n"), said.stderr
    assert trio.asked(CHEAP) == 1
    request_id = trio.manager.decisions()[0].request_id
    assert request_id is not None
    why = await asyncio.to_thread(machine.run, "select", request_id)
    assert (why.returncode, why.stdout.splitlines()[0]) == (0, CHEAP)
    assert f"It succeeded on {CHEAP}" in why.stderr


# What cannot be.


async def test_where_nobody_fits_every_reason_is_told(trio: Trio, server: Served) -> None:
    refused = await server.post("/api/v1/models/select", {"task": "vision"})
    assert (refused.status, refused.error["code"]) == (404, "MODEL_NOT_FOUND")
    assert refused.error["details"]["count"] == 3
    assert refused.error["details"]["candidates"] == [
        {"key": key, "reason": "not known to do vision"} for key in (FAST, CHEAP, SOLID)
    ]
    assert "cheap:m: not known to do vision" in refused.error["message"]
    answer = await ask(server, "auto:nobody", status=404)
    assert "None of the models of “nobody” is known here: fast:other." in answer.error["message"]


@pytest.mark.parametrize("name", ["auto", "auto:speed"])
async def test_auto_is_no_model_that_could_be_loaded_or_switched_to(server: Served, name: str) -> None:
    for action in ("load", "switch"):
        refused = await server.post(f"/api/v1/models/{action}", {"key": name})
        assert (refused.status, refused.error["code"]) == (400, "VALIDATION_ERROR")
        assert f"“{name}” is no model: it lets Noa choose" in refused.error["message"]
    refused = await server.ask("PUT", "/api/v1/aliases/best", {"key": name})
    assert "is no model" in refused.error["message"]


async def test_words_that_mean_nothing_are_refused_with_those_that_do(trio: Trio, server: Served) -> None:
    answer = await ask(server, "auto:quick", status=400)
    assert "speed, cost, balanced, reliability, named, nobody, thrift" in answer.error["message"]
    manager = trio.manager
    for wrong in ({"task": "dance"}, {"prefer": "quick"}, {"capability": "dance"}, {"policy": "none"}):
        with pytest.raises(ValidationError):
            await manager.select(**wrong)  # type: ignore[arg-type]  # Words of one kind.
        assert (await server.post("/api/v1/models/select", wrong)).status == 400
    with pytest.raises(ModelNotFoundError):
        await manager.select(min_context=100_000)


async def test_fallbacks_of_auto_come_after_all_candidates(tmp_path: Path) -> None:
    policies = {"one": PolicySettings(models=(FAST,))}
    async with three_upstreams(tmp_path, policies=policies, fallbacks={"auto:one": (CHEAP,)}) as trio:
        trio.upstreams[FAST].always(CHAT, Answer(status=503))
        async with serving(trio.manager) as server:
            answer = await ask(server, "auto:one")
            assert (answer.headers["x-noa-model"], answer.headers["x-noa-attempts"]) == (CHEAP, "2")


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_by_each_objective_auto_stays_near_an_oracle_also_after_the_upstreams_change_places() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.routing"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
