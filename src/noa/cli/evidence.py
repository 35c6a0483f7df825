"""The evidence for what a model can do and costs, in words: each fact with its source and its date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from noa.cli.terminal import UNKNOWN
from noa.models import CapabilityEvidence, Price, PriceSource, PriceTier

#: How wide the names of capabilities are shown.
_WIDTH = 16


def evidence_lines(evidence: Iterable[CapabilityEvidence]) -> Iterator[str]:
    """A line for each capability that is known, or known to be missing: why, since when, and what was seen."""
    for each in evidence:
        since = "" if each.at is None else f" {each.at:%Y-%m-%d}"
        seen = f": {each.detail}" if each.detail else ""
        answer = "yes" if each.supported else "no"
        yield f"{each.capability:{_WIDTH}}  {answer:3}  {each.source}{since}{seen}"


def price_lines(price: Price | None) -> Iterator[str]:
    """What a million tokens cost, and who says so as of when; dearer prices of long prompts follow."""
    if price is None or (price.input is None and price.output is None):
        yield f"price: {UNKNOWN}"
        return
    if price.source is PriceSource.LOCAL:
        yield "price: free, it runs here"
        return
    dated = "" if price.as_of is None else f", as of {price.as_of}"
    per_token = "free" if price.is_free else _dollars(price) + " per million tokens"
    yield f"price: {per_token} ({price.source}{dated})"
    if price.note:
        yield f"  {price.note}"
    for tier in price.tiers:
        yield f"  beyond {tier.above} tokens of prompt: {_dollars(tier)}"
    if price.note:
        yield f"  {price.note}"


def _dollars(prices: Price | PriceTier) -> str:
    named = (
        ("in", prices.input),
        ("out", prices.output),
        ("read from cache", prices.cache_read),
        ("written to cache", prices.cache_write),
        ("reasoning", prices.reasoning),
    )
    return ", ".join(f"${amount:g} {name}" for name, amount in named if amount is not None)
