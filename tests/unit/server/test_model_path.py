"""What follows ``/models/``: no route shadows another, whatever a model is called."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from noa.server.model_path import ACTIONS, RESERVED, canonical_rest

KNOWN = {"openai:x/profile", "llama.cpp:sub/x"}


@pytest.mark.parametrize(
    ("rest", "key", "action"),
    [
        ("openai:gpt-4", "openai:gpt-4", None),
        ("openai%3Agpt-4", "openai:gpt-4", None),
        ("openai/gpt-4", "openai/gpt-4", None),
        ("openai:gpt-4/profile", "openai:gpt-4", "profile"),
        ("llama.cpp:sub/x", "llama.cpp:sub/x", None),
        ("llama.cpp:sub/x/capabilities", "llama.cpp:sub/x", "capabilities"),
        ("llama.cpp:sub%2Fx/logs", "llama.cpp:sub/x", "logs"),
        ("openai:x/profile", "openai:x/profile", None),
        ("openai:x/profile/profile", "openai:x/profile", "profile"),
        ("openai:unknown%2Fprofile", "openai:unknown/profile", None),
        ("openrouter:a/b:free/metrics", "openrouter:a/b:free", "metrics"),
        ("x/statistics", "x/statistics", None),
        ("loaded/capabilities", "loaded", "capabilities"),
        ("capabilities", "capabilities", None),
        ("/capabilities", "/capabilities", None),
        ("100%25/history", "100%", "history"),
        ("..%2F..", "../..", None),
    ],
)
def test_the_key_is_told_from_the_action(rest: str, key: str, action: str | None) -> None:
    segment, _, found = canonical_rest(rest.split("/"), KNOWN.__contains__).partition("/")
    assert (unquote(segment), found or None) == (key, action)


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_a_reserved_word_is_itself(word: str) -> None:
    assert canonical_rest([word], KNOWN.__contains__) == word


@pytest.mark.parametrize("word", sorted(RESERVED | ACTIONS))
def test_a_model_may_be_called_like_a_route(word: str) -> None:
    key = f"openai:{word}"
    assert unquote(canonical_rest([key], {key}.__contains__)) == key
