"""How the server, its providers and its machine are."""

from __future__ import annotations

import os
import platform
import time

import msgspec
import psutil
from starlette.requests import Request
from starlette.responses import Response

from noa.errors import ConfigurationError, ModelUnavailableError
from noa.manager import ModelManager
from noa.server import wire
from noa.server.exchange import Exchange
from noa.server.wire import json_response
from noa.version import __version__


async def live(exchange: Exchange) -> None:
    """``/health`` and ``/v1/health``, where monitors look for what ``/api/v1/status/live`` says."""
    await exchange.answer(200, msgspec.json.encode(wire.Live()))


class Readiness:
    """Whether the server has what it was started with. ``preparing`` is set while that is being fetched or loaded."""

    def __init__(self, manager: ModelManager) -> None:
        self.preparing = False
        self._manager = manager

    @property
    def ready(self) -> bool:
        """Whether the manager runs and nothing is being prepared."""
        try:
            return bool(self._manager.engine) and not self.preparing
        except ConfigurationError:
            return False


class StatusRoutes:
    """The handlers of ``/api/v1/status/…``."""

    def __init__(self, manager: ModelManager, readiness: Readiness) -> None:
        self._manager = manager
        self._readiness = readiness
        self._began = time.monotonic()
        self._process = psutil.Process()
        self._cpu_was_asked = False

    async def live(self, _: Request) -> Response:
        """The process runs. Needs no key."""
        return json_response(wire.Live())

    async def ready(self, _: Request) -> Response:
        """The server has what it was started with; 503 before."""
        if not self._readiness.ready:
            raise ModelUnavailableError("Noa is still starting.", retry_after_s=1)
        return json_response(wire.Ready())

    async def health(self, _: Request) -> Response:
        """How the server is, in one look."""
        engine = self._manager.engine
        down = [report for report in engine.reports.values() if not report.up]
        problems = [report.error or f"{report.provider} is down." for report in down]
        current = engine.current()
        if current is not None and current.error is not None and current.error not in problems:
            problems.append(current.error)
        answer = wire.ServerHealth(
            status="degraded" if problems else "healthy",
            version=__version__,
            uptime_seconds=round(time.monotonic() - self._began, 3),
            current_model=current.key if current else None,
            loaded_models=len(self._manager.loaded_models),
            known_models=len(self._manager.registry),
            waiting_requests=engine.waiting,
            problems=problems,
        )
        return json_response(answer)

    async def providers(self, _: Request) -> Response:
        """Ask every provider now whether it is well."""
        found = await self._manager.engine.health()
        providers = [
            wire.ProviderHealth(
                name=name,
                up=health.up,
                latency_ms=health.latency_ms,
                error=health.error,
                models=self._manager.registry.count(name),
            )
            for name, health in found.items()
        ]
        breakers = list(self._manager.breakers())
        return json_response(wire.ProvidersHealth(providers=providers, breakers=breakers, count=len(providers)))

    async def system(self, _: Request) -> Response:
        """The machine, and what we take of it."""
        memory = psutil.virtual_memory()
        answer = wire.SystemFigures(
            version=__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            cpu=wire.CpuFigures(count=os.cpu_count(), percent=self._cpu_percent(), load_average=_load_average()),
            memory=wire.MemoryFigures(
                total_bytes=memory.total, available_bytes=memory.available, used_percent=memory.percent
            ),
            processes=self._processes(),
        )
        return json_response(answer)

    def _cpu_percent(self) -> float | None:
        """The first answer of psutil covers no time, so it means nothing."""
        percent = psutil.cpu_percent(interval=None)
        known, self._cpu_was_asked = self._cpu_was_asked, True
        return percent if known else None

    def _processes(self) -> list[wire.ProcessFigures]:
        own = wire.ProcessFigures(name="noa", pid=self._process.pid, rss_bytes=self._process.memory_info().rss)
        engines = [
            wire.ProcessFigures(name=active.key, pid=active.pid, rss_bytes=active.memory_bytes)
            for active in self._manager.loaded_models
            if active.pid is not None
        ]
        return [own, *engines]


def _load_average() -> list[float] | None:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None
