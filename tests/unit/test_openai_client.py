"""OpenAI's own client on the models of this process."""

from __future__ import annotations

import sys
from typing import Any

import openai
import pytest

from noa.errors import ConfigurationError, ProviderResponseError, RateLimitError
from noa.models import ModelCapability
from noa.testing import FakeManager, FakeModel, FakeProvider

GPT, TURBO = "openai:gpt-4", "openai:gpt-3.5-turbo"
HELLO: Any = [{"role": "user", "content": "one two three"}]


async def test_the_managers_client_takes_every_name() -> None:
    async with FakeManager(GPT, TURBO, default_model=GPT) as manager, manager.openai_client() as client:
        for name, served in (("current", "gpt-4"), (TURBO, "gpt-3.5-turbo"), ("auto", "gpt-4")):
            answer = await client.chat.completions.create(model=name, messages=HELLO)
            assert answer.choices[0].message.content == "one two three"
            assert name == "auto" or answer.model == served


async def test_the_clients_requests_are_served_by_the_model_it_is_of() -> None:
    async with FakeManager(GPT, TURBO, default_model=GPT) as manager, manager.use(TURBO) as model:
        client = model.openai_client()
        answer = await client.chat.completions.create(model="whatever", messages=HELLO)
        assert answer.model == "gpt-3.5-turbo"


async def test_streams_come_bit_by_bit_and_can_be_left() -> None:
    provider = FakeProvider([FakeModel(id="parrot")])
    async with FakeManager(provider, default_model="fake:parrot") as manager:
        client = manager.openai_client()
        stream = await client.chat.completions.create(model="current", messages=HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(pieces) == "one two three"
        provider.piece_delay_s = 60
        async with await client.chat.completions.create(model="current", messages=HELLO, stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            assert provider.in_flight == 1
        assert (provider.in_flight, provider.abandoned) == (0, 1)


async def test_refusals_are_the_clients_own_errors() -> None:
    async with FakeManager(GPT, default_model=GPT) as manager:
        client = manager.openai_client()
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="openai:none", messages=HELLO)
        with pytest.raises(openai.NotFoundError, match="server has more"):
            await client.models.list()
        manager.fail(RateLimitError("Slow down.", provider="openai", retry_after_s=90), times=9)
        with pytest.raises(openai.RateLimitError, match="Slow down"):
            await client.chat.completions.create(model=GPT, messages=HELLO)


async def test_a_stream_that_breaks_off_is_an_error_and_no_end() -> None:
    async with FakeManager(GPT, default_model=GPT) as manager:
        manager.fail(ProviderResponseError("It broke.", provider="openai"), after_pieces=2)
        stream = await manager.openai_client().chat.completions.create(model=GPT, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="It broke"):
            [chunk async for chunk in stream]


async def test_embeddings() -> None:
    model = FakeModel(id="vectors", capabilities=(ModelCapability.EMBEDDINGS,))
    async with FakeManager(model) as manager:
        answer = await manager.openai_client().embeddings.create(model="fake:vectors", input=["a", "bc"])
        assert [len(each.embedding) for each in answer.data] == [3, 3]


def test_the_same_without_asyncio() -> None:
    provider = FakeProvider([FakeModel(id="parrot")])
    with FakeManager(provider, default_model="fake:parrot").sync() as manager:
        with manager.use("fake:parrot") as model:
            answer = model.openai_client().chat.completions.create(model="x", messages=HELLO)
            assert answer.choices[0].message.content == "one two three"
        client = manager.openai_client()
        stream = client.chat.completions.create(model="current", messages=HELLO, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "one two three"
        provider.piece_delay_s = 60
        with client.chat.completions.create(model="current", messages=HELLO, stream=True) as left:
            next(chunk for chunk in left if chunk.choices[0].delta.content)
        assert manager.unload_model("fake:parrot", drain_s=5)
        assert (provider.in_flight, provider.abandoned) == (0, 1)


async def test_where_the_package_is_missing_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    async with FakeManager(GPT) as manager:
        with pytest.raises(ConfigurationError, match="pip install openai"):
            manager.openai_client()
