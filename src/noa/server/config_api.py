"""``/config/reload``: the configuration is read anew. Only whoever has the server's own key has that done."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from noa.manager import ModelManager
from noa.server.ownership import require_owner
from noa.server.wire import json_response


class ConfigRoutes:
    """The handler of ``/api/v1/config/reload``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def reload(self, request: Request) -> Response:
        """Read noa.yaml, .env and the environment anew, and put what has changed into effect."""
        require_owner(request, self._manager.configuration, "The configuration is reloaded")
        return json_response(await self._manager.reload())
