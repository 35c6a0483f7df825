"""The quick start's patterns 2 and 3; pattern 1 is the application in ``fastapi_app/``.

OPENAI_API_KEY=… python examples/patterns.py
"""

import asyncio

from noa import ModelCapability, ModelManager, PerformanceMetrics


class ModelSelector:
    """Block 9, pattern 2: the best measured model for a task, by a score of one's own."""

    def __init__(self, manager: ModelManager) -> None:
        self.manager = manager

    async def select_best_for_task(self, task: str) -> str:
        """The key of the best model, which is loaded then."""
        capability = self.capability_of(task)
        measured = [
            (self.score(model.performance_metrics), model.key)
            for model in self.manager.registry.models_by_capability(capability)
            if model.performance_metrics
        ]
        if not measured:
            raise LookupError(f"No model found for task: {task}")
        _, key = max(measured)
        if key not in [model.key for model in self.manager.loaded_models]:
            await self.manager.load_model(key)
        return key

    @staticmethod
    def capability_of(task: str) -> ModelCapability:
        """What a model must be able to do for a task."""
        capabilities = {
            "chat": ModelCapability.CHAT_COMPLETION,
            "embedding": ModelCapability.EMBEDDINGS,
            "vision": ModelCapability.VISION,
        }
        return capabilities.get(task, ModelCapability.TEXT_GENERATION)

    @staticmethod
    def score(metrics: PerformanceMetrics) -> float:
        """From 0 to 1. What was not measured counts as nothing here."""
        speed = min((metrics.tokens_per_second or 0) / 100, 1)
        return (metrics.success_rate or 0) * 0.5 + speed * 0.5


async def best_model(manager: ModelManager) -> None:
    """Block 9, its use; and what Noa does for the same wish, without code."""
    for key in ("openai:gpt-4", "openai:gpt-3.5-turbo"):
        await manager.load_model(key)
        await manager.profile_model(key, test_count=2, max_tokens=16)
    best_chat_model = await ModelSelector(manager).select_best_for_task("chat")
    await manager.switch_model(best_chat_model)

    decision = await manager.select(task="chat", prefer="speed")
    print(decision.chosen, decision.reason)
    print((await manager.chat("Say hello.", model="auto:speed", max_tokens=60)).text)


async def select_cost_effective_model(
    manager: ModelManager, max_budget_per_request: float, estimated_tokens: int
) -> str:
    """Block 10, pattern 3: an affordable model that has proven itself, or else the cheapest one. Prices in USD."""
    affordable: list[tuple[float, str]] = []
    for model in manager.registry.models_by_capability(ModelCapability.CHAT_COMPLETION):
        if model.price and model.price.output is not None:  # per million tokens; unknown is None, and never free
            cost = model.price.output / 1_000_000 * estimated_tokens
            if cost <= max_budget_per_request:
                affordable.append((cost, model.key))
    if not affordable:
        raise LookupError(f"No model answers for {max_budget_per_request} USD.")

    affordable.sort()
    for _, key in affordable:
        metrics = manager.performance_metrics(key)
        if metrics and metrics.success_rate and metrics.success_rate > 0.95:
            return key
    return affordable[0][1]


async def cheapest_model(manager: ModelManager) -> None:
    """Block 10, its use; and what Noa does for the same wish, without code."""
    print(await select_cost_effective_model(manager, max_budget_per_request=0.05, estimated_tokens=500))
    decision = await manager.select(task="chat", prefer="cost", max_cost=0.05, max_tokens=500)
    print(decision.chosen, decision.reason)


async def main() -> None:
    """Both patterns."""
    async with ModelManager.from_environment() as manager:
        await best_model(manager)
        await cheapest_model(manager)


if __name__ == "__main__":
    asyncio.run(main())
