"""The management API over real sockets: the quick start's requests, every route's guard, and the envelope of errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from noa.client import NoaClient
from noa.errors import ModelLoadError
from noa.manager import ModelManager
from noa.models import ModelCapability
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime
from noa.server.app import create_app
from served import Served, manager_of, serving, until

CHAT = {"messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
def openai() -> FakeProvider:
    """Plays OpenAI as the quick start uses it."""
    both = (ModelCapability.CHAT_COMPLETION, ModelCapability.STREAMING)
    models = [
        FakeModel(id="gpt-4", capabilities=both),
        FakeModel(id="gpt-3.5-turbo", capabilities=both),
        FakeModel(id="embedder", capabilities=(ModelCapability.EMBEDDINGS,)),
    ]
    return FakeProvider(models, name="openai")


@pytest.fixture
def local() -> FakeProvider:
    """Plays files in a folder."""
    return FakeProvider([FakeModel(id="sub/x", owned=True), FakeModel(id="x/profile", owned=True)], name="local")


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def manager(openai: FakeProvider, local: FakeProvider, runtime: FakeRuntime) -> AsyncIterator[ModelManager]:
    async with manager_of(openai, local, runtime=runtime) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager) as server:
        yield server


# The quick start.


async def test_the_quick_starts_requests(server: Served) -> None:
    loaded = await server.post("/api/v1/models/load", {"provider": "openai", "model": "gpt-4"})
    assert loaded.status == 200
    assert loaded.json == {
        "message": "openai:gpt-4 is loaded.", "provider": "openai", "model": "gpt-4", "key": "openai:gpt-4",
    }  # fmt: skip
    switched = await server.post("/api/v1/models/switch", {"provider": "openai", "model": "gpt-3.5-turbo"})
    assert switched.json["currentModel"]["key"] == "openai:gpt-3.5-turbo"
    current = (await server.get("/api/v1/models/current")).json["model"]
    assert current["model"]["name"] == "gpt-3.5-turbo"
    assert {"key", "model", "loadedAt", "totalInferences", "performanceMetrics"} <= current.keys()

    everything = (await server.get("/api/v1/models")).json
    assert everything["count"] == len(everything["models"]) == 5
    assert "nextCursor" not in everything
    loaded_models = (await server.get("/api/v1/models/loaded")).json
    assert [model["key"] for model in loaded_models["models"]] == ["openai:gpt-4", "openai:gpt-3.5-turbo"]
    assert loaded_models["currentModel"]["key"] == "openai:gpt-3.5-turbo"
    assert (await server.get("/api/v1/models?provider=openai")).json["count"] == 3
    assert (await server.get("/api/v1/models?capability=embeddings")).json["models"][0]["id"] == "embedder"
    assert (await server.get("/api/v1/models?status=loaded")).json["count"] == 2

    profiled = (await server.post("/api/v1/models/openai:gpt-4/profile", {"testCount": 2})).json
    assert profiled["success"] is True
    assert profiled["metrics"]["successRate"] == 1.0
    assert profiled["metrics"]["ttftMs"]["samples"] == 2
    capabilities = (await server.get("/api/v1/models/openai:gpt-4/capabilities")).json
    assert (capabilities["success"], capabilities["key"]) == (True, "openai:gpt-4")
    assert capabilities["capabilities"][:2] == ["chat_completion", "streaming"]
    assert capabilities["evidence"][0]["source"] == "declared"
    statistics = (await server.get("/api/v1/models/statistics")).json
    assert statistics["success"] is True
    assert statistics["statistics"]["currentModel"] == "openai:gpt-3.5-turbo"
    assert statistics["statistics"]["loadedModels"] == 2


async def test_the_originals_inference_routes(server: Served) -> None:
    await server.post("/api/v1/models/load", {"key": "openai:gpt-4"})
    config = {"temperature": 0.1, "max_tokens": 9, "top_p": 1}
    reply = await server.post("/api/v1/inference/chat", {**CHAT, "config": config})
    assert reply.json["choices"][0]["message"]["content"] == "one two three"
    assert reply.headers["x-noa-model"] == "openai:gpt-4"
    named = await server.post("/api/v1/inference/chat", {**CHAT, "provider": "openai", "model": "gpt-3.5-turbo"})
    assert named.headers["x-noa-model"] == "openai:gpt-3.5-turbo"
    assert (await server.post("/api/v1/inference/chat", {**CHAT, "provider": "openai"})).status == 200
    streamed = await server.post("/api/v1/inference/chat/stream", CHAT)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    vectors = await server.post("/api/v1/inference/embeddings", {"input": ["a", "b"], "model": "openai:embedder"})
    assert len(vectors.json["data"]) == 2


async def test_other_routes_of_the_original(server: Served, manager: ModelManager) -> None:
    assert (await server.get("/api/v1/models/openai")).json["count"] == 3
    entry = (await server.get("/api/v1/models/openai:gpt-4")).json
    assert (entry["key"], entry["status"]) == ("openai:gpt-4", "available")
    discovered = (await server.post("/api/v1/models/discover")).json
    assert {report["provider"]: report["up"] for report in discovered["providers"]} == {"openai": True, "local": True}
    assert discovered["count"] == 2
    assert (await server.post("/api/v1/models/save-state")).json["success"] is True
    assert (await server.post("/api/v1/models/load", {"key": "gpt-4"})).json["key"] == "openai:gpt-4"
    unloaded = await server.post("/api/v1/models/unload", {"provider": "openai", "model": "gpt-4"})
    assert unloaded.json["message"] == "openai:gpt-4 is unloaded."
    again = await server.post("/api/v1/models/unload", {"provider": "openai", "model": "gpt-4"})
    assert (again.status, again.error["code"]) == (404, "MODEL_NOT_LOADED")
    assert (await server.get("/api/v1/models/current")).json == {"model": None}


async def test_status_routes(server: Served, local: FakeProvider) -> None:
    health = (await server.get("/api/v1/status/health")).json
    assert (health["status"], health["knownModels"]) == ("healthy", 5)
    providers = (await server.get("/api/v1/status/providers")).json["providers"]
    assert [(each["name"], each["up"], each["models"]) for each in providers] == [
        ("openai", True, 3),
        ("local", True, 2),
    ]
    system = (await server.get("/api/v1/status/system")).json
    assert system["cpu"]["percent"] is None
    assert system["processes"][0]["rssBytes"] > 0
    assert (await server.get("/api/v1/status/ready")).json == {"status": "ready"}
    assert (await server.get("/api/v1/status/live")).json == {"status": "alive"}
    local.up = False
    await server.post("/api/v1/models/discover")
    health = (await server.get("/api/v1/status/health")).json
    assert health["status"] == "degraded"
    assert "local" in health["problems"][0]


# Keys and names in paths.


async def test_keys_with_slashes_reach_every_route(server: Served) -> None:
    for written in ("local:sub/x", "local:sub%2Fx", "local%3Asub%2Fx", "local/sub/x"):
        assert (await server.get(f"/api/v1/models/{written}")).json["key"] == "local:sub/x"
        assert (await server.get(f"/api/v1/models/{written}/capabilities")).json["key"] == "local:sub/x"
    assert (await server.get("/api/v1/models/local:x/profile")).json["key"] == "local:x/profile"
    profiled = await server.post("/api/v1/models/local:x/profile/profile", {"testCount": 1})
    assert profiled.json["success"] is True
    for action in ("metrics", "history", "logs"):
        answer = await server.get(f"/api/v1/models/local:x%2Fprofile/{action}")
        assert (answer.status, answer.json["key"]) == (200, "local:x/profile")
    history = (await server.get("/api/v1/models/local:x%2Fprofile/history")).json
    assert len(history["history"]) == 2
    assert history["profiles"][0]["metrics"]["testCount"] == 1


async def test_current_and_bare_ids_are_names_everywhere(server: Served) -> None:
    nothing = await server.get("/api/v1/models/current/capabilities")
    assert (nothing.status, nothing.error["code"]) == (503, "MODEL_UNAVAILABLE")
    assert nothing.headers["retry-after"] == "5"
    await server.post("/api/v1/models/load", {"key": "gpt-4"})
    assert (await server.get("/api/v1/models/current/capabilities")).json["key"] == "openai:gpt-4"
    assert (await server.get("/api/v1/models/gpt-4")).json["key"] == "openai:gpt-4"


async def test_lists_come_in_pages(server: Served) -> None:
    keys: list[str] = []
    cursor = ""
    while True:
        page = (await server.get(f"/api/v1/models?limit=2{cursor}")).json
        keys += [model["key"] for model in page["models"]]
        if "nextCursor" not in page:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert keys == [model["key"] for model in (await server.get("/api/v1/models")).json["models"]]


# Changes that nobody waits for, and changes that fail.


async def test_a_load_may_go_on_by_itself(server: Served, runtime: FakeRuntime) -> None:
    hold = runtime.hold_start("local:sub/x")
    begun = await server.post("/api/v1/models/load", {"key": "local:sub/x", "wait": False})
    assert (begun.status, begun.json["status"]) == (202, "loading")
    assert (await server.get("/api/v1/models/local:sub/x")).json["status"] in ("available", "loading")
    hold.set_result(None)
    assert (await server.post("/api/v1/models/load", {"key": "local:sub/x"})).status == 200
    assert runtime.starts["local:sub/x"] == 1


async def test_load_options_reach_the_process(server: Served, runtime: FakeRuntime) -> None:
    body = {"key": "local:sub/x", "pin": True, "ttl": 60, "options": {"contextSize": 512, "slots": 2}}
    assert (await server.post("/api/v1/models/load", body)).status == 200
    spec = runtime.processes[0].spec
    assert (spec.context_size, spec.slots) == (512, 2)
    [active] = (await server.get("/api/v1/models/loaded")).json["models"]
    assert (active["pinned"], active["ttlS"]) == (True, 60)


async def test_a_failed_load_says_why(server: Served, runtime: FakeRuntime) -> None:
    runtime.fail("local:sub/x", ModelLoadError("local:sub/x is no GGUF file.", provider="local"))
    failed = await server.post("/api/v1/models/load", {"key": "local:sub/x"})
    assert failed.status == 500
    assert failed.error == {
        "message": "local:sub/x is no GGUF file.", "code": "MODEL_LOAD_ERROR", "provider": "local",
        "retryable": False, "details": {},
    }  # fmt: skip


async def test_a_client_that_leaves_a_profile_stops_it(server: Served, openai: FakeProvider) -> None:
    openai.latency_s = 30
    profiling = asyncio.create_task(server.post("/api/v1/models/openai:gpt-4/profile", {"testCount": 5}))
    await until(lambda: openai.in_flight)
    profiling.cancel()
    await until(lambda: not openai.in_flight, within_s=1)
    assert openai.abandoned == 1


# Errors.

PROFILE = "/api/v1/models/openai:gpt-4/profile"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "sentence"),
    [
        ("GET", "/nowhere", None, 404, "NOT_FOUND", "nothing at GET /nowhere"),
        ("GET", "/api/v1/models/nope:x", None, 404, "MODEL_NOT_FOUND", "nope:x"),
        ("GET", "/api/v1/models?provider=nope", None, 404, "MODEL_NOT_FOUND", "no provider “nope”"),
        ("GET", "/api/v1/models?provider=claude", None, 200, None, ""),
        ("GET", "/api/v1/models?capability=flying", None, 400, "VALIDATION_ERROR", "chat_completion"),
        ("GET", "/api/v1/models?status=gone", None, 400, "VALIDATION_ERROR", "available, loading"),
        ("GET", "/api/v1/models?limit=x", None, 400, "VALIDATION_ERROR", "limit must be"),
        ("GET", "/api/v1/models?cursor=x", None, 400, "VALIDATION_ERROR", "cursor"),
        ("GET", "/api/v1/models/claude:opus", None, 400, "CONFIGURATION_ERROR", "ANTHROPIC_API_KEY"),
        ("POST", "/api/v1/models/load", {}, 400, "VALIDATION_ERROR", "Say which model"),
        ("POST", "/api/v1/models/load", {"key": "a", "model": "b"}, 400, "VALIDATION_ERROR", "not both"),
        ("POST", "/api/v1/models/load", {"key": " "}, 400, "VALIDATION_ERROR", "cannot be empty"),
        ("POST", "/api/v1/models/load", b"{", 400, "VALIDATION_ERROR", "not valid JSON"),
        ("POST", "/api/v1/models/load", {"modle": "x"}, 400, "VALIDATION_ERROR", "Did you mean model"),
        ("POST", "/api/v1/models/load", {"provider": "openai", "model": "gpt-5"}, 404, "MODEL_NOT_FOUND", "gpt-4"),
        ("POST", PROFILE, {"testCount": 0}, 400, "VALIDATION_ERROR", "whole number from 1 to 1000"),
        ("POST", PROFILE, {"testCount": "x"}, 400, "VALIDATION_ERROR", "testCount must be a whole number"),
        ("GET", PROFILE, None, 405, "METHOD_NOT_ALLOWED", "takes POST, not GET"),
        ("DELETE", "/api/v1/models", None, 405, "METHOD_NOT_ALLOWED", "takes GET, not DELETE"),
        ("POST", "/metrics", None, 405, "METHOD_NOT_ALLOWED", "takes GET"),
        ("POST", "/api/v1/inference/chat", {"messages": []}, 400, "VALIDATION_ERROR", "at least one"),
        ("POST", "/api/v1/inference/chat", {"prompt": "x"}, 400, "VALIDATION_ERROR", "prompt"),
        ("POST", "/api/v1/inference/chat", {**CHAT, "provider": "openai"}, 400, "VALIDATION_ERROR", "which model"),
        ("POST", "/api/v1/inference/chat", CHAT, 503, "MODEL_UNAVAILABLE", "No model is loaded"),
    ],
)
async def test_errors_come_in_the_envelope(
    server: Served, method: str, path: str, body: object, status: int, code: str | None, sentence: str
) -> None:
    answer = await server.ask(method, path, body)
    assert answer.status == status
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    if code is None:
        return
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {"error"}
    assert answer.error.keys() == {"message", "code", "provider", "retryable", "details"}
    assert answer.error["code"] == code
    assert sentence in answer.error["message"]
    if status == 405:
        assert answer.headers["allow"] in ("GET", "GET, HEAD", "POST")


async def test_a_mistake_of_ours_shows_nothing_of_itself(
    server: Served, manager: ModelManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(manager, "statistics", broken)
    answer = await server.get("/api/v1/models/statistics", {"x-request-id": "mine.1"})
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")
    assert answer.headers["x-request-id"] == "mine.1"
    assert "mine.1" in answer.error["message"]
    assert b"secret" not in answer.body
    [record] = [record for record in caplog.records if record.exc_info]
    assert "mine.1" in record.getMessage()


async def test_an_insane_request_id_is_replaced(server: Served) -> None:
    for given in ("x" * 129, "a b", "ä"):
        answer = await server.get("/api/v1/models", {"x-request-id": given})
        assert answer.headers["x-request-id"].startswith("req_")


async def test_a_body_beyond_the_limit_is_refused(openai: FakeProvider) -> None:
    async with manager_of(openai, max_body_bytes=1000) as manager, serving(manager) as server:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100

        for path in ("/api/v1/models/load", "/v1/chat/completions"):
            announced = await server.post(path, b"x" * 1001)
            assert (announced.status, announced.error["code"].upper()) == (413, "PAYLOAD_TOO_LARGE")
            async with server.session.post(server.url + path, data=pieces()) as chunked:
                assert chunked.status == 413


async def test_a_body_that_announces_itself_as_too_large_is_not_waited_for(server: Served) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Length: {2**40}\r\n\r\n".encode())
    async with asyncio.timeout(2):
        assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


# What is documented, measured, shown.


async def test_the_document_describes_what_there_is(server: Served) -> None:
    document = (await server.get("/openapi.json")).json
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert references <= schemas.keys()
    assert "performanceMetrics" in schemas["RegistryEntry"]["properties"]
    assert schemas["LoadBody"]["additionalProperties"] is False
    for path in ("/v1/chat/completions", "/v1/messages", "/api/v1/inference/chat/stream", "/metrics"):
        assert path in document["paths"]


async def test_prometheus_figures(server: Served) -> None:
    await server.post("/api/v1/models/load", {"key": "openai:gpt-4"})
    await server.post("/api/v1/models/switch", {"key": "openai:gpt-3.5-turbo"})
    await server.post("/v1/chat/completions", {**CHAT, "model": "current"})
    text = (await server.get("/metrics")).body.decode()
    assert 'model_loads_total{model="gpt-4",provider="openai"} 1.0' in text
    assert "model_switches_total 1.0" in text
    assert "models_loaded 2.0" in text
    assert 'inference_latency_seconds_count{model="openai:gpt-3.5-turbo"} 1.0' in text


async def test_pages_and_their_parts(server: Served) -> None:
    for page in ("/", "/api-docs"):
        shown = await server.get(page)
        assert shown.status == 200
        assert "default-src 'self'" in shown.headers["content-security-policy"]
        html = shown.body.decode()
        assert not re.search(r"<script(?![^>]*src=)|https?://|\son\w+=", html)
        for part in re.findall(r'(?:src|href)="([^"]+)"', html):
            assert (await server.get(f"/{part}")).status == 200, part


async def test_events_are_told_and_resumed(server: Served) -> None:
    async with NoaClient(server.url) as client:
        async with aclosing(client.events()) as events:
            waiting = asyncio.create_task(anext(events))
            await asyncio.sleep(0.05)
            await server.post("/api/v1/models/load", {"key": "openai:gpt-4"})
            first = await waiting
        async with aclosing(client.events(after=first.sequence)) as events:
            types = []
            async for event in events:
                types.append(event.type)
                if event.type == "model-loaded":
                    break
    assert first.type == "model-loading"
    assert types.count("model-loaded") == 1
    assert event.data["model"]["contextWindow"] == 4096
    assert (await server.get("/api/v1/events", {"Last-Event-ID": "x"})).status == 400


async def test_a_silent_line_of_events_is_kept_alive(manager: ModelManager) -> None:
    async with serving(manager, keep_alive_s=0.02) as server, server.session.get(f"{server.url}/api/v1/events") as told:
        assert await told.content.readuntil(b": nothing new\n\n")


async def test_listeners_do_not_keep_the_server(manager: ModelManager) -> None:
    async with asyncio.timeout(5):
        async with serving(manager) as server, server.session.get(f"{server.url}/api/v1/events") as listening:
            await listening.content.readline()
            server.stop()
            await listening.read()


# Mounted.


async def test_it_can_be_mounted_under_a_prefix(manager: ModelManager) -> None:
    outer = Starlette(routes=[Mount("/noa", create_app(manager))])
    async with serving(manager, within=outer) as server:
        assert (await server.get("/noa/api/v1/models/local:sub%2Fx/capabilities")).json["key"] == "local:sub/x"
        assert (await server.get("/noa/v1/models")).json["object"] == "list"
        assert (await server.get("/noa/")).status == 200
        assert (await server.get("/noa/api/v1/nowhere")).error["code"] == "NOT_FOUND"
        reply = await server.post("/noa/v1/chat/completions", {**CHAT, "model": "openai:gpt-4"})
        assert reply.status == 200
