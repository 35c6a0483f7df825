"""What whoever waits for weights is told."""

from __future__ import annotations

from collections.abc import Callable

#: Told how many bytes are there, and of how many, where that is known.
ByteProgress = Callable[[int, int | None], None]
#: Told a sentence for a person: what was chosen, what is kept.
Announce = Callable[[str], None]


def decimal_size(size_bytes: int) -> str:
    """A size as repositories of models show it, in decimal units."""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
