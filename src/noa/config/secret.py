"""A string that must not be seen."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Holds a key and shows it to nobody but who calls ``reveal``: not printed, formatted, encoded or pickled.

    Two are equal when they hold the same text; the comparison takes the same time wherever they differ.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("A secret cannot be empty.")
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the header or the comparison that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "Secret(…)"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A secret cannot be pickled or copied.")
