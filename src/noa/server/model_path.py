"""What follows ``/models/`` in a path, where a key may hold slashes and no two routes may shadow each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, unquote

#: Words that are routes of their own, and therefore no keys.
RESERVED: Final = frozenset({"loaded", "current", "statistics", "load", "unload", "switch", "discover", "save-state"})
#: What may follow a key.
ACTIONS: Final = frozenset({"profile", "capabilities", "metrics", "history", "logs", "probe"})


def canonical_rest(segments: Sequence[str], is_known: Callable[[str], bool]) -> str:
    """The rest of the path in the form that is routed: the key as one segment, with its slashes encoded.

    ``segments`` are those after ``/models/``, percent-encoded as they came. In this order, it is a reserved word, a
    known key as a whole (a model may be called ``x/profile``), a key and an action, or a name. A slash of a name that
    is written ``%2F`` is never taken for the one before an action.
    """
    if len(segments) == 1 and segments[0] in RESERVED:
        return segments[0]
    *head, last = segments
    if head and any(head) and last in ACTIONS and not is_known(name_of("/".join(segments))):
        return f"{_one_segment('/'.join(head))}/{last}"
    return _one_segment("/".join(segments))


def name_of(segment: str) -> str:
    """The name that a segment stands for."""
    return unquote(segment)


def _one_segment(encoded: str) -> str:
    return quote(unquote(encoded), safe=":")
