"""``GET /metrics``: the quick start's four figures, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelInfo
from noa.server.exchange import Exchange

#: From a cached embedding to a long answer of a large model on a small machine, in seconds.
LATENCY_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """Counts what the manager's events tell, in a registry of its own."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager
        self._registry = CollectorRegistry()
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
        manager.on("model-loaded", self._count_load)
        manager.on("model-switched", self._count_switch)
        manager.on("inference-complete", self._count_inference)

    async def scrape(self, exchange: Exchange) -> None:
        """Answer with every figure as it is now."""
        self._loaded.set(len(self._manager.loaded_models))
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
