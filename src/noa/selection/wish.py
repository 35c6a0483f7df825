"""What a caller wants of a model that Noa chooses."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from noa.errors import ValidationError
from noa.models import ModelCapability, Value

#: What stands for “choose for me” where a model's name is expected; ``auto:speed`` and ``auto:<policy>`` say by what.
AUTO: Final = "auto"


class Objective(StrEnum):
    """What matters most among the models that may serve."""

    SPEED = "speed"
    COST = "cost"
    BALANCED = "balanced"
    RELIABILITY = "reliability"


#: The quick start's tasks, and those its users would add, with what a model must be able to do for them.
TASKS: Final = MappingProxyType(
    {
        "chat": ModelCapability.CHAT_COMPLETION,
        "embedding": ModelCapability.EMBEDDINGS,
        "embeddings": ModelCapability.EMBEDDINGS,
        "vision": ModelCapability.VISION,
        "tools": ModelCapability.FUNCTION_CALLING,
        "json": ModelCapability.JSON_MODE,
        "text": ModelCapability.TEXT_GENERATION,
    }
)


class Wish(Value, frozen=True, kw_only=True):
    """The conditions a model must meet, and what to prefer among those that do.

    ``max_cost`` is in USD for one request of ``prompt_tokens`` and ``output_tokens``, ``max_ttft_ms`` the longest
    predicted wait for the first token, and ``min_success_rate`` is 0–1. ``providers`` and ``models`` (keys), where
    given, are the only ones considered. ``explore`` is the share of requests, 0–0.5, that may go to a model that was
    not measured lately; ``policy`` is the one of ``noa.yaml`` all this comes from.
    """

    capabilities: tuple[ModelCapability, ...] = ()
    prefer: Objective = Objective.BALANCED
    max_cost: float | None = None
    max_ttft_ms: float | None = None
    min_context: int | None = None
    min_success_rate: float | None = None
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    policy: str | None = None
    prompt_tokens: int = 500
    output_tokens: int = 300
    explore: float = 0.0

    def needing(self, *capabilities: ModelCapability) -> Wish:
        """The same for a model that can do these too."""
        more = tuple(each for each in capabilities if each not in self.capabilities)
        return msgspec.structs.replace(self, capabilities=(*self.capabilities, *more)) if more else self


def capability_of(task: str) -> ModelCapability:
    """What a model must be able to do for a task. Raises ``ValidationError`` for a task that is none."""
    try:
        return TASKS[task]
    except KeyError:
        raise ValidationError(
            f"“{task}” is no task; there are {', '.join(TASKS)}.", details={"field": "task"}
        ) from None


def is_auto(name: str | None) -> bool:
    """Whether a name asks Noa to choose."""
    return name is not None and (name == AUTO or name.startswith(f"{AUTO}:"))


def split_auto(name: str, policies: Collection[str]) -> tuple[Objective | None, str | None]:
    """The objective or the policy that ``auto:…`` names; neither for ``auto``.

    Raises ``ValidationError`` for a word that is neither.
    """
    word = name.partition(":")[2]
    if not word:
        return None, None
    if word in policies:
        return None, word
    try:
        return Objective(word), None
    except ValueError:
        known = ", ".join([*Objective, *sorted(policies)])
        raise ValidationError(f"“{name}” is no way to choose; after “auto:” stands one of {known}.") from None
