"""Of very many models nobody has used, the few that are worth a look."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import itemgetter
from typing import ClassVar, Final, NamedTuple

from noa.models import ModelCapability, ModelInfo
from noa.selection.wish import Wish

#: How many lists are kept; one for each combination of conditions that callers use.
MOST_LISTS: Final = 64

#: What lists are sorted by: three tokens in for one out, as usual in comparisons of prices, and then the id.
_Price = tuple[float, str]


class _Conditions(NamedTuple):
    capabilities: tuple[ModelCapability, ...]
    providers: tuple[str, ...]
    min_context: int | None

    def price(self, model: ModelInfo | None) -> _Price | None:
        """The price of a model that meets them; whoever has no price comes last."""
        if model is None or (self.providers and model.provider not in self.providers):
            return None
        window, price = model.context_window, model.price
        if self.min_context is not None and (window is None or window < self.min_context):
            return None
        for each in self.capabilities:
            if each not in model.capabilities:
                return None
        if price is None or price.input is None or price.output is None:
            return math.inf, model.id
        return (3 * price.input + price.output) / 4, model.id


class _Shortlist:
    """The keys of one list with their prices, cheapest first."""

    def __init__(self, prices: Mapping[str, _Price]) -> None:
        self.prices = prices
        self._dearest = max(prices.values(), default=(math.inf, ""))

    def holds(self, key: str, price: _Price | None, size: int) -> bool:
        """Whether it stays as it is now that a model has this price, or does not fit."""
        if price == self.prices.get(key):
            return True
        return price is not None and key not in self.prices and len(self.prices) == size and price > self._dearest


class Shortlists:
    """The ``SIZE`` cheapest models that meet the fixed conditions of a wish, kept as long as they are these.

    ``model`` is what is known of a key's model, ``None`` if it is not offered.
    """

    SIZE: ClassVar[int] = 64

    def __init__(self, model: Callable[[str], ModelInfo | None]) -> None:
        self._model = model
        #: What is offered was looked at as of this one.
        self.revision = 0
        self._lists: dict[_Conditions, _Shortlist] = {}

    def of(self, wish: Wish, revision: int, changed: Collection[str] | None, keys: Iterable[str]) -> Collection[str]:
        """Their keys, cheapest first.

        ``changed`` are the models of which another thing is known since ``self.revision``, ``None`` if it may be any.
        ``keys`` are all there are, and only looked through if the list is not known yet, or not any more.
        """
        self._look_at(changed)
        self.revision = revision
        conditions = _Conditions(wish.capabilities, wish.providers, wish.min_context)
        known = self._lists.get(conditions)
        if known is None:
            if len(self._lists) >= MOST_LISTS:
                self._lists.clear()
            known = self._lists[conditions] = self._drawn_up(conditions, keys)
        return known.prices

    def _drawn_up(self, conditions: _Conditions, keys: Iterable[str]) -> _Shortlist:
        fit = ((price, key) for key in keys if (price := conditions.price(self._model(key))) is not None)
        return _Shortlist({key: price for price, key in heapq.nsmallest(self.SIZE, fit, key=itemgetter(0))})

    def _look_at(self, changed: Collection[str] | None) -> None:
        """Forget the lists that may be others now."""
        if changed is None:
            self._lists.clear()
        elif changed:
            models = {key: self._model(key) for key in changed}
            self._lists = {
                conditions: known
                for conditions, known in self._lists.items()
                if all(known.holds(key, conditions.price(model), self.SIZE) for key, model in models.items())
            }
