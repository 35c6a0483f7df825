"""What a request cost: the tokens its provider counted, times the price of the day. Pure.

How the services bill, as far as tokens go (OpenAI's, Anthropic's and Google's price lists):

- Tokens read from the prompt cache and tokens written to it are part of the prompt, and each token is billed once:
  read, written, or as input. A service without a price for reading or writing bills them as input.
- Reasoning tokens are part of the completion, and cost the same unless they have a price of their own.
- A tier holds for the whole request, once the prompt has more tokens than the tier says.

A detail of the count that a provider doesn't report (cached, written, reasoning tokens) is taken for none: those that
have it, report it. A total that isn't reported makes the cost unknown, and so does a price that isn't known, unless it
doesn't matter: what is free costs nothing, however much of it was used.
"""

from __future__ import annotations

import msgspec

from noa.chat import Usage
from noa.models import Price

_TOKENS_PER_PRICE = 1_000_000


def cost_usd(usage: Usage | None, price: Price | None) -> float | None:
    """What one request cost, in USD; ``None`` if that is not known."""
    if price is None:
        return None
    if price.is_free:
        return 0.0
    if usage is None or (price.tiers and usage.prompt_tokens is None):
        return None
    rates = price_at(price, usage.prompt_tokens) if price.tiers and usage.prompt_tokens is not None else price
    read, written, reasoned = usage.cached_tokens or 0, usage.cache_write_tokens or 0, usage.reasoning_tokens or 0
    amounts = (
        _amount(_without(usage.prompt_tokens, read + written), rates.input),
        _amount(read, _either(rates.cache_read, rates.input)),
        _amount(written, _either(rates.cache_write, rates.input)),
        _amount(_without(usage.completion_tokens, reasoned), rates.output),
        _amount(reasoned, _either(rates.reasoning, rates.output)),
    )
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def price_at(price: Price, prompt_tokens: int) -> Price:
    """The price that holds for a request with so many prompt tokens; it has no tiers left."""
    tier = max((tier for tier in price.tiers if prompt_tokens > tier.above), key=lambda tier: tier.above, default=None)
    if tier is None:
        return msgspec.structs.replace(price, tiers=()) if price.tiers else price
    return msgspec.structs.replace(
        price,
        tiers=(),
        input=_either(tier.input, price.input),
        output=_either(tier.output, price.output),
        cache_read=_either(tier.cache_read, price.cache_read),
        cache_write=_either(tier.cache_write, price.cache_write),
        reasoning=_either(tier.reasoning, price.reasoning),
    )


def _either(own: float | None, otherwise: float | None) -> float | None:
    return otherwise if own is None else own


def _without(total: int | None, part: int) -> int | None:
    """The rest of a total. A part larger than its total contradicts it, so nothing is known of the rest."""
    return None if total is None or part > total else total - part


def _amount(tokens: int | None, rate: float | None) -> float | None:
    if tokens == 0 or rate == 0:
        return 0.0
    if tokens is None or rate is None:
        return None
    return tokens * rate / _TOKENS_PER_PRICE
