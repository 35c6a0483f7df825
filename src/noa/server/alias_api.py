"""``/aliases``: names that follow a model, with their history and the way back."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from noa.manager import ModelManager
from noa.models import SwitchResult
from noa.selection.aliases import CURRENT
from noa.server import wire
from noa.server.management import chosen_name
from noa.server.request_body import read
from noa.server.wire import json_response


class AliasRoutes:
    """The handlers of ``/api/v1/aliases…``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def list(self, _: Request) -> Response:
        """Every alias, ``current`` among them if a model is in use."""
        entries = [
            wire.AliasEntry(name=record.name, key=record.key, since=record.at)
            for record in await self._manager.aliases()
            if record.key is not None
        ]
        return json_response(wire.AliasList(aliases=entries, count=len(entries)))

    async def one(self, request: Request) -> Response:
        """What an alias means and has meant."""
        name = request.path_params["name"]
        records = await self._manager.alias_history(name)
        history = [
            wire.AliasChange(key=each.key, previous=each.previous, reason=each.reason, at=each.at) for each in records
        ]
        key = history[0].key if history else None
        return json_response(wire.AliasHistory(name=name, key=key, history=history))

    async def point(self, request: Request) -> Response:
        """Make an alias mean a model, loading it first. No request fails for it."""
        name = request.path_params["name"]
        body = read(await request.body(), wire.PointBody)
        moved = await self._manager.point_alias(
            name, chosen_name(body), body.reason, expected=body.expected, load=body.load
        )
        return json_response(_moved(name, moved))

    async def remove(self, request: Request) -> Response:
        """Drop an alias. Its model stays as it is, and its history is kept."""
        name = request.path_params["name"]
        key = await self._manager.remove_alias(name)
        message = f"“{name}” is no alias any more; it meant {key}."
        return json_response(wire.AliasRemoved(message=message, name=name, key=key))

    async def roll_back(self, request: Request) -> Response:
        """Make an alias mean what it meant before its latest change, loading that first."""
        name = request.path_params["name"]
        body = read(await request.body(), wire.RollbackBody)
        return json_response(_moved(name, await self._manager.rollback_alias(name, body.reason)))


def _moved(name: str, moved: SwitchResult) -> wire.AliasMoved:
    key = moved.current_model
    message = f"{key} is the current model now." if name == CURRENT else f"“{name}” means {key} now."
    return wire.AliasMoved(message=message, name=name, key=key, previous=moved.previous_model)
