"""What a new catalogue changes, and whether it may be believed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from noa.catalog.snapshot import Rates, Row, RowPrice, Snapshot, rows
from noa.errors import ValidationError
from noa.models import Value

#: The dearest price that is believed, in USD per million tokens; the dearest that was seen is 600.
MAX_PRICE: Final = 10_000.0
#: The largest context window that is believed, in tokens.
MAX_CONTEXT: Final = 1_000_000_000
#: A price that became so many times dearer or cheaper is taken for another unit, if it happens to many.
LEAP: Final = 100.0
#: The part of the models that must still be there, and the part of the prices that may have leapt.
LEAST_LEFT: Final = 0.5
MOST_LEAPS: Final = 0.05
#: Below so many models, shares of them mean nothing.
FEW: Final = 20


class PriceChange(Value, frozen=True, kw_only=True):
    """A model whose price for input or output is another now, in USD per million tokens."""

    key: str
    input_before: float | None
    output_before: float | None
    input: float | None
    output: float | None


class Comparison(Value, frozen=True, kw_only=True):
    """What a new catalogue changes. Models are named ``service:model``, by the catalogue's names for services."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    price_changes: tuple[PriceChange, ...]
    other_changes: int

    @property
    def is_empty(self) -> bool:
        """Whether both say the same."""
        return not (self.added or self.removed or self.price_changes or self.other_changes)


def compare(before: Snapshot, after: Snapshot) -> Comparison:
    """What ``after`` says otherwise than ``before``."""
    old, new = rows(before), rows(after)
    both = sorted(old.keys() & new.keys())
    repriced = {key for key in both if _quoted(old[key].price) != _quoted(new[key].price)}
    return Comparison(
        added=tuple(":".join(key) for key in sorted(new.keys() - old.keys())),
        removed=tuple(":".join(key) for key in sorted(old.keys() - new.keys())),
        price_changes=tuple(_change(":".join(key), old[key].price, new[key].price) for key in sorted(repriced)),
        other_changes=sum(key not in repriced and _undated(old[key]) != _undated(new[key]) for key in both),
    )


def check_plausible(after: Snapshot, before: Snapshot) -> None:
    """Raise ``ValidationError``, saying why, for a catalogue that is rather broken than new."""
    old, new = rows(before), rows(after)
    if len(new) < len(old) * LEAST_LEFT or not new:
        raise ValidationError(
            f"The new catalogue has {len(new)} models, and the one in use {len(old)}: rather an error than news."
        )
    for (service, model_id), row in new.items():
        if (wrong := _out_of_bounds(row)) is not None:
            raise ValidationError(f"The new catalogue is not plausible: {service}:{model_id} has {wrong}.")
    both = old.keys() & new.keys()
    leaps = sorted(key for key in both if _leapt(old[key].price, new[key].price))
    if len(both) >= FEW and len(leaps) > len(both) * MOST_LEAPS:
        raise ValidationError(
            f"The new catalogue is not plausible: {len(leaps)} of {len(both)} prices differ by a factor of more than "
            f"{LEAP:.0f}, {':'.join(leaps[0])} among them."
        )


def _quoted(price: RowPrice | None) -> tuple[float | None, float | None]:
    return (None, None) if price is None else (price.input, price.output)


def _undated(row: Row) -> Row:
    """A row without the day of its price: the same price of another day is no change."""
    return row if row.price is None else replace(row, price=replace(row.price, as_of=None))


def _change(key: str, before: RowPrice | None, after: RowPrice | None) -> PriceChange:
    input_before, output_before = _quoted(before)
    input_after, output_after = _quoted(after)
    return PriceChange(
        key=key, input_before=input_before, output_before=output_before, input=input_after, output=output_after
    )


def _out_of_bounds(row: Row) -> str | None:
    for tokens in (row.context, row.output):
        if tokens is not None and not 0 < tokens <= MAX_CONTEXT:
            return f"a window of {tokens} tokens"
    for price in _prices(row.price):
        if not 0 <= price <= MAX_PRICE:
            return f"a price of {price} USD per million tokens"
    return None


def _prices(price: RowPrice | None) -> Iterator[float]:
    for rates in () if price is None else (price, *price.tiers):
        yield from (each for each in _all_of(rates) if each is not None)


def _all_of(rates: Rates) -> tuple[float | None, ...]:
    return rates.input, rates.output, rates.cache_read, rates.cache_write, rates.reasoning


def _leapt(before: RowPrice | None, after: RowPrice | None) -> bool:
    return any(
        old and new and not 1 / LEAP <= new / old <= LEAP
        for old, new in zip(_quoted(before), _quoted(after), strict=True)
    )
