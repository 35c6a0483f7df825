"""The quick start in Python, block by block.

    OPENAI_API_KEY=… python examples/quickstart.py

It asks for the models gpt-4 and gpt-3.5-turbo of the provider openai; OPENAI_BASE_URL may name any service that speaks
OpenAI's API. ``docs/from-typescript.md`` says which block of the TypeScript quick start is which function here.
"""

import asyncio

from noa import (
    ConfigurationManager,
    EnhancedModelManager,
    ModelCapability,
    ModelManager,
    ProviderFactory,
    ProviderType,
)


async def basic_usage() -> None:
    """Block 3: a manager, a model loaded, and what is in use."""
    factory = ProviderFactory()
    config = ConfigurationManager.from_environment("AI_")

    manager = EnhancedModelManager(
        factory,
        config,
        enable_persistence=True,
        enable_performance_tracking=True,
        max_loaded_models=5,
    )
    await manager.initialize()  # discovers models, restores state
    try:
        provider_config = config.provider_config(ProviderType.OPENAI)
        assert provider_config is not None, "set OPENAI_API_KEY"
        model_key = await manager.load_model(provider_config, "gpt-4", warmup=True)
        print(f"Loaded model: {model_key}")

        current = manager.current_model
        print("Active model:", current and current.model.name)

        loaded = manager.loaded_models
        print(f"{len(loaded)} models loaded")
    finally:
        await manager.destroy()


async def load_and_switch(manager: ModelManager) -> None:
    """Block 5: the same as the three requests of the quick start."""
    await manager.load_model("openai:gpt-4")
    result = await manager.switch_model("openai:gpt-3.5-turbo", reason="cheaper")
    print(f"Switched from {result.previous_model} to {result.current_model}")
    print("Current model:", manager.current_model and manager.current_model.key)


async def list_and_search(manager: ModelManager) -> None:
    """Block 6: what there is, what is loaded, and what fits."""
    print("All:", [model.key for model in manager.registry.models()])
    print("Loaded:", [model.key for model in manager.loaded_models])
    print("OpenAI's:", [model.key for model in manager.registry.search(provider="openai")])
    chat = manager.registry.models_by_capability(ModelCapability.CHAT_COMPLETION)
    print("For conversations:", [model.key for model in chat])


async def performance_profiling(manager: ModelManager) -> None:
    """Block 7: real requests, measured."""
    metrics = await manager.profile_model("openai:gpt-4", test_count=3, max_tokens=16)
    print(f"{metrics.average_latency:.1f} ms, success rate {metrics.success_rate}")
    print("Capabilities:", ", ".join(manager.model_capabilities("openai:gpt-4")))
    print(manager.statistics())


async def conversation(manager: ModelManager) -> None:
    """What the quick start leaves to your inference logic."""
    reply = await manager.chat([{"role": "user", "content": "Say hello."}], max_tokens=60)  # by the current model
    print(reply.text)
    async with manager.use("openai:gpt-4") as model:  # a lease: nothing evicts it
        async for piece in model.stream("Count to five.", max_tokens=60):
            print(piece, end="")
    print()


async def main() -> None:
    """Every block, one after the other."""
    await basic_usage()
    async with ModelManager.from_environment() as manager:
        await load_and_switch(manager)
        await list_and_search(manager)
        await performance_profiling(manager)
        await conversation(manager)


if __name__ == "__main__":
    asyncio.run(main())
