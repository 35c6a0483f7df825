"""Whom to ask for a name that leaves it open: ``auto``, and aliases that are split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from noa.chooser import Chooser
from noa.selection.faults import NOT_THE_MODELS_FAULT
from noa.selection.wish import Wish, is_auto
from noa.splits import Splits
from noa.state import RequestRecord

#: How many of those that could serve are tried, one after the other, for one request.
MOST_CANDIDATES: Final = 5


class Routing:
    """Gives each such request its candidates, in order, and learns from how it went."""

    def __init__(self, chooser: Chooser, splits: Splits) -> None:
        self._chooser = chooser
        self._splits = splits

    def line_up(self, name: str | None, request_id: str, needs: Callable[[], Wish]) -> Sequence[str]:
        """The names to try, in this order; none if ``name`` means just one model.

        ``needs`` says what the request itself asks of a model. Raises ``ModelNotFoundError`` or
        ``ModelUnavailableError`` where nobody can be chosen, and ``ValidationError`` for an ``auto:…`` that is none.
        """
        if name is None:
            return ()
        if is_auto(name):
            order = self._chooser.line_up(self._chooser.wish(name, needs()), request_id)
            return order[:MOST_CANDIDATES]
        newcomer = self._splits.newcomer(name, request_id)
        return () if newcomer is None else (newcomer, name)

    def observe(self, record: RequestRecord) -> None:
        """An attempt is over."""
        self._chooser.observe(record)
        if record.error_code not in NOT_THE_MODELS_FAULT:
            self._splits.observe(record)
