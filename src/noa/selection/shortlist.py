"""Of very many models nobody has used, the few that are worth a look."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import ClassVar, Final

from noa.models import ModelCapability, ModelInfo
from noa.selection.wish import Wish

#: How many lists are kept; one for each combination of conditions that callers use.
MOST_LISTS: Final = 64

_Conditions = tuple[tuple[ModelCapability, ...], tuple[str, ...], int | None]


class Shortlists:
    """The ``SIZE`` cheapest models that meet the fixed conditions of a wish, kept while the registry stays the same."""

    SIZE: ClassVar[int] = 64

    def __init__(self) -> None:
        self._revision = -1
        self._lists: dict[_Conditions, tuple[str, ...]] = {}

    def of(self, wish: Wish, revision: int, models: Iterable[ModelInfo]) -> tuple[str, ...]:
        """Their keys, cheapest first; ``models`` is only looked through when ``revision`` is new."""
        if revision != self._revision or len(self._lists) >= MOST_LISTS:
            self._revision, self._lists = revision, {}
        conditions = (wish.capabilities, wish.providers, wish.min_context)
        if conditions not in self._lists:
            fit = (model for model in models if _may(model, wish))
            self._lists[conditions] = tuple(model.key for model in heapq.nsmallest(self.SIZE, fit, key=_blended_price))
        return self._lists[conditions]


def _may(model: ModelInfo, wish: Wish) -> bool:
    window = model.context_window
    return (
        all(each in model.capabilities for each in wish.capabilities)
        and (not wish.providers or model.provider in wish.providers)
        and (wish.min_context is None or (window is not None and window >= wish.min_context))
    )


def _blended_price(model: ModelInfo) -> tuple[float, str]:
    """Three tokens in for one out, as usual in comparisons of prices; whoever has no price comes last."""
    price = model.price
    if price is None or price.input is None or price.output is None:
        return float("inf"), model.id
    return (3 * price.input + price.output) / 4, model.id
