"""What a name means, and what is said of one that means nothing."""

from __future__ import annotations

import msgspec
import pytest

from noa.errors import AIProviderError, ConfigurationError, ModelNotFoundError, ValidationError
from noa.selection.aliases import MOST_COMPARED, Names, check_alias, resolve
from noa.server.model_path import RESERVED

NAMES = Names(
    providers={
        "openai": "openai",
        "claude": "claude",
        "anthropic": "claude",
        "llama.cpp": "llama.cpp",
        "mistral": "mistral",
        "ollama": "ollama",
    },
    configured={"openai", "llama.cpp", "ollama"},
    advice={"claude": "set ANTHROPIC_API_KEY.", "mistral": "set MISTRAL_API_KEY.", "openai": "", "llama.cpp": ""},
    keys={
        "openai:gpt-4",
        "openai:shared",
        "llama.cpp:shared",
        "llama.cpp:sub/tiny",
        "openai:ft:gpt:acme",
        "ollama:mistral:7b",
        "ollama:phi:latest",
    },
    keys_by_id={
        "gpt-4": ["openai:gpt-4"],
        "shared": ["openai:shared", "llama.cpp:shared"],
        "sub/tiny": ["llama.cpp:sub/tiny"],
        "ft:gpt:acme": ["openai:ft:gpt:acme"],
        "mistral:7b": ["ollama:mistral:7b"],
        "phi:latest": ["ollama:phi:latest"],
        "phi": ["ollama:phi:latest"],
    },
    aliases={"current": "", "prod": ""},
)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        (None, "current"),
        ("", "current"),
        ("current", "current"),
        ("prod", "prod"),
        ("openai:gpt-4", "openai:gpt-4"),
        ("openai/gpt-4", "openai:gpt-4"),
        ("gpt-4", "openai:gpt-4"),
        ("sub/tiny", "llama.cpp:sub/tiny"),
        ("llama.cpp/sub/tiny", "llama.cpp:sub/tiny"),
        ("ft:gpt:acme", "openai:ft:gpt:acme"),
        ("openai/ft:gpt:acme", "openai:ft:gpt:acme"),
        ("mistral:7b", "ollama:mistral:7b"),
        ("phi", "ollama:phi:latest"),
        ("ollama:phi", "ollama:phi:latest"),
    ],
)
def test_a_name_means_a_key_or_an_alias(name: str | None, means: str) -> None:
    assert resolve(name, NAMES) == means


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("claude:opus", ConfigurationError, "set ANTHROPIC_API_KEY"),
        ("anthropic/opus", ConfigurationError, "claude is not set up"),
        ("mistral:large", ConfigurationError, "set MISTRAL_API_KEY"),
        ("openai:mistral:7b", ModelNotFoundError, "openai has no model"),
        ("openai:gpt-5", ModelNotFoundError, "did you mean openai:gpt-4?"),
        ("gpt-44", ModelNotFoundError, "did you mean openai:gpt-4?"),
        ("nowhere:gpt", ModelNotFoundError, "There is no model “nowhere:gpt”"),
        ("zzz", ModelNotFoundError, "noa ls"),
        ("shared", ValidationError, "llama.cpp:shared, openai:shared"),
        ("openai:", ModelNotFoundError, "There is no model"),
        (":gpt-4", ModelNotFoundError, "There is no model"),
    ],
)
def test_what_a_name_lacks_is_said(name: str, kind: type[AIProviderError], words: str) -> None:
    with pytest.raises(kind) as raised:
        resolve(name, NAMES)
    assert words in raised.value.message


def test_the_provider_that_is_meant_is_blamed() -> None:
    with pytest.raises(ModelNotFoundError) as raised:
        resolve("openai:gpt-5", NAMES)
    assert raised.value.provider == "openai"
    assert raised.value.details == {"suggestions": ["openai:gpt-4"]}


def test_of_very_many_models_those_are_suggested_that_begin_alike() -> None:
    ids = [f"{word}-{number}" for word in ("llama", "qwen") for number in range(2 * MOST_COMPARED)]
    many = msgspec.structs.replace(
        NAMES,
        keys=[f"{provider}:{each}" for each in ids for provider in ("openai", "ollama")],
        keys_by_id={each: [f"openai:{each}", f"ollama:{each}"] for each in ids},
    )
    with pytest.raises(ModelNotFoundError) as raised:
        resolve("ollama:qwen_7", many)
    suggested = raised.value.details["suggestions"]
    assert isinstance(suggested, list)
    assert suggested[0] == "ollama:qwen-7"
    assert all(each.startswith("ollama:qwen-") for each in suggested)


@pytest.mark.parametrize("name", ["prod", "a", "0", "fast-2", "my.best_one", "x" * 64])
def test_what_may_be_an_alias(name: str) -> None:
    check_alias(name, NAMES.providers)


@pytest.mark.parametrize("name", ["", ".", "Prod", "a:b", "a/b", "a b", "a\n", "x" * 65, "llama.cpp", "auto", "auto-1"])
def test_what_may_not(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be an alias"):
        check_alias(name, NAMES.providers)


@pytest.mark.parametrize("name", sorted(RESERVED - {"current"}))
def test_an_alias_can_always_stand_in_a_path(name: str) -> None:
    with pytest.raises(ValidationError, match="uses the name itself"):
        check_alias(name, NAMES.providers)
