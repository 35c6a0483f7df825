"""``/keys``: keys for single callers. Only whoever has the server's own key manages them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from noa.caller_keys import NewCallerKey
from noa.manager import ModelManager
from noa.models import Value
from noa.server.ownership import require_owner
from noa.server.request_body import read
from noa.server.wire import json_response


class KeyBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make. ``ttl`` is how long it is valid, in seconds; without, until it is revoked."""

    name: str
    ttl: Annotated[float, msgspec.Meta(gt=0)] | None = None


class KeyEntry(Value, frozen=True, kw_only=True):
    """A key, without the key itself. ``lastUsed`` is ``null`` until it is used."""

    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used: datetime | None


class KeyList(Value, frozen=True, kw_only=True):
    """Every key for callers, by name. ``enforced`` says whether the server asks for a key at all."""

    keys: Sequence[KeyEntry]
    count: int
    enforced: bool


class KeyRevoked(Value, frozen=True, kw_only=True):
    """A key opens nothing any more."""

    message: str
    name: str


class KeyRoutes:
    """The handlers of ``/api/v1/keys…``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def list(self, request: Request) -> Response:
        """Every key for callers; never the keys themselves."""
        require_owner(request, self._manager.configuration, "Keys are managed")
        entries = [
            KeyEntry(name=key.name, created_at=key.created_at, expires_at=key.expires_at, last_used=key.last_used)
            for key in self._manager.caller_keys()
        ]
        enforced = self._manager.configuration.api_key is not None
        return json_response(KeyList(keys=entries, count=len(entries), enforced=enforced))

    async def create(self, request: Request) -> Response:
        """Make a key for a caller. The answer is the only one that ever shows it."""
        require_owner(request, self._manager.configuration, "Keys are managed")
        body = read(await request.body(), KeyBody)
        made: NewCallerKey = await self._manager.create_caller_key(body.name, valid_s=body.ttl)
        response = json_response(made, 201)
        response.headers["cache-control"] = "no-store"
        return response

    async def revoke(self, request: Request) -> Response:
        """Have a key open nothing from now on."""
        require_owner(request, self._manager.configuration, "Keys are managed")
        name = request.path_params["name"]
        await self._manager.revoke_caller_key(name)
        return json_response(KeyRevoked(message=f"The key “{name}” is revoked; it opens nothing any more.", name=name))
