from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from noa.config import ProviderConfig, Secret
from noa.models import ModelCapability
from noa.providers.claude import ClaudeProvider
from noa.providers.protocol import Dialect, RawRequest
from scripted_upstream import ScriptedUpstream, json_answer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("claude-3-5-sonnet-latest",)) as scripted:
        yield scripted


@pytest.fixture
async def provider(server: ScriptedUpstream) -> AsyncIterator[ClaudeProvider]:
    provider = ClaudeProvider(ProviderConfig(type="claude", api_key=Secret("k3y"), base_url=server.url))
    yield provider
    await provider.aclose()


def raw(path: str = "/messages", **headers: str) -> RawRequest:
    body = msgspec.json.encode({"model": "claude-3-5-sonnet-latest", "max_tokens": 5, "messages": []})
    return RawRequest(
        dialect=Dialect.ANTHROPIC,
        path=path,
        body=body,
        model_id="claude-3-5-sonnet-latest",
        stream=False,
        headers=tuple(headers.items()),
    )


async def test_a_model_has_its_display_name_and_well_known_window(provider: ClaudeProvider) -> None:
    (offer,) = await provider.list_models()
    assert offer.model.name == "Claude-3-5-Sonnet-Latest"
    assert offer.model.context_window == 200_000
    assert ModelCapability.VISION in offer.model.capabilities


async def test_every_page_of_models_is_read(server: ScriptedUpstream, provider: ClaudeProvider) -> None:
    first = {"data": [{"id": "a", "max_input_tokens": 9}], "has_more": True, "last_id": "a b"}
    server.script("/v1/models", json_answer(first), json_answer({"data": [{"id": "b"}], "has_more": False}))
    offers = await provider.list_models()
    assert [(offer.model.id, offer.model.context_window) for offer in offers] == [("a", 9), ("b", None)]
    assert server.requests[-1].path == "/v1/models?limit=1000&after_id=a%20b"


async def test_a_service_whose_pages_never_end_is_left(server: ScriptedUpstream, provider: ClaudeProvider) -> None:
    server.always("/v1/models", json_answer({"data": [{"id": "a"}], "has_more": True, "last_id": "a"}))
    assert len(await provider.list_models()) == len(server.requests) == 20


async def test_the_callers_version_and_betas_travel_on(server: ScriptedUpstream, provider: ClaudeProvider) -> None:
    await provider.open(raw())
    assert server.requests[-1].headers["anthropic-version"] == "2023-06-01"
    await provider.open(raw(**{"Anthropic-Version": "2030-01-01", "Anthropic-Beta": "tools-1"}))
    headers = server.requests[-1].headers
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2030-01-01", "tools-1")


async def test_tokens_are_counted_by_the_service(server: ScriptedUpstream, provider: ClaudeProvider) -> None:
    response = await provider.open(raw("/messages/count_tokens"))
    assert b"".join([chunk async for chunk in response.chunks()]) == b'{"input_tokens": 9}'
    assert server.requests[-1].path == "/v1/messages/count_tokens"
