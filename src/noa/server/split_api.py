"""Aliases that are split among models, over HTTP: begun, ended, promoted."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from noa.manager import ModelManager
from noa.models import Value
from noa.server.request_body import read
from noa.server.wire import AliasMoved, json_response
from noa.splits import Share
from noa.state import AliasSplit, Guard


class SplitBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to split an alias: keys with percentages; its own model gets the rest. ``guard`` ends it if need be."""

    weights: dict[str, float]
    guard: Guard | None = None


class PromoteBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to be the alias's own model."""

    key: str
    reason: str = "promoted"


class SplitAnswer(Value, frozen=True, kw_only=True):
    """How an alias is split, and how it goes. Without ``shares`` it is not."""

    name: str
    shares: list[Share]
    guard: Guard | None = None


class SplitRoutes:
    """The handlers of ``/api/v1/aliases/{name}/split`` and ``…/promote``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def one(self, request: Request) -> Response:
        """How an alias is split, and how each of its models does."""
        return json_response(self._answer(request.path_params["name"]))

    async def begin(self, request: Request) -> Response:
        """Send part of an alias's requests to other models."""
        name = request.path_params["name"]
        body = read(await request.body(), SplitBody)
        await self._manager.split_alias(name, body.weights, guard=body.guard)
        return json_response(self._answer(name))

    async def end(self, request: Request) -> Response:
        """Send all of an alias's requests to its own model again."""
        name = request.path_params["name"]
        await self._manager.unsplit_alias(name)
        return json_response(self._answer(name))

    async def promote(self, request: Request) -> Response:
        """Make one of those who take part the alias's own model. No request fails for it."""
        name = request.path_params["name"]
        body = read(await request.body(), PromoteBody)
        moved = await self._manager.promote_alias(name, body.key, body.reason)
        message = f"“{name}” means {moved.current_model} now, for all of its requests."
        return json_response(
            AliasMoved(message=message, name=name, key=moved.current_model, previous=moved.previous_model)
        )

    def _answer(self, name: str) -> SplitAnswer:
        split: AliasSplit | None = self._manager.alias_split(name)
        shares = [*self._manager.alias_shares(name)]
        return SplitAnswer(name=name, shares=shares, guard=None if split is None else split.guard)
