"""``GET /metrics``: how everything is doing, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelInfo, ModelStatus
from noa.selection.breaker import BreakerState
from noa.selection.breakers import Scope
from noa.server import metric_names as names
from noa.server.exchange import Exchange
from noa.server.request_metrics import RequestMetrics

_BREAKER_STATES: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class Figures(CollectorRegistry):
    """A registry without the time at which each series began: a gauge beside every counter that nobody asked for.

    The library's own switch for them is the whole process's, which belongs to whoever mounts us.
    """

    def collect(self) -> Iterator[Metric]:
        """Every figure as it is now."""
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class Metrics:
    """Counts what the manager's events and requests tell, in a registry of its own. Gauges are read when scraped."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self.registry = registry = Figures()
        self._loads = Counter(names.MODEL_LOADS, "Models loaded.", [names.PROVIDER, names.MODEL], registry=registry)
        self._switches = Counter(names.MODEL_SWITCHES, "Switches of models.", registry=registry)
        self._loaded = Gauge(names.MODELS_LOADED, "Models that are loaded now.", registry=registry)
        self._models = Gauge(names.MODELS, "Known models by status.", ["status"], registry=registry)
        self._in_flight = Gauge(
            names.IN_FLIGHT, "Requests that a loaded model serves now.", [names.MODEL], registry=registry
        )
        self._waiting = Gauge(names.WAITING, "Requests and changes that wait for a model now.", registry=registry)
        self._memory = Gauge(
            names.MODEL_MEMORY, "Resident memory of a local model's process.", [names.MODEL], registry=registry
        )
        self._breakers = Gauge(
            names.BREAKER_STATE,
            "Whether requests go there: 0 they do (closed), 1 a few to try it (half-open), 2 none do (open).",
            ["scope", "name"],
            registry=registry,
        )
        self._requests = RequestMetrics(registry)
        manager.on("model-loaded", self._count_load)
        manager.on("model-switched", self._count_switch)
        manager.observe(self._requests.count)

    async def scrape(self, exchange: Exchange) -> None:
        """Answer with every figure as it is now."""
        self._look_at_models()
        for name in self._manager.engine.providers:
            self._breakers.labels(Scope.PROVIDER, name).set(0)
        for breaker in self._manager.breakers():
            self._breakers.labels(breaker.scope, breaker.name).set(_BREAKER_STATES[breaker.state])
        await exchange.answer(200, generate_latest(self.registry), CONTENT_TYPE_LATEST)

    def _look_at_models(self) -> None:
        loaded = self._manager.loaded_models
        counts = self._manager.statistics().status_counts
        self._loaded.set(len(loaded))
        self._waiting.set(self._manager.engine.waiting)
        for status in ModelStatus:
            self._models.labels(status.value).set(counts.get(status.value, 0))
        self._in_flight.clear()
        self._memory.clear()
        for active in loaded:
            self._in_flight.labels(active.key).set(active.in_flight)
            if active.memory_bytes is not None:
                self._memory.labels(active.key).set(active.memory_bytes)

    def _count_load(self, event: Event) -> None:
        model = event.data.get("model")
        if isinstance(model, ModelInfo):
            self._loads.labels(model.provider, model.id).inc()

    def _count_switch(self, _: Event) -> None:
        self._switches.inc()
