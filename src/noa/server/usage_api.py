"""``GET /api/v1/status/usage``: what was used, and what it cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from noa.errors import ValidationError
from noa.manager import ModelManager
from noa.server import wire
from noa.server.openapi import Parameter
from noa.server.wire import json_response
from noa.state import UsageGrouping

_MOMENT: Final = {"type": "string", "format": "date-time"}
PARAMETERS: Final = (
    Parameter(
        "by", "What it is summed up by; `model` unless given.", {"type": "string", "enum": [*map(str, UsageGrouping)]}
    ),
    Parameter("since", "From the hour of this moment on; a day is its beginning in UTC.", _MOMENT),
    Parameter("until", "To the hour before this moment.", _MOMENT),
    Parameter("key", "Only of this model: its key, an alias or a bare id."),
)


class UsageRoutes:
    """The handler of ``/api/v1/status/usage``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def totals(self, request: Request) -> Response:
        """Requests, tokens and costs by model, by caller's key, by hour or by day."""
        query = request.query_params
        by = _grouping(query.get("by"))
        groups = await self._manager.usage(
            by, since=_moment("since", query), until=_moment("until", query), key=query.get("key")
        )
        return json_response(wire.UsageTotals(by=by, groups=[*groups], count=len(groups)))


def _grouping(given: str | None) -> UsageGrouping:
    try:
        return UsageGrouping(given or UsageGrouping.MODEL)
    except ValueError:
        allowed = [*map(str, UsageGrouping)]
        raise ValidationError(
            f"by must be one of {', '.join(allowed)}.", details={"field": "by", "allowed": allowed}
        ) from None


def _moment(field: str, query: QueryParams) -> datetime | None:
    given = query.get(field)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValidationError(
            f"{field} must be a moment such as 2026-11-23T12:00:00Z, or a day such as 2026-11-23.",
            details={"field": field},
        ) from None
