"""Profiles over HTTP: made, stopped, and looked up afterwards."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from noa.errors import AIProviderError
from noa.manager import ModelManager
from noa.measurement.summary import ProfileMetrics
from noa.models import split_key
from noa.server import profile_wire as wire
from noa.server.exchange import exchange_of
from noa.server.model_path import name_of
from noa.server.request_body import read
from noa.server.wire import json_response

logger = logging.getLogger(__name__)


class ProfileRoutes:
    """The handlers of ``/api/v1/models/{name}/profile`` and ``…/history``."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._begun: set[asyncio.Task[None]] = set()

    async def make(self, request: Request) -> Response:
        """Measure a model by real requests; with ``estimate``, only say what that would take and cost."""
        key = await self._key(request)
        body = read(await request.body(), wire.ProfileBody)
        if body.estimate:
            taken = self._manager.estimate_profile(key, body.test_count, mode=body.mode, max_tokens=body.max_tokens)
            return json_response(wire.ProfileEstimate(key=key, estimate=taken))
        if not body.wait:
            return self._begin(key, body)
        async with exchange_of(request).while_connected():
            metrics = await self._measure(key, body)
            return json_response(wire.Profiled(message=said(key, metrics), key=key, metrics=metrics))
        return Response()  # Nobody is there to read it.

    async def stop(self, request: Request) -> Response:
        """End a profile that is being made; it keeps what it has measured."""
        key = await self._key(request)
        metrics = await self._manager.stop_profile(key)
        message = f"The profile of {key} failed." if metrics is None else said(key, metrics)
        return json_response(wire.ProfileStopped(message=message, key=key, metrics=metrics))

    async def history(self, request: Request) -> Response:
        """A model's latest requests and its profiles."""
        key = await self._key(request)
        profiles = [
            wire.PastProfile(at=past.at, formula_version=past.formula_version, metrics=msgspec.Raw(past.metrics_json))
            for past in await self._manager.profiles(key)
        ]
        served = [*self._manager.performance_history(key)]
        return json_response(wire.History(key=key, history=served, profiles=profiles))

    async def _measure(self, key: str, body: wire.ProfileBody) -> ProfileMetrics:
        return await self._manager.profile_model(
            key,
            body.test_count,
            mode=body.mode,
            max_tokens=body.max_tokens,
            max_cost=body.max_cost,
            cold_start=body.cold_start,
        )

    async def _key(self, request: Request) -> str:
        return await self._manager.engine.find_key(name_of(request.path_params["name"]))

    def _begin(self, key: str, body: wire.ProfileBody) -> Response:
        async def finish() -> None:
            try:
                await self._measure(key, body)
            except AIProviderError as error:
                logger.warning("profiling %s failed: %s", key, error.message)

        task = asyncio.create_task(finish())
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        provider, model = split_key(key)
        message = f"{key} is being profiled; follow /api/v1/events, or ask for its history."
        return json_response(wire.ProfileAccepted(message=message, provider=provider, model=model, key=key), 202)


def said(key: str, metrics: ProfileMetrics) -> str:
    """What came of a profile, in a sentence or two."""
    requests = f"{metrics.test_count} request{'' if metrics.test_count == 1 else 's'}"
    sentence = f"{key} was measured with {requests}."
    if metrics.stopped == "asked":
        sentence = f"The profile of {key} was stopped after {requests}."
    elif metrics.stopped == "max-cost":
        sentence = f"The profile of {key} ended after {requests}: the next might have cost more than maxCost allows."
    return sentence if metrics.comparison is None else f"{sentence} {metrics.comparison.summary}"
