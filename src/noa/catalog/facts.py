"""What the catalogue knows of one model."""

from __future__ import annotations

from datetime import date

from noa.models import ModelCapability, Price, Value


class CatalogFacts(Value, frozen=True, kw_only=True):
    """What the catalogue knows of one model at one service.

    ``context_window`` and ``max_tokens`` are in tokens. A capability that stands neither in ``capabilities`` nor in
    ``lacks`` is one the catalogue says nothing of; so is ``reasoning`` where it is ``None``. ``as_of`` is the day of
    the facts; the price has its own.
    """

    as_of: date
    name: str | None = None
    context_window: int | None = None
    max_tokens: int | None = None
    capabilities: tuple[ModelCapability, ...] = ()
    lacks: tuple[ModelCapability, ...] = ()
    reasoning: bool | None = None
    price: Price | None = None
