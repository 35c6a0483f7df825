"""The quick start's chapter on monitoring: what happens is printed, and counted for Prometheus.

    OPENAI_API_KEY=… python examples/monitoring.py [KEY [OTHER_KEY]]

It loads two models (openai:gpt-4 and openai:gpt-3.5-turbo unless others are named), switches, asks and profiles them.
The figures here are a program's own, for one that has no server. A server shows all of them, and more, at ``/metrics``.
"""

import asyncio
import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from noa import Event, ModelManager


def log_events(manager: ModelManager) -> None:
    """Log important events."""

    def loaded(event: Event) -> None:
        model = event.data["model"]
        print(f"[MODEL] Loaded: {model.name}")
        print(f"[MODEL] Provider: {model.provider}")
        print(f"[MODEL] Capabilities: {', '.join(model.capabilities)}")

    def switched(event: Event) -> None:
        print(f"[MODEL] Switched from {event.data['previous_model']} to {event.data['current_model']}")
        print(f"[MODEL] Reason: {event.data['reason']}")

    def profiled(event: Event) -> None:
        metrics = event.data["metrics"]
        print(f"[PROFILE] Model: {event.data['key']}")
        print(f"[PROFILE] Latency: {metrics.average_latency}ms")
        print(f"[PROFILE] Speed: {metrics.tokens_per_second} tok/s")
        if metrics.success_rate is not None:
            print(f"[PROFILE] Success Rate: {metrics.success_rate * 100}%")

    def failed(event: Event) -> None:
        print(f"Failed to load model: {event.data['key']}")
        print(f"Error: {event.data['error']}")

    manager.on("model-loaded", loaded)
    manager.on("model-switched", switched)
    manager.on("profiling-completed", profiled)
    manager.on("model-load-error", failed)


def count_events(manager: ModelManager, registry: CollectorRegistry) -> None:
    """Prometheus metrics."""
    loads = Counter("model_loads_total", "Total number of model loads", ["provider", "model"], registry=registry)
    switches = Counter("model_switches_total", "Total number of model switches", registry=registry)
    loaded_models = Gauge("models_loaded", "Number of currently loaded models", registry=registry)
    latency = Histogram("inference_latency_seconds", "Inference latency in seconds", ["model"], registry=registry)

    def loaded(event: Event) -> None:
        model = event.data["model"]
        loads.labels(model.provider, model.id).inc()
        loaded_models.set(len(manager.loaded_models))

    def unloaded(_: Event) -> None:
        loaded_models.set(len(manager.loaded_models))

    def switched(_: Event) -> None:
        switches.inc()

    def complete(event: Event) -> None:
        # Noa has counted this request in the model's figures already. ``manager.record_inference`` is for those that
        # a program makes by itself, past Noa.
        latency.labels(event.data["model_key"]).observe(event.data["latency"] / 1000)

    manager.on("model-loaded", loaded)
    manager.on("model-unloaded", unloaded)
    manager.on("model-switched", switched)
    manager.on("inference-complete", complete)


async def main(key: str = "openai:gpt-4", other: str = "openai:gpt-3.5-turbo") -> None:
    """Have something happen, and show what was counted."""
    registry = CollectorRegistry()
    async with ModelManager.from_environment() as manager:
        log_events(manager)
        count_events(manager, registry)
        await manager.load_model(key)
        await manager.switch_model(other, reason="to have something to watch")
        reply = await manager.chat([{"role": "user", "content": "Say hello."}], max_tokens=16)
        print(f"{other} says: {reply.text}")
        await manager.profile_model(other, test_count=2, max_tokens=16)

        statistics = manager.statistics()
        print(f"Total inferences: {statistics.total_inferences}")
        print(f"Loaded models: {statistics.loaded_models}")
    print(generate_latest(registry).decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
