"""Every known service, with its address moved to a scripted upstream: what is sent there, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from configured import configure
from noa.chat import ChatRequest, EmbeddingRequest, Message, TextDelta, TextPart, ThinkingPart, UsageReported
from noa.config import ProviderConfig, Secret
from noa.errors import AIProviderError, ConfigurationError, ProviderAuthenticationError, RateLimitError
from noa.models import ModelCapability
from noa.presets import KNOWN_PROVIDERS, PRESETS, ProviderPreset
from noa.providers.factory import ProviderFactory
from noa.providers.protocol import Dialect, Provider, RawRequest
from scripted_ollama import ScriptedOllama
from scripted_upstream import Answer, Received, ScriptedUpstream, json_answer

CANARY = "canary-0123456789abcdefghij"
MODEL = "gpt-4"
#: Claude's and llama.cpp's providers have tests of their own, and so has OpenAI at an address that is not its own.
SERVICES = [preset for preset in PRESETS if preset.type in ("openai", "ollama") and preset.name != "openai"]
ASK = ChatRequest(
    messages=(
        Message(role="user", parts=(TextPart(text="Hi"),)),
        Message(role="assistant", parts=(ThinkingPart(text="hm"), TextPart(text="Yes?"))),
        Message(role="user", parts=(TextPart(text="Say hello."),)),
    ),
    max_tokens=16,
)


class StrictService(ScriptedOllama):
    """Refuses what the row says that the service refuses, and has its list of models where the row says."""

    preset: ProviderPreset

    def _choose(self, request: Received) -> Answer:
        habits, path = self.preset.habits, request.path
        given = request.headers.get(habits.key_header, "").removeprefix("Bearer ")
        if given != CANARY:
            return json_answer({"error": {"message": f"bad key {given}"}}, 401)
        if request.body and path.startswith("/v1/chat"):
            asked = request.json
            refused = {
                "stream_options": not habits.takes_stream_options,
                "max_completion_tokens": not habits.knows_completion_tokens,
            }
            for field in (name for name, is_refused in refused.items() if is_refused and name in asked):
                return json_answer({"detail": [{"loc": ["body", field], "msg": "Extra inputs are not permitted"}]}, 422)
        if path.endswith("/models") or "/models?" in path:
            rows = [{"id": habits.id_prefix + model} for model in self.models]
            return json_answer({"data": rows})
        return super()._choose(request)


@dataclass
class Case:
    """A service as Noa sees it."""

    preset: ProviderPreset
    config: ProviderConfig
    provider: Provider
    upstream: StrictService

    @property
    def last(self) -> Received:
        return self.upstream.requests[-1]


def configured(preset: ProviderPreset, url: str, folder: Path) -> ProviderConfig:
    """What a user's environment makes of the service."""
    stem = preset.variable_stems[0]
    key = preset.key_variables[0] if preset.key_variables else f"NOA_{stem}_API_KEY"
    variables = {key: CANARY, preset.base_url_variables[0]: url}
    if preset.habits.listing is None or not preset.habits.lists_usable:
        variables[f"NOA_{stem}_MODELS"] = MODEL
    config = configure(folder, **variables).provider_config(preset.name)
    assert config is not None
    assert config.is_set_up
    return config


@pytest.fixture(params=SERVICES, ids=[preset.name for preset in SERVICES])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    async with StrictService() as upstream:
        upstream.preset = request.param
        upstream.models = (MODEL, *upstream.preset.habits.models)
        config = configured(upstream.preset, f"{upstream.url}/v1", tmp_path)
        provider = ProviderFactory().create(config)
        yield Case(upstream.preset, config, provider, upstream)
        await provider.aclose()


def raw(**fields: object) -> RawRequest:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return RawRequest(
        dialect=Dialect.OPENAI,
        path="/chat/completions",
        body=msgspec.json.encode(body),
        model_id=MODEL,
        stream=bool(fields.get("stream")),
    )


async def test_its_models_are_known_by_the_ids_that_requests_use(case: Case) -> None:
    offers = await case.provider.list_models()
    assert {offer.model.id for offer in offers} == {MODEL, *case.preset.habits.models}
    assert {offer.model.provider for offer in offers} == {case.preset.name}
    assert (await case.provider.verify(MODEL)).id == MODEL
    assert (await case.provider.health()).up


async def test_it_answers_whole(case: Case) -> None:
    reply = await case.provider.complete(ASK, MODEL)
    assert reply.text == case.upstream.reply
    asked, habits = case.last.json, case.preset.habits
    assert asked[habits.max_tokens_field] == 16
    carried = {name for name in asked["messages"][1] if name.startswith("reasoning")}
    assert carried == ({habits.reasoning_field} if habits.reasoning_field else set())
    assert {name: case.last.headers.get(name) for name, _ in habits.headers} == dict(habits.headers)


async def test_it_answers_bit_by_bit(case: Case) -> None:
    events = [event async for event in case.provider.stream(ASK, MODEL)]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == case.upstream.reply
    counted = any(isinstance(event, UsageReported) for event in events)
    assert counted is case.preset.habits.takes_stream_options


async def test_it_understands_what_openais_own_clients_send(case: Case) -> None:
    options = {"include_usage": True}
    response = await case.provider.open(raw(stream=True, stream_options=options, max_completion_tokens=7))
    assert b"friend." in b"".join([chunk async for chunk in response.chunks()])
    assert 7 in (case.last.json.get("max_tokens"), case.last.json.get("max_completion_tokens"))


async def test_the_key_travels_in_its_one_header(case: Case) -> None:
    await case.provider.complete(ASK, MODEL)
    carrying = {name for name, value in case.last.headers.items() if CANARY in value}
    assert carrying == {case.preset.habits.key_header}


async def test_a_refusal_names_it_and_shows_no_key(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    case.upstream.script("/v1/chat/completions", json_answer({"message": f"slow down, {CANARY}"}, 429))
    with pytest.raises(RateLimitError, match=case.preset.name) as caught:
        await case.provider.complete(ASK, MODEL)
    assert CANARY not in caught.value.message + repr(caught.value.upstream) + caplog.text + repr(case.provider)


async def test_a_wrong_key_says_which_variable_to_check(case: Case) -> None:
    wrong = ProviderFactory().create(msgspec.structs.replace(case.config, api_key=Secret("another")))
    with pytest.raises(ProviderAuthenticationError) as caught:
        await wrong.complete(ASK, MODEL)
    where = case.preset.key_variables[0] if case.preset.key_variables else "its apiKey"
    assert caught.value.message == f"{case.preset.name} refused its key. Check {where}."
    await wrong.aclose()


async def test_a_deployment_that_nobody_names_is_asked_for() -> None:
    azure = ProviderConfig(type="azure", api_key=Secret("k"), base_url="http://127.0.0.1:1", models=("mine",))
    async with ScriptedUpstream() as upstream:
        config = msgspec.structs.replace(azure, base_url=f"{upstream.url}/v1", models=())
        provider = ProviderFactory().create(config)
        upstream.script("/v1/models", json_answer({"data": [{"id": "gpt-35-turbo"}, {"id": "dall-e-3"}]}))
        with pytest.raises(ConfigurationError, match="NOA_AZURE_OPENAI_MODELS, or under “models”"):
            await provider.list_models()
        await provider.aclose()


@pytest.mark.parametrize(
    ("service", "path", "row", "able", "unable"),
    [
        (
            "mistral",
            "/v1/models",
            {"id": "x", "capabilities": {"completion_chat": True, "function_calling": True, "vision": False}},
            {ModelCapability.CHAT_COMPLETION, ModelCapability.FUNCTION_CALLING},
            {ModelCapability.VISION},
        ),
        ("together", "/v1/models", {"id": "x", "type": "image"}, set(), {ModelCapability.CHAT_COMPLETION}),
        (
            "together",
            "/v1/models",
            {"id": "x", "type": "embedding"},
            {ModelCapability.EMBEDDINGS},
            {ModelCapability.STREAMING},
        ),
        (
            "fireworks",
            "/v1/models",
            {"id": "x", "supports_chat": True, "supports_tools": False, "supports_image_input": True},
            {ModelCapability.CHAT_COMPLETION, ModelCapability.VISION},
            {ModelCapability.FUNCTION_CALLING},
        ),
        (
            "openrouter",
            "/v1/models",
            {
                "id": "x",
                "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
                "supported_parameters": ["tools", "structured_outputs"],
            },
            {ModelCapability.CHAT_COMPLETION, ModelCapability.VISION, ModelCapability.JSON_MODE},
            set(),
        ),
        (
            "github",
            "/catalog/models",
            {
                "id": "x",
                "capabilities": ["streaming", "tool-calling"],
                "supported_input_modalities": ["text"],
                "supported_output_modalities": ["embeddings"],
            },
            {ModelCapability.EMBEDDINGS},
            {ModelCapability.CHAT_COMPLETION, ModelCapability.VISION},
        ),
        (
            "groq",
            "/v1/models",
            {"id": "x", "type": 5, "capabilities": "?", "context_length": "8k"},
            {ModelCapability.CHAT_COMPLETION},
            set(),
        ),
    ],
)
async def test_what_a_list_declares_of_a_model_goes_before_its_name(
    service: str, path: str, row: dict[str, object], able: set[ModelCapability], unable: set[ModelCapability]
) -> None:
    async with ScriptedUpstream() as upstream:
        config = ProviderConfig(type=service, api_key=Secret("k"), base_url=f"{upstream.url}/v1")
        provider = ProviderFactory().create(config)
        upstream.script(path, json_answer({"data": [row]}))
        [offer] = await provider.list_models()
        assert able <= set(offer.model.capabilities)
        assert not unable & set(offer.model.capabilities)
        await provider.aclose()


async def test_coheres_list_is_found_and_read() -> None:
    rows = [
        {"name": "command-a", "endpoints": ["chat"], "context_length": 288000},
        {"name": "rerank-4", "endpoints": ["rerank"]},
    ]
    async with ScriptedUpstream() as upstream:
        config = ProviderConfig(type="cohere", api_key=Secret("k"), base_url=f"{upstream.url}/compatibility/v1")
        provider = ProviderFactory().create(config)
        upstream.script("/v1/models", json_answer({"models": rows}))
        command, rerank = [offer.model for offer in await provider.list_models()]
        assert upstream.requests[-1].path == "/v1/models?page_size=1000"
        assert (command.id, command.context_window) == ("command-a", 288000)
        assert rerank.capabilities == ()
        await provider.aclose()


async def test_a_service_that_refuses_the_usage_option_is_served_by_the_canonical_way_too() -> None:
    config = ProviderConfig(type="openai", name="strict", base_url="http://127.0.0.1:1/v1")
    refusal = {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "Extra inputs"}]}
    async with ScriptedUpstream() as upstream:
        provider = ProviderFactory().create(msgspec.structs.replace(config, base_url=f"{upstream.url}/v1"))
        upstream.script("/v1/chat/completions", json_answer(refusal, 422))
        for _ in range(2):
            events = [event async for event in provider.stream(ASK, MODEL)]
            assert any(isinstance(event, TextDelta) for event in events)
        assert ["stream_options" in request.json for request in upstream.requests] == [True, False, False]
        with pytest.raises(AIProviderError):
            await provider.embed(EmbeddingRequest(inputs=("x",)), "nonesuch")
        await provider.aclose()


def test_a_row_without_an_address_or_a_key_is_not_set_up_and_says_what_to_set() -> None:
    advice = {name: ProviderConfig(type=name).advice for name in ("groq", "azure", "vllm", "ollama", "mine")}
    assert advice["groq"].startswith("set GROQ_API_KEY,")
    assert advice["azure"].startswith("set AZURE_OPENAI_API_KEY and AZURE_OPENAI_BASE_URL,")
    assert advice["vllm"].startswith("set VLLM_BASE_URL,")
    assert advice["ollama"].startswith("set OLLAMA_HOST,")
    assert advice["mine"] == "give “mine” an address or a key in noa.yaml."
    for name in KNOWN_PROVIDERS:
        is_ready = name in ("llama.cpp", "ollama")
        assert ProviderConfig(type=name).is_set_up is is_ready
