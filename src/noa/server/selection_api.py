"""Choices over HTTP: which model should serve and why, and why a request went where it went."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from noa.manager import ModelManager
from noa.models import ModelCapability, Value
from noa.selection.decision import Decision
from noa.selection.wish import Objective
from noa.server.request_body import read
from noa.server.wire import json_response


class SelectBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wanted of a model. ``task`` names a capability by what it is for; both may be given.

    ``max_cost`` is in USD for a request of ``prompt_tokens`` and ``max_tokens``.
    """

    task: str | None = None
    capability: ModelCapability | None = None
    prefer: Objective | None = None
    policy: str | None = None
    max_cost: Annotated[float, Meta(ge=0)] | None = None
    max_ttft_ms: Annotated[float, Meta(gt=0)] | None = None
    min_context: Annotated[int, Meta(ge=1)] | None = None
    prompt_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None


class DecisionList(Value, frozen=True, kw_only=True):
    """``GET /decisions``."""

    decisions: list[Decision]
    count: int


class SelectionRoutes:
    """The handlers of ``/api/v1/models/select`` and ``/api/v1/decisions…``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def select(self, request: Request) -> Response:
        """Say which model should serve, and why. Nothing is loaded or switched."""
        body = read(await request.body(), SelectBody)
        decision = await self._manager.select(
            task=body.task,
            capability=body.capability,
            prefer=body.prefer,
            policy=body.policy,
            max_cost=body.max_cost,
            max_ttft_ms=body.max_ttft_ms,
            min_context=body.min_context,
            prompt_tokens=body.prompt_tokens,
            max_tokens=body.max_tokens,
        )
        return json_response(decision)

    async def decision(self, request: Request) -> Response:
        """Why a request that left the choice to Noa went where it went, and what came of it."""
        return json_response(self._manager.decision(request.path_params["request_id"]))

    async def decisions(self, _: Request) -> Response:
        """The latest decisions, newest first."""
        latest = [*self._manager.decisions()]
        return json_response(DecisionList(decisions=latest, count=len(latest)))
