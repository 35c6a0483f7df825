"""The quick start's troubleshooting. ``noa doctor`` asks most of it by itself.

OPENAI_API_KEY=… python examples/troubleshooting.py
"""

import asyncio
import os
import sys
from pathlib import Path

from noa import AIProviderError, ConfigurationManager, Event, ModelManager, ProviderType


async def model_not_loading(manager: ModelManager, key: str) -> None:
    """Block 15: hear why, and look at the provider's configuration and key."""

    def tell(event: Event) -> None:
        print("Failed to load model:", event.data["key"], file=sys.stderr)
        print("Error:", event.data["error"], file=sys.stderr)

    manager.on("model-load-error", tell)
    try:
        await manager.load_model(key)
    except AIProviderError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)  # says what to do

    provider_config = manager.configuration.provider_config(ProviderType.OPENAI)
    print("Provider config:", provider_config)  # the key is a Secret and does not show
    if provider_config is None or not provider_config.is_set_up:
        print("OPENAI_API_KEY is not set", file=sys.stderr)
    for report in await manager.discover_models():
        print(report.provider, "up" if report.up else f"down: {report.error}")


async def performance_degradation(manager: ModelManager) -> None:
    """Block 16: measure what is loaded anew."""
    for model in manager.loaded_models:
        metrics = await manager.profile_model(model.key, 2, max_tokens=16)
        print(f"{model.key}: {metrics.average_latency} ms, success rate {metrics.success_rate}")

    stats = manager.statistics()
    print("Total inferences:", stats.total_inferences)
    print("Loaded models:", stats.loaded_models)


async def state_not_persisting(manager: ModelManager) -> None:
    """Block 17: write it now, and see where that is. Every change is on disk anyway before its caller is told."""
    path: Path | None = await manager.save_state()
    if path is None:
        print("The state is in memory: set MODEL_MANAGER_PERSISTENCE_PATH, or give persistence_path.")
    elif os.access(path.parent, os.W_OK):
        print("Persistence path writable:", path.name)
    else:
        print("Cannot write to persistence path:", path, file=sys.stderr)


async def main() -> None:
    """All three problems."""
    configuration = ConfigurationManager.from_environment()
    async with ModelManager(configuration=configuration) as manager:
        await manager.load_model("openai:gpt-4")
        await model_not_loading(manager, "openai:no-such-model")
        await performance_degradation(manager)
        await state_not_persisting(manager)


if __name__ == "__main__":
    asyncio.run(main())
