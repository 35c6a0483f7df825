"""Models that an alias means and that are not there: noticed when it happens, and said once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from noa.announcer import Announcer
from noa.errors import AIProviderError, ModelUnavailableError

logger = logging.getLogger(__name__)


class Absences:
    """Tells the log and whoever listens of each alias whose model has gone, again only after it was back.

    ``absence`` is what is wrong with the model that an alias means, if it is not there now. The alias keeps its
    meaning: a file may come back.
    """

    def __init__(self, announcer: Announcer, absence: Callable[[str], AIProviderError | None]) -> None:
        self._announcer = announcer
        self._absence = absence
        self._told: set[tuple[str, str]] = set()

    def look(self, aliases: Iterable[tuple[str, str]]) -> None:
        """Look at these aliases, each with the key it means."""
        absent: set[tuple[str, str]] = set()
        for alias, key in aliases:
            error = self._absence(alias)
            if not isinstance(error, ModelUnavailableError):
                continue  # It is there, or its provider is down, which is told elsewhere and says nothing of the model.
            absent.add((alias, key))
            if (alias, key) not in self._told:
                logger.warning("%s", error.message)
                data = {"key": key, "alias": alias, "error": error.message, "code": error.code}
                self._announcer.publish("model-missing", data)
        self._told = absent
