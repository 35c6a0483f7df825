"""How the requests of an alias are split."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from noa.errors import ValidationError
from noa.selection.split import checked, newcomer_of
from noa.state import AliasSplit, Guard


def test_each_gets_its_share_and_the_own_model_the_rest() -> None:
    split = AliasSplit(alias="prod", weights={"p:b": 10, "p:c": 30})
    dice = random.Random(7)
    first = Counter(newcomer_of(split, dice.random) for _ in range(10_000))
    assert first["p:b"] == pytest.approx(1_000, rel=0.1)
    assert first["p:c"] == pytest.approx(3_000, rel=0.1)
    assert first[None] == pytest.approx(6_000, rel=0.1)


@pytest.mark.parametrize(
    ("weights", "own", "says"),
    [
        ({"p:b": 10}, None, "point it at a model first"),
        ({}, "p:a", "with how many percent"),
        ({"p:a": 10}, "p:a", "gets what the others leave"),
        ({"p:b": 0}, "p:a", "together below 100"),
        ({"p:b": 60, "p:c": 40}, "p:a", "together below 100"),
    ],
)
def test_what_makes_no_sense_is_refused(weights: dict[str, float], own: str | None, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        checked(AliasSplit(alias="prod", weights=weights), own)


def test_a_guard_that_makes_no_sense_is_refused() -> None:
    for guard in (Guard(min_requests=0), Guard(max_error_rise=-1), Guard(max_latency_ratio=0.5)):
        with pytest.raises(ValidationError, match="A guard takes"):
            checked(AliasSplit(alias="prod", weights={"p:b": 1}, guard=guard), "p:a")
    good = AliasSplit(alias="prod", weights={"p:b": 1}, guard=Guard(max_latency_ratio=None))
    assert checked(good, "p:a") is good
