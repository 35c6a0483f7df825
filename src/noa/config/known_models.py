"""What the user says of single models in ``noa.yaml``: their price, their window, what they can do."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from noa.models import ModelCapability, Price, PriceSource, PriceTier

_Dollars = Annotated[float, Meta(ge=0, le=1_000_000)]
_Tokens = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says of a model. ``None`` is not said; ``capabilities`` are all it has. Windows are in tokens."""

    price: Price | None = None
    context_window: int | None = None
    max_tokens: int | None = None
    capabilities: tuple[ModelCapability, ...] | None = None


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A part of the file."""


class RateSettings(_Part, frozen=True, kw_only=True):
    """Prices in USD per million tokens."""

    input: Annotated[_Dollars | None, Meta(description="Of the prompt, in USD per million tokens.")] = None
    output: Annotated[_Dollars | None, Meta(description="Of the answer, in USD per million tokens.")] = None
    cache_read: Annotated[
        _Dollars | None, Meta(description="Of prompt tokens read from the service's cache; as input unless given.")
    ] = None
    cache_write: Annotated[
        _Dollars | None, Meta(description="Of prompt tokens written to the service's cache; as input unless given.")
    ] = None
    reasoning: Annotated[_Dollars | None, Meta(description="Of reasoning tokens; as output unless given.")] = None


class TierSettings(RateSettings, frozen=True, kw_only=True):
    """Prices of a whole request whose prompt is long."""

    above: Annotated[_Tokens, Meta(description="They hold once the prompt has more tokens than this.")]


class PriceSettings(RateSettings, frozen=True, kw_only=True):
    """What a model costs, in USD per million tokens; 0 is free."""

    tiers: Annotated[tuple[TierSettings, ...], Meta(description="Other prices for long prompts.")] = ()
    as_of: Annotated[date | None, Meta(description="The day of these prices, such as 2026-11-01.")] = None


class ModelEntry(_Part, frozen=True, kw_only=True):
    """What is known of a model, before everything that others say of it."""

    price: Annotated[PriceSettings | None, Meta(description="What its tokens cost.")] = None
    context_window: Annotated[_Tokens | None, Meta(description="Its context window, in tokens.")] = None
    max_tokens: Annotated[_Tokens | None, Meta(description="Its longest answer, in tokens.")] = None
    capabilities: Annotated[
        tuple[ModelCapability, ...] | None, Meta(description="All that it can do; what is not listed, it cannot.")
    ] = None

    def known(self) -> KnownModel:
        """The same as Noa has it."""
        return KnownModel(
            price=None if self.price is None else _price(self.price),
            context_window=self.context_window,
            max_tokens=self.max_tokens,
            capabilities=self.capabilities,
        )


def _price(price: PriceSettings) -> Price:
    return Price(
        input=price.input,
        output=price.output,
        cache_read=price.cache_read,
        cache_write=price.cache_write,
        reasoning=price.reasoning,
        tiers=tuple(msgspec.convert(tier, PriceTier, from_attributes=True) for tier in price.tiers),
        source=PriceSource.CONFIGURED,
        as_of=price.as_of,
    )
