"""When the current model is left for a better one, and that it doesn't go to and fro."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from noa.models import ModelCapability
from noa.selection.auto_switch import LowScores, Measured, Rules, reason, successor

RULES = Rules(threshold=0.7, low_requests=3, least_requests=5, margin=0.1, pause_s=60.0)
CHAT, VISION = ModelCapability.CHAT_COMPLETION, ModelCapability.VISION
CURRENT = Measured(key="fake:owl", score=0.5, requests=20, capabilities=frozenset({CHAT, VISION}), context_window=8_192)
BETTER = msgspec.structs.replace(CURRENT, key="fake:wren", score=0.8, requests=5)


def test_it_takes_several_low_scores_on_end() -> None:
    scores = LowScores(RULES)
    assert [scores.seen("a", score, 0.0) for score in (0.6, 0.6, 0.7, 0.6, 0.6, 0.6)] == [False] * 5 + [True]


def test_an_unknown_score_is_not_a_low_one() -> None:
    scores = LowScores(RULES)
    assert not any(scores.seen("a", None, 0.0) for _ in range(10))


def test_low_scores_of_one_model_are_not_held_against_the_next() -> None:
    scores = LowScores(msgspec.structs.replace(RULES, pause_s=0.0))
    assert [scores.seen(key, 0.1, 0.0) for key in "aabbb"] == [False, False, False, False, True]


def test_after_a_switch_by_whomever_there_is_none_for_a_while() -> None:
    scores = LowScores(RULES)
    scores.seen("a", 0.9, 0.0)
    assert not any(scores.seen("b", 0.1, 59.0 * step) for step in range(2) for _ in range(10))
    assert scores.seen("b", 0.1, 60.0)


def test_after_a_look_in_vain_there_is_none_for_a_while() -> None:
    scores = LowScores(RULES)
    assert [scores.seen("a", 0.1, 0.0) for _ in range(3)][-1]
    scores.looked(0.0)
    assert not scores.seen("a", 0.1, 59.0)
    assert scores.seen("a", 0.1, 60.0)


def test_the_best_of_those_that_are_clearly_better_follows() -> None:
    best = msgspec.structs.replace(BETTER, key="fake:heron", score=0.9)
    assert successor(CURRENT, [CURRENT, BETTER, best], RULES) == best
    assert reason(CURRENT, best, RULES) == "fake:owl scores 0.50, below 0.70; fake:heron scores 0.90 over 5 requests"


@pytest.mark.parametrize(
    "lacking",
    [
        {"score": 0.59},
        {"score": None},
        {"requests": 4},
        {"capabilities": frozenset({CHAT})},
        {"context_window": 4_096},
        {"key": CURRENT.key},
    ],
    ids=str,
)
def test_nobody_follows_who_is_hardly_better_or_hardly_known_or_can_do_less(lacking: dict[str, Any]) -> None:
    assert successor(CURRENT, [msgspec.structs.replace(BETTER, **lacking)], RULES) is None


def test_more_abilities_and_an_unknown_window_do_not_keep_a_model_from_following() -> None:
    other = msgspec.structs.replace(
        BETTER, capabilities=frozenset({CHAT, VISION, ModelCapability.STREAMING}), context_window=None
    )
    assert successor(CURRENT, [other], RULES) == other
