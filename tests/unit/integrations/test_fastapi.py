"""Noa inside an application on FastAPI, over real sockets where it is about streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from noa import AIProviderError, LeasedModel
from noa.config import Secret
from noa.errors import ConflictError, RateLimitError
from noa.integrations.fastapi import CurrentModel, Manager, answer_refusal, asgi, ensure_model, lifespan
from noa.testing import FakeManager, FakeModel, FakeProvider
from served import serving, until

GPT = "openai:gpt-4"
Missing = Annotated[LeasedModel, Depends(ensure_model("openai:no-such-model"), scope="request")]


def application(manager: FakeManager) -> FastAPI:
    app = FastAPI(lifespan=lifespan(manager))
    app.add_exception_handler(AIProviderError, answer_refusal)

    @app.get("/chat")
    async def chat(model: CurrentModel) -> str:
        return (await model.chat("Hi")).text

    @app.get("/stream")
    async def stream(model: CurrentModel) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            async for piece in model.stream("one two three"):
                yield piece

        return StreamingResponse(pieces())

    @app.get("/missing")
    async def missing(model: Missing) -> str:
        return model.key

    @app.get("/loaded")
    async def loaded(manager: Manager) -> list[str]:
        return [model.key for model in manager.loaded_models]

    return app


def test_a_route_has_the_model_in_use() -> None:
    with TestClient(application(FakeManager(GPT, default_model=GPT))) as client:
        assert client.get("/chat").json() == "Hi"


def test_where_none_is_in_use_the_default_one_is_loaded() -> None:
    manager = FakeManager(GPT, default_model=GPT, auto_load_default=False)
    with TestClient(application(manager)) as client:
        assert client.get("/loaded").json() == []
        assert client.get("/chat").json() == "Hi"
        assert client.get("/loaded").json() == [GPT]


def test_where_none_can_be_had_the_caller_is_told_when_to_come_again() -> None:
    with TestClient(application(FakeManager(GPT))) as client:
        answer = client.get("/chat")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "no default model" in answer.json()["detail"]


def test_a_model_that_does_not_load_is_503_and_names_the_reason() -> None:
    manager = FakeManager(GPT, default_model=GPT)
    with TestClient(application(manager)) as client:
        answer = client.get("/missing")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "no-such-model" in answer.json()["detail"]


def test_what_a_provider_refuses_keeps_its_status() -> None:
    manager = FakeManager(GPT, default_model=GPT)
    with TestClient(application(manager)) as client:
        manager.fail(RateLimitError("Slow down.", provider="openai", retry_after_s=70), times=9)
        answer = client.get("/chat")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "70")


def test_an_application_without_a_manager_is_told_how_to_have_one() -> None:
    app = application(FakeManager(GPT))
    app.router.lifespan_context = FastAPI().router.lifespan_context
    with TestClient(app) as client:
        answer = client.get("/loaded")
    assert "lifespan" in answer.json()["error"]["message"]


def test_routes_of_a_mounted_application_have_it_too() -> None:
    outer = FastAPI(lifespan=lifespan(FakeManager(GPT, default_model=GPT)))
    inner = FastAPI()

    @inner.get("/chat")
    async def chat(model: CurrentModel) -> str:
        return (await model.chat("Hi")).text

    outer.mount("/inner", inner)
    with TestClient(outer) as client:
        assert client.get("/inner/chat").json() == "Hi"


def test_the_environment_configures_a_manager_nobody_gave(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("NOA_HOME", str(tmp_path))
    monkeypatch.chdir(str(tmp_path))
    app = FastAPI(lifespan=lifespan)

    @app.get("/home")
    async def home(manager: Manager) -> str:
        return str(manager.configuration.home)

    with TestClient(app) as client:
        assert client.get("/home").json() == str(tmp_path)


async def test_the_lease_lasts_as_long_as_the_answer_streams() -> None:
    going_on = asyncio.Event()
    async with FakeManager(GPT, default_model=GPT) as manager:
        app = application(manager)
        app.state.noa_manager = manager

        @app.get("/slowly")
        async def slowly(model: CurrentModel) -> StreamingResponse:
            async def pieces() -> AsyncIterator[str]:
                yield "first "
                await going_on.wait()  # No request to the model is under way, so the lease alone keeps it.
                yield (await model.chat("second")).text

            return StreamingResponse(pieces())

        async with serving(manager, app) as server, server.session.get(f"{server.url}/slowly") as answer:
            assert await answer.content.read(6) == b"first "
            with pytest.raises(ConflictError):
                await manager.unload_model(GPT, drain_s=0)
            going_on.set()
            assert await answer.content.read() == b"second"
        assert await manager.unload_model(GPT, drain_s=5)


async def test_a_client_that_leaves_gives_the_model_back() -> None:
    provider = FakeProvider([FakeModel(id="parrot")], piece_delay_s=1, sleep=lambda s: _when(asyncio.Event(), s))
    async with FakeManager(provider, default_model="fake:parrot") as manager:
        app = application(manager)
        app.state.noa_manager = manager
        async with serving(manager, app) as server:
            async with server.session.get(f"{server.url}/stream") as answer:
                assert await answer.content.read(3) == b"one"
            await until(lambda: provider.abandoned == 1)
            assert await manager.unload_model("fake:parrot", drain_s=5)


async def _when(event: asyncio.Event, seconds: float) -> None:
    if seconds:
        await event.wait()


def test_the_whole_api_can_be_mounted_and_keeps_its_key() -> None:
    manager = FakeManager(GPT, default_model=GPT)
    manager.configuration = manager.configuration.evolve(api_key=Secret("sesame"))
    app = FastAPI(lifespan=lifespan(manager))
    app.mount("/ai", asgi(manager))
    with TestClient(app) as client:
        assert client.get("/ai/api/v1/models").status_code == 401
        client.headers["authorization"] = "Bearer sesame"
        assert client.get("/ai/api/v1/models").json()["count"] == 1
        body = {"model": "current", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        assert client.post("/ai/v1/chat/completions", json=body).text.endswith("data: [DONE]\n\n")
