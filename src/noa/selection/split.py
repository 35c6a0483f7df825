"""An alias whose requests are split: most go to the model it means, some to others, to compare or to try one out."""

from __future__ import annotations

from collections.abc import Callable

from noa.errors import ValidationError
from noa.selection.aliases import CURRENT
from noa.state import AliasSplit


def checked(split: AliasSplit, own_key: str | None) -> AliasSplit:
    """The split if it makes sense for an alias that means ``own_key``; raises ``ValidationError`` if not."""
    field: dict[str, object] = {"field": "weights"}
    if split.alias == CURRENT:
        raise ValidationError(
            "“current” is the one model in use and cannot be split; make an alias for it and split that."
        )
    if own_key is None:
        raise ValidationError(f"“{split.alias}” means nothing yet; point it at a model first.", details=field)
    if not split.weights:
        raise ValidationError(
            f"Say which models take part in “{split.alias}”, and with how many percent.", details=field
        )
    if own_key in split.weights:
        raise ValidationError(
            f"“{split.alias}” means {own_key}, which gets what the others leave; give percentages of the others.",
            details=field,
        )
    if any(not 0 < each < 100 for each in split.weights.values()) or sum(split.weights.values()) >= 100:
        raise ValidationError(
            f"The percentages of “{split.alias}” must each be over 0 and together below 100.", details=field
        )
    guard = split.guard
    if guard is not None and (
        guard.min_requests < 1 or guard.max_error_rise < 0 or (guard.max_latency_ratio or 1.0) < 1
    ):
        raise ValidationError(
            "A guard takes at least 1 request, an error rise of 0 or more and a latency ratio of 1 or more.",
            details={"field": "guard"},
        )
    return split


def newcomer_of(split: AliasSplit, draw: Callable[[], float]) -> str | None:
    """The key of the newcomer that has this request, ``None`` if the alias's own model has it."""
    dice = draw() * 100
    for key, percent in split.weights.items():
        if dice < percent:
            return key
        dice -= percent
    return None
