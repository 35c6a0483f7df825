"""Choices: which model should serve, and why."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from noa.errors import ValidationError
from noa.manager.part import Part
from noa.models import ModelCapability
from noa.selection.decision import Decision
from noa.selection.wish import Objective, Wish, capability_of

Word = TypeVar("Word", bound=StrEnum)


class Choices(Part):
    """Chooses among the models there are."""

    async def select(
        self,
        task: str | None = None,
        *,
        capability: ModelCapability | str | None = None,
        prefer: Objective | str | None = None,
        policy: str | None = None,
        max_cost: float | None = None,
        max_ttft_ms: float | None = None,
        min_context: int | None = None,
        prompt_tokens: int | None = None,
        max_tokens: int | None = None,
    ) -> Decision:
        """Which model should serve a task (``chat``, ``embedding``, ``vision``, ``tools``, ``json``), and why.

        Nothing is loaded or switched. ``max_cost`` is in USD for one request of ``prompt_tokens`` and ``max_tokens``;
        a model of unknown price does not meet it. ``policy`` is one of ``noa.yaml``, whose conditions hold besides.
        Raises ``ModelNotFoundError`` when no model meets the conditions, ``ModelUnavailableError`` when none does just
        now, and ``ValidationError`` for a task, capability, preference or policy that there is not.
        """
        chooser = self._open.chooser
        wish = Wish() if policy is None else chooser.policy(policy)
        needed = [] if task is None else [capability_of(task)]
        if capability is not None:
            needed.append(_known(ModelCapability, capability, "capability"))
        stricter: dict[str, object] = {
            "prefer": None if prefer is None else _known(Objective, prefer, "preference"),
            "max_cost": max_cost,
            "max_ttft_ms": max_ttft_ms,
            "min_context": min_context,
            "prompt_tokens": prompt_tokens,
            "output_tokens": max_tokens,
        }
        given = {name: value for name, value in stricter.items() if value is not None}
        await self.engine.refresh()
        return chooser.choose(msgspec.structs.replace(wish.needing(*needed), **given))

    def decision(self, request_id: str) -> Decision:
        """Why a request to ``auto`` went where it went. Raises ``ModelNotFoundError`` if none is remembered for it."""
        return self._open.chooser.decision(request_id)

    def decisions(self, limit: int = 100) -> Sequence[Decision]:
        """The latest decisions, newest first."""
        return self._open.chooser.decisions(limit)


def _known(words: type[Word], word: str, what: str) -> Word:
    try:
        return words(word)
    except ValueError:
        raise ValidationError(f"“{word}” is no {what}; there are {', '.join(words)}.") from None
