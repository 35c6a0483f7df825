"""Capabilities with evidence, from real requests: over real sockets, and by the demo model."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machine import Machine
from managed import watched
from noa import probes
from noa.config import Configuration, ProviderConfig, Secret
from noa.errors import StorageError
from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelCapability, ProbeOutcome, ProbeResult
from noa.probes import COLOURS
from noa.state import CapabilityProbed
from scripted_upstream import Answer, Received, ScriptedUpstream, json_answer
from served import serving

CAN = ModelCapability
MODEL = "openai:gpt-4o"
CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
DEMO = "llama.cpp:smollm2-135m-instruct"


class AbleUpstream(ScriptedUpstream):
    """Calls the tool it is told to, answers in the schema it is given, and names the colour of a picture."""

    def _chat(self, asked: dict[str, Any]) -> Answer:
        if asked.get("tools"):
            function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
            return message(tool_calls=[{"id": "call_1", "type": "function", "function": function}])
        if asked.get("response_format"):
            return message('{"colour": "red", "warm": true}')
        content = asked["messages"][0]["content"]
        if isinstance(content, list) and (picture := next((p for p in content if p["type"] == "image_url"), None)):
            return message(seen(picture["image_url"]["url"]))
        return super()._chat(asked)

    def _play(self, request: Received, path: str) -> Answer:
        return self._chat(request.json) if path == "/chat/completions" else super()._play(request, path)


def message(content: str | None = None, **more: object) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": "stop"}
    return json_answer({"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice]})


def seen(url: str) -> str:
    """The name of the colour of the first pixel."""
    picture = base64.b64decode(url.partition(",")[2])
    data = picture.index(b"IDAT") + 4
    pixel = tuple(zlib.decompress(picture[data:-12])[1:4])
    return next(name for name, (colour, _) in COLOURS.items() if colour == pixel).title()


def manager_at(upstream: ScriptedUpstream, home: Path | None = None) -> ModelManager:
    provider = ProviderConfig(type="openai", base_url=f"{upstream.url}/v1", api_key=Secret("sk-canary"))
    configuration = Configuration(home=home or Path("/nowhere"), providers=(provider,))
    return ModelManager(configuration=configuration, persistence_path=home / "state.db" if home else None)


def outcomes(results: list[ProbeResult]) -> dict[ModelCapability, ProbeOutcome]:
    return {result.capability: result.outcome for result in results}


def contradictions(events: list[Event]) -> list[tuple[object, ...]]:
    told = [event.data for event in events if event.type == "capability-contradicted"]
    return [(data["key"], data["capability"], data["declared"], data["source"], data["probed"]) for data in told]


def sources(manager: ModelManager) -> dict[ModelCapability, tuple[bool, str]]:
    entry = manager.registry.get(MODEL)
    assert entry is not None
    return {each.capability: (each.supported, each.source) for each in entry.evidence}


async def test_a_model_that_can_everything_proves_it() -> None:
    async with AbleUpstream(models=("gpt-4o",)) as upstream, manager_at(upstream) as manager:
        results = [*await manager.probe_model(MODEL)]
        assert outcomes(results) == dict.fromkeys(ModelCapability, ProbeOutcome.SUPPORTED)
        assert set(manager.model_capabilities(MODEL)) == set(ModelCapability)
        assert {source for _, source in sources(manager).values()} == {"probed"}
        chats = [request.json for request in upstream.requests if request.path == CHAT]
        assert len(chats) == 5
        assert all(max(body.get("max_tokens", 0), body.get("max_completion_tokens", 0)) == 256 for body in chats)


async def test_a_probe_that_contradicts_what_was_known_wins_and_is_told() -> None:
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream:
        manager = manager_at(upstream)
        async with watched(manager) as events:
            before = sources(manager)
            assert before[CAN.FUNCTION_CALLING] == (True, "catalog")
            results = [*await manager.probe_model(MODEL, ["function_calling", "streaming"])]
            assert outcomes(results) == {
                CAN.STREAMING: ProbeOutcome.SUPPORTED,
                CAN.FUNCTION_CALLING: ProbeOutcome.UNSUPPORTED,
            }
            assert not manager.supports_capability(MODEL, "function_calling")
            assert sources(manager) == {
                **before,
                CAN.FUNCTION_CALLING: (False, "probed"),
                CAN.STREAMING: (True, "probed"),
            }
    assert contradictions(events) == [(MODEL, "function_calling", True, "catalog", False)]
    progress = [event.data["done"] for event in events if event.type == "probing-progress"]
    assert progress == [1, 2]


async def test_what_was_shown_survives_a_restart_with_its_date(tmp_path: Path) -> None:
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream:
        async with manager_at(upstream, tmp_path) as manager:
            (result,) = await manager.probe_model(MODEL, [CAN.VISION])
        async with manager_at(upstream, tmp_path) as manager:
            entry = manager.registry.get(MODEL)
            assert entry is not None
            line = next(each for each in entry.evidence if each.capability is CAN.VISION)
            assert (line.supported, line.source, line.at, line.detail) == (False, "probed", result.at, result.detail)
            await manager.discover_models()
            assert not manager.supports_capability(MODEL, CAN.VISION)


@pytest.mark.parametrize(
    "trouble",
    [
        json_answer({"error": {"message": "busy"}}, 503),
        json_answer({"error": {"message": "slow down"}}, 429),
        json_answer({"error": {"message": "oh"}}, 500),
        Answer(reset=True, chunks=(b"{",)),
        Answer(body=b"<html>", content_type="text/html"),
    ],
)
async def test_a_failure_to_reach_the_model_proves_nothing(trouble: Answer) -> None:
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream, manager_at(upstream) as manager:
        upstream.always(CHAT, trouble)
        before = sources(manager)
        results = [*await manager.probe_model(MODEL, [CAN.FUNCTION_CALLING, CAN.CHAT_COMPLETION])]
        assert set(outcomes(results).values()) == {ProbeOutcome.INCONCLUSIVE}
        assert sources(manager) == before


async def test_a_refusal_proves_something_only_of_a_model_that_answers_others() -> None:
    refusal = json_answer({"error": {"message": "tools are not supported", "type": "invalid_request_error"}}, 400)
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream, manager_at(upstream) as manager:
        upstream.script(CHAT, refusal)
        (result,) = await manager.probe_model(MODEL, [CAN.FUNCTION_CALLING])
        assert result.outcome is ProbeOutcome.UNSUPPORTED
        assert "tools are not supported" in result.detail
        upstream.always(CHAT, refusal)
        upstream.always(EMBED, refusal)
        (result,) = await manager.probe_model(MODEL, [CAN.FUNCTION_CALLING])
        assert result.outcome is ProbeOutcome.INCONCLUSIVE
        assert not manager.supports_capability(MODEL, CAN.FUNCTION_CALLING)  # What was shown before still holds.


async def test_a_model_that_was_shown_not_to_call_tools_may_show_that_it_does_now() -> None:
    async with AbleUpstream(models=("gpt-4o",)) as upstream, manager_at(upstream) as manager:
        upstream.script(CHAT, message("I would rather talk."))
        await manager.probe_model(MODEL, [CAN.FUNCTION_CALLING])
        assert not manager.supports_capability(MODEL, CAN.FUNCTION_CALLING)
        await manager.probe_model(MODEL, [CAN.FUNCTION_CALLING])
        assert manager.supports_capability(MODEL, CAN.FUNCTION_CALLING)


async def test_what_cannot_be_kept_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream, manager_at(upstream) as manager:
        before = sources(manager)

        async def full(*changes: object) -> None:
            if any(isinstance(change, CapabilityProbed) for change in changes):
                raise StorageError("The disk is full.")

        monkeypatch.setattr(manager._open.state, "write", full)
        with pytest.raises(StorageError):
            await manager.probe_model(MODEL, [CAN.VISION])
        assert sources(manager) == before


async def test_detection_probes_when_it_is_told_to() -> None:
    async with ScriptedUpstream(models=("gpt-4o",)) as upstream, manager_at(upstream) as manager:
        assert CAN.VISION in await manager.detect_capabilities(MODEL)
        assert not [request for request in upstream.requests if request.method == "POST"]
        assert CAN.VISION not in await manager.detect_capabilities(MODEL, probe=True)


async def test_the_server_probes_and_says_first_what_that_may_cost() -> None:
    async with (
        AbleUpstream(models=("gpt-4o",)) as upstream,
        manager_at(upstream) as manager,
        serving(manager) as server,
    ):
        path = f"/api/v1/models/{MODEL}/probe"
        plan = (await server.post(path, {"plan": True})).json["plan"]
        assert (plan["key"], plan["requests"]) == (MODEL, 6)
        assert plan["costUsd"] > 0
        assert not [request for request in upstream.requests if request.method == "POST"]
        answer = (await server.post(path, {"capabilities": ["vision", "embeddings"]})).json
        assert [(result["capability"], result["outcome"]) for result in answer["results"]] == [
            ("vision", "supported"),
            ("embeddings", "supported"),
        ]
        assert "embeddings" in answer["capabilities"]
        assert (await server.post(path, {"capabilities": ["telepathy"]})).status == 400
        assert (await server.post(path, {"capabilities": []})).status == 400
        entry = (await server.get(f"/api/v1/models/{MODEL}")).json
        line = next(each for each in entry["evidence"] if each["capability"] == "embeddings")
        assert (line["supported"], line["source"]) == (True, "probed")
        assert entry["price"]["source"] == "catalog"
        known = (await server.get(f"/api/v1/models/{MODEL}/capabilities")).json
        assert known["evidence"] == entry["evidence"]


async def test_noa_show_tells_window_evidence_and_prices_with_their_dates(tmp_path: Path) -> None:
    def shown(machine: Machine) -> tuple[str, Any, str]:
        with machine.serving("serve") as server:
            plain = server.machine.run("show", MODEL)
            as_json = server.machine.run("show", MODEL, "--json")
            probed = server.machine.run("show", MODEL, "--probe", "--yes")
            assert (plain.returncode, as_json.returncode, probed.returncode) == (0, 0, 0), probed.stderr
            assert "costs at most $0.0" in probed.stderr
            return plain.stdout, json.loads(as_json.stdout), probed.stdout

    async with AbleUpstream(models=("gpt-4o",)) as upstream:
        machine = Machine.at(tmp_path, OPENAI_API_KEY="sk-canary", OPENAI_BASE_URL=f"{upstream.url}/v1")
        plain, as_json, probed = await asyncio.to_thread(shown, machine)
    model = as_json["model"]
    as_of = model["price"]["asOf"]
    assert "  window: 128000 tokens (catalog), answers: at most 16384 tokens (catalog)" in plain.splitlines()
    assert f"price: $2.5 in, $10 out, $1.25 read from cache per million tokens (catalog, as of {as_of})" in plain
    vision = next(each for each in model["evidence"] if each["capability"] == "vision")
    assert f"vision            yes  catalog {vision['at'][:10]}" in plain
    assert "vision            yes  probed" in probed
    assert "sk-canary" not in plain + probed


@pytest.mark.engine
async def test_the_demo_model_shows_what_it_can_and_that_it_calls_no_tools(
    tmp_path: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "MAX_TOKENS", 64)  # It likes to talk.
    models = tmp_path / "models"
    models.mkdir()
    (models / "smollm2-135m-instruct.gguf").hardlink_to(demo_model)
    manager = ModelManager(configuration=Configuration(home=tmp_path))
    async with watched(manager) as events:
        entry = manager.registry.get(DEMO)
        assert entry is not None
        assert {each.source for each in entry.evidence} == {"metadata"}
        assert entry.price is not None
        assert entry.price.is_free
        results = {result.capability: result for result in await manager.probe_model(DEMO)}
    assert {each.value: result.outcome.value for each, result in results.items()} == {
        "chat_completion": "supported",
        "text_generation": "supported",
        "streaming": "supported",
        "json_mode": "supported",
        "function_calling": "unsupported",
        "vision": "unsupported",
        "embeddings": "unsupported",
    }
    # It was found out, not refused because it was believed.
    assert "it made no call, although it was told to" in results[CAN.FUNCTION_CALLING].detail
    assert contradictions(events) == []
    assert msgspec.json.encode(next(event.data for event in events if event.type == "probing-completed"))
