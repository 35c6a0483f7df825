"""What a profile may cost: an estimate before it, and a limit that holds while it runs. Pure.

An estimate takes as many tokens for prompts as they have on average, and for answers as many as they may have. The
limit takes no averages: what a request costs at most is reserved before it is sent, at the dearest of the prices.
"""

from __future__ import annotations

from collections.abc import Iterable

from noa.chat import Usage
from noa.measurement.cost import cost_usd
from noa.measurement.profile_plan import Stage
from noa.measurement.prompts import about_tokens, prompt
from noa.measurement.samples import Sample
from noa.models import Price, PriceTier, Value

#: What a chat template and a protocol add to a prompt, at most, in tokens.
TEMPLATE_TOKENS = 200
#: Answers that say that the provider did not take the request, so that it costs nothing.
NOT_TAKEN = frozenset(
    {"AUTHENTICATION_ERROR", "CONFIGURATION_ERROR", "MODEL_NOT_FOUND", "MODEL_UNAVAILABLE", "RATE_LIMIT_ERROR"}
    | {"CONTEXT_LENGTH_EXCEEDED", "VALIDATION_ERROR"}
)
_MILLION = 1_000_000


class Expense(Value, frozen=True, kw_only=True):
    """What a profile takes at most: requests, tokens of their prompts (about) and of their answers, and USD.

    ``cost_usd`` is ``None`` where the price is not known, and 0 where it is known to cost nothing.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    price: Price | None


def estimate(stages: Iterable[Stage], max_tokens: int, price: Price | None) -> Expense:
    """What these stages take if all of them are carried out."""
    texts = [(prompt("0" * 32, index, stage.prompt_tokens)) for stage in stages for index in range(stage.requests)]
    prompt_tokens, completion_tokens = sum(map(about_tokens, texts)), len(texts) * max_tokens
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    each = None if price is None else _as_one_of_many(price)
    return Expense(
        requests=len(texts),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=cost_usd(usage, each),
        price=price,
    )


def cost_of(sample: Sample, price: Price | None) -> float | None:
    """What a request cost, by the tokens that were counted; nothing if it was not taken; ``None``: not known."""
    if sample.error_code in NOT_TAKEN and sample.ttft_ms is None:
        return 0.0
    return cost_usd(
        Usage(
            prompt_tokens=sample.prompt_tokens,
            completion_tokens=sample.completion_tokens,
            cached_tokens=sample.cached_tokens,
            reasoning_tokens=sample.reasoning_tokens,
        ),
        price,
    )


class Purse:
    """Holds a limit: whatever is sent was paid for before, at the most it can cost."""

    def __init__(self, limit_usd: float | None, price: Price | None) -> None:
        self._limit_usd = limit_usd
        self._price = price
        self._reserved_usd = 0.0
        self._spent_usd = 0.0

    @property
    def spent_usd(self) -> float:
        """What was spent, at most."""
        return self._spent_usd

    def take(self, text: str, max_tokens: int) -> float | None:
        """Reserve what this request costs at most, and return that; ``None`` if it would exceed the limit.

        A tokenizer makes no more tokens of a text than it has bytes.
        """
        if self._limit_usd is None:
            return 0.0
        most = most_usd(len(text.encode()) + TEMPLATE_TOKENS, max_tokens, self._price)
        if most is None or self._spent_usd + self._reserved_usd + most > self._limit_usd:
            return None
        self._reserved_usd += most
        return most

    def settle(self, reserved_usd: float, cost: float | None) -> None:
        """Give back what a request did not need; one whose cost is not known is taken to have cost all of it."""
        self._reserved_usd -= reserved_usd
        self._spent_usd += reserved_usd if cost is None else cost


def most_usd(prompt_tokens: int, completion_tokens: int, price: Price | None) -> float | None:
    """What so many tokens cost at the dearest of the prices; ``None`` where these are not known."""
    if price is None or price.input is None or price.output is None:
        return None
    rows: tuple[Price | PriceTier, ...] = (price, *price.tiers)
    reading = max(each for row in rows for each in (row.input, row.cache_read, row.cache_write) if each is not None)
    writing = max(each for row in rows for each in (row.output, row.reasoning) if each is not None)
    return (prompt_tokens * reading + completion_tokens * writing) / _MILLION


def _as_one_of_many(price: Price) -> Price:
    """The price of small requests: taken together they would reach a tier that none of them does."""
    return Price(input=price.input, output=price.output, source=price.source, as_of=price.as_of)
