"""``GET /metrics``: the quick start's four figures, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelInfo
from noa.selection.breaker import BreakerState
from noa.selection.breakers import Scope
from noa.server.exchange import Exchange

#: From a cached embedding to a long answer of a large model on a small machine, in seconds.
LATENCY_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)

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
    """Counts what the manager's events tell, in a registry of its own."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._registry = Figures()
        self._loads = Counter("model_loads_total", "Models loaded.", ["provider", "model"], registry=self._registry)
        self._switches = Counter("model_switches_total", "Switches of models.", registry=self._registry)
        self._loaded = Gauge("models_loaded", "Models that are loaded now.", registry=self._registry)
        self._latency = Histogram(
            "inference_latency_seconds",
            "End-to-end latency of the inferences that succeeded.",
            ["model"],
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )
        self._latency_of: dict[str, Histogram] = {}
        self._breakers = Gauge(
            "noa_breaker_state",
            "Whether requests go there: 0 they do (closed), 1 a few to try it (half-open), 2 none do (open).",
            ["scope", "name"],
            registry=self._registry,
        )
        manager.on("model-loaded", self._count_load)
        manager.on("model-switched", self._count_switch)
        manager.on("inference-complete", self._count_inference)

    async def scrape(self, exchange: Exchange) -> None:
        """Answer with every figure as it is now."""
        self._loaded.set(len(self._manager.loaded_models))
        for name in self._manager.engine.providers:
            self._breakers.labels(Scope.PROVIDER, name).set(0)
        for breaker in self._manager.breakers():
            self._breakers.labels(breaker.scope, breaker.name).set(_BREAKER_STATES[breaker.state])
        await exchange.answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)

    def _count_load(self, event: Event) -> None:
        model = event.data.get("model")
        if isinstance(model, ModelInfo):
            self._loads.labels(model.provider, model.id).inc()

    def _count_switch(self, _: Event) -> None:
        self._switches.inc()

    def _count_inference(self, event: Event) -> None:
        key, latency_ms = event.data.get("model_key"), event.data.get("latency")
        if not (isinstance(key, str) and isinstance(latency_ms, float) and event.data.get("success")):
            return
        if key not in self._latency_of:
            self._latency_of[key] = self._latency.labels(key)
        self._latency_of[key].observe(latency_ms / 1000)
