"""What requests cost, against sums made by hand. Prices are in USD per million tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from noa.chat import Usage
from noa.measurement.cost import cost_usd, price_at
from noa.models import Price, PriceSource, PriceTier


def price(**rates: Any) -> Price:
    return Price(source=PriceSource.CONFIGURED, **rates)


PLAIN = price(input=2.5, output=10)
CACHED = price(input=2.5, output=10, cache_read=1.25)
WRITTEN = price(input=3, output=15, cache_read=0.3, cache_write=3.75)
REASONING = price(input=2, output=8, reasoning=3)
TIERED = price(
    input=1.25,
    output=10,
    cache_read=0.125,
    tiers=(PriceTier(above=200_000, input=2.5, output=15, cache_read=0.25),),
)
TWO_TIERS = price(
    input=1, output=4, tiers=(PriceTier(above=32_000, input=2, output=8), PriceTier(above=128_000, input=4, output=16))
)
PARTLY_TIERED = price(input=1, output=4, cache_read=0.5, tiers=(PriceTier(above=1_000, input=2),))
FREE = price(input=0, output=0)
FREE_PROMPTS = price(input=0, output=4)
EMBEDDING = price(input=0.02, output=0)
NO_OUTPUT = price(input=2)
NOTHING = price()


class Case(NamedTuple):
    """What was used at which price, and the sum by hand."""

    what: str
    price: Price | None
    usage: Usage | None
    cost: float | None


def used(prompt: int | None = None, completion: int | None = None, **details: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, **details)


CASES = (
    Case("a million of each", PLAIN, used(1_000_000, 1_000_000), 12.5),
    Case("a short question", PLAIN, used(1_000, 500), 0.0075),  # 0.0025 + 0.005
    Case("no answer came", PLAIN, used(1_000, 0), 0.0025),
    Case("nothing at all", PLAIN, used(0, 0), 0.0),
    Case("half of the prompt cached", CACHED, used(2_000, 100, cached_tokens=1_000), 0.00475),  # .0025 + .00125 + .001
    Case("all of the prompt cached", CACHED, used(2_000, 100, cached_tokens=2_000), 0.0035),  # .0025 + .001
    Case("nothing cached, and said so", CACHED, used(2_000, 100, cached_tokens=0), 0.006),
    Case("nothing said of caching", CACHED, used(2_000, 100), 0.006),
    Case("cached where that is no cheaper", PLAIN, used(2_000, 100, cached_tokens=1_000), 0.006),
    Case("written to the cache", WRITTEN, used(10_000, 1_000, cache_write_tokens=8_000), 0.051),  # .006 + .03 + .015
    Case("read from it", WRITTEN, used(10_000, 1_000, cached_tokens=8_000), 0.0234),  # .006 + .0024 + .015
    Case(
        "read and written",  # 1000 × 3 + 6000 × 0.3 + 3000 × 3.75 + 200 × 15
        WRITTEN,
        used(10_000, 200, cached_tokens=6_000, cache_write_tokens=3_000),
        0.01905,
    ),
    Case("written where that costs nothing extra", PLAIN, used(4_000, 0, cache_write_tokens=4_000), 0.01),
    Case("reasoning as output", PLAIN, used(1_000, 2_000, reasoning_tokens=1_500), 0.0225),
    Case(
        "reasoning at its own price", REASONING, used(1_000, 2_000, reasoning_tokens=1_500), 0.0105
    ),  # .002+.004+.0045
    Case("nothing but reasoning", REASONING, used(0, 1_000, reasoning_tokens=1_000), 0.003),
    Case("no reasoning", REASONING, used(1_000, 2_000, reasoning_tokens=0), 0.018),
    Case("nothing said of reasoning", REASONING, used(1_000, 2_000), 0.018),
    Case("below the tier", TIERED, used(100_000, 1_000), 0.135),  # .125 + .01
    Case("just not in the tier", TIERED, used(200_000, 1_000), 0.26),  # .25 + .01
    Case("just in the tier, all of it", TIERED, used(200_001, 1_000), 0.5150025),  # 200001 × 2.5 + 1000 × 15
    Case("cached in the tier", TIERED, used(400_000, 0, cached_tokens=300_000), 0.325),  # .25 + .075
    Case("cached tokens count for the tier", TIERED, used(300_000, 0, cached_tokens=299_000), 0.07725),  # .0025+.07475
    Case("the first of two tiers", TWO_TIERS, used(100_000, 1_000), 0.208),
    Case("the second of two tiers", TWO_TIERS, used(200_000, 1_000), 0.816),
    Case("a tier that says not all", PARTLY_TIERED, used(2_000, 1_000, cached_tokens=1_000), 0.0065),  # .002+.0005+.004
    Case("free", FREE, used(5_000, 5_000), 0.0),
    Case("free, and nobody counted", FREE, None, 0.0),
    Case("free prompts of unknown length", FREE_PROMPTS, used(None, 1_000), 0.004),
    Case("an embedding", EMBEDDING, used(50_000, 0), 0.001),
    Case("an embedding whose vectors nobody counts", EMBEDDING, used(50_000), 0.001),
    Case("no price", None, used(1_000, 1_000), None),
    Case("no price, and nobody counted", None, None, None),
    Case("a price without figures", NOTHING, used(1_000, 1_000), None),
    Case("no price for what was generated", NO_OUTPUT, used(1_000, 1_000), None),
    Case("no price for what was not generated", NO_OUTPUT, used(1_000, 0), 0.002),
    Case("nobody counted", PLAIN, None, None),
    Case("nobody counted the answer", PLAIN, used(1_000), None),
    Case("nobody counted the prompt", PLAIN, used(None, 1_000), None),
    Case("nobody counted the prompt that decides the tier", TIERED, used(None, 1_000), None),
    Case("more cached than there was", CACHED, used(1_000, 100, cached_tokens=2_000), None),
    Case("more reasoning than output", REASONING, used(1_000, 100, reasoning_tokens=200), None),
)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_the_cost_is_that_of_the_sum_by_hand(case: Case) -> None:
    cost = cost_usd(case.usage, case.price)
    if case.cost is None:
        assert cost is None
    else:
        assert cost == pytest.approx(case.cost, rel=1e-12, abs=0)


def test_a_price_with_a_dear_tier_is_not_free() -> None:
    assert FREE.is_free
    assert not price(input=0, output=0, tiers=(PriceTier(above=10, input=1),)).is_free
    assert not NOTHING.is_free


def test_the_price_at_a_prompt_has_no_tiers_left() -> None:
    assert price_at(TIERED, 200_000) == price(input=1.25, output=10, cache_read=0.125)
    assert price_at(TIERED, 200_001) == price(input=2.5, output=15, cache_read=0.25)
