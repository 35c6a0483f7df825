"""What every request passes first, over real sockets: the key, the browser's credentials, the host, the limits."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from noa.client import NoaClient
from noa.config import Secret
from noa.providers.fake import FakeModel, FakeProvider
from noa.server.pages import is_page
from served import Served, manager_of, serving


@pytest.fixture
def openai() -> FakeProvider:
    return FakeProvider([FakeModel(id="gpt-4"), FakeModel(id="gpt-3.5-turbo"), FakeModel(id="embedder")], name="openai")


@pytest.fixture
async def server(openai: FakeProvider) -> AsyncIterator[Served]:
    async with manager_of(openai) as manager, serving(manager) as served:
        yield served


async def test_every_documented_route_asks_for_the_key(openai: FakeProvider) -> None:
    key = Secret("let me in")
    async with manager_of(openai, api_key=key) as manager, serving(manager) as server:
        right = {"Authorization": "Bearer let me in"}
        document = (await server.get("/openapi.json", right)).json
        routes = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
        pages = ["/", "/api-docs", "/api-docs/assets/start.js", "/assets/page.js", "/openapi.json", "/nowhere"]
        assert len(routes) > 30
        for method, path in [*routes, *(("GET", page) for page in pages)]:
            for wrong in ({}, {"Authorization": "Bearer let me out"}, {"x-api-key": "let me"}):
                answer = await server.ask(method, path, headers=wrong)
                if path in {"/api/v1/status/live", "/health", "/v1/health"}:
                    assert answer.status == 200
                else:
                    assert answer.status == 401, path
                    asked_for = 'Basic realm="Noa"' if is_page(path) else "Bearer"
                    assert answer.headers["www-authenticate"] == asked_for
        async with NoaClient(server.url, "let me in") as client:
            assert (await client.models()).count == 3


async def test_a_browser_opens_the_page_and_its_calls_with_the_key_as_password(openai: FakeProvider) -> None:
    async with manager_of(openai, api_key=Secret("let me in")) as manager, serving(manager) as server:
        basic = {"Authorization": "Basic " + base64.b64encode(b"anybody:let me in").decode()}
        for path in ("/", "/assets/page.js", "/api-docs", "/api/v1/models", "/openapi.json"):
            assert (await server.get(path, basic)).status == 200
        load = ("/api/v1/models/load", {"key": "openai:gpt-4"})
        assert (await server.post(*load, {**basic, "Origin": "https://evil.example"})).status == 421
        assert (await server.post(*load, {**basic, "Content-Type": "text/plain"})).status == 400
        assert not manager.loaded_models
        assert (await server.post(*load, {**basic, "Origin": server.url})).status == 200


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"options": {"contextSize": 63}}, "options.contextSize"),
        ({"options": {"contextSize": 16_777_217}}, "options.contextSize"),
        ({"options": {"slots": 0}}, "options.slots"),
        ({"options": {"slots": 257}}, "options.slots"),
        ({"options": {"threads": 1025}}, "options.threads"),
        ({"options": {"gpuLayers": -1}}, "options.gpuLayers"),
        ({"options": {"gpuLayers": 10_001}}, "options.gpuLayers"),
        ({"ttl": -1}, "ttl"),
    ],
)
async def test_a_load_with_an_impossible_option_changes_nothing(
    server: Served, wrong: dict[str, object], field: str
) -> None:
    refused = await server.post("/api/v1/models/load", {"key": "openai:gpt-4", **wrong})
    assert (refused.status, refused.error["details"]) == (400, {"field": field})
    assert refused.error["message"].startswith(f"{field} must be ")
    assert (await server.get("/api/v1/models/openai:gpt-4")).json["status"] == "available"


async def test_a_forged_host_reaches_nothing(server: Served) -> None:
    for path in ("/", "/api/v1/status/live", "/api/v1/models", "/v1/models", "/metrics"):
        forged = await server.get(path, {"Host": "evil.example"})
        assert forged.status == 421
    assert forged.error["code"] == "HOST_NOT_ALLOWED"
    foreign = await server.post("/api/v1/models/discover", headers={"Origin": "https://evil.example"})
    assert foreign.status == 421
