from __future__ import annotations

import pytest

from noa.models import ModelCapability
from noa.providers.families import describe


@pytest.mark.parametrize(
    ("model_id", "window"),
    [
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-turbo-2024-04-09", 128_000),
        ("gpt-4o-mini", 128_000),
        ("openai/gpt-4o", 128_000),
        ("gpt-3.5-turbo", 16_385),
        ("claude-3-5-sonnet-latest", 200_000),
        ("gpt-99", None),
        ("my-own-model", None),
    ],
)
def test_context_windows_of_well_known_families(model_id: str, window: int | None) -> None:
    assert describe("p", model_id).context_window == window


@pytest.mark.parametrize("model_id", ["text-embedding-3-small", "nomic-embed-text", "BAAI/bge-m3", "mistral-embed"])
def test_embedding_models_do_nothing_else(model_id: str) -> None:
    assert describe("p", model_id).capabilities == (ModelCapability.EMBEDDINGS,)


@pytest.mark.parametrize("model_id", ["whisper-1", "tts-1-hd", "dall-e-3", "gpt-4o-realtime", "omni-moderation"])
def test_models_of_other_media_can_do_none_of_ours(model_id: str) -> None:
    assert describe("p", model_id).capabilities == ()


def test_a_model_without_a_chat_template_does_not_chat() -> None:
    capabilities = describe("p", "gpt-3.5-turbo-instruct").capabilities
    assert ModelCapability.TEXT_GENERATION in capabilities
    assert ModelCapability.CHAT_COMPLETION not in capabilities


def test_nothing_is_claimed_of_the_unknown_but_chat() -> None:
    capabilities = describe("p", "my-own-model").capabilities
    assert ModelCapability.CHAT_COMPLETION in capabilities
    assert not {ModelCapability.VISION, ModelCapability.FUNCTION_CALLING} & set(capabilities)
    assert ModelCapability.VISION in describe("p", "gpt-4o").capabilities
