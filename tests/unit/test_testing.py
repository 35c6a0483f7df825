"""The fakes for other people's tests."""

from __future__ import annotations

import pytest

from noa.errors import ProviderResponseError, RateLimitError, ValidationError
from noa.testing import FakeManager, FakeModel, FakeProvider


async def test_without_being_told_it_repeats_what_it_was_told() -> None:
    async with FakeManager() as manager:
        assert (await manager.chat("Hello.", "fake:parrot")).text == "Hello."


async def test_answers_can_be_scripted_and_questions_looked_at() -> None:
    async with FakeManager("openai:gpt-4") as manager:
        manager.say("First.", "Second.")
        assert [(await manager.chat("Go on.", "openai:gpt-4")).text for _ in range(3)] == [
            "First.",
            "Second.",
            "Go on.",
        ]
        assert [request.messages[-1].text for request in manager.conversations] == ["Go on."] * 3


async def test_a_model_may_have_an_answer_of_its_own() -> None:
    async with FakeManager(FakeModel(id="wise", reply="Forty-two."), "openai:gpt-4") as manager:
        assert (await manager.chat("What is it?", "fake:wise")).text == "Forty-two."


async def test_failures_take_noas_own_ways() -> None:
    async with FakeManager("openai:gpt-4") as manager:
        manager.fail(RateLimitError("Slow down.", provider="openai", retry_after_s=0))
        assert (await manager.chat("Hi", "openai:gpt-4")).text == "Hi"
        manager.fail(ProviderResponseError("It broke.", provider="openai"))
        with pytest.raises(ProviderResponseError):
            await manager.chat("Hi", "openai:gpt-4")


async def test_local_models_are_loaded_by_starting_processes_that_are_values() -> None:
    async with FakeManager("llama.cpp:small", "llama.cpp:large", max_loaded_models=1) as manager:
        await manager.load_model("llama.cpp:small")
        await manager.load_model("llama.cpp:large")
        assert [process.spec.key for process in manager.runtime.live()] == ["llama.cpp:large"]
        assert [model.key for model in manager.loaded_models] == ["llama.cpp:large"]


async def test_two_providers_of_one_type_are_told_apart() -> None:
    async with FakeManager("openai:gpt-4", "groq:llama-3") as manager:
        manager.providers["groq"].say("From groq.")
        assert (await manager.chat("Hi", "groq:llama-3")).text == "From groq."
        assert (await manager.chat("Hi", "openai:gpt-4")).text == "Hi"


async def test_the_default_model_is_in_use_from_the_start() -> None:
    async with FakeManager("openai:gpt-4", FakeModel(id="b"), default_model="fake:b") as manager:
        assert (await manager.chat("Hi")).model == "b"


def test_a_provider_given_twice_and_a_name_that_is_none_are_refused() -> None:
    with pytest.raises(ValidationError, match="fake"):
        FakeManager(FakeModel(id="a"), FakeProvider())
    with pytest.raises(ValidationError, match="claude"):
        FakeManager("anthropic:opus")
    with pytest.raises(ValidationError, match="no model key"):
        FakeManager("gpt-4")
