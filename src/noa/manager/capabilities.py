"""What models can do."""

from __future__ import annotations

from noa.manager.questions import Questions
from noa.manager.residency import Residency
from noa.models import ModelCapability


class Capabilities(Questions, Residency):
    """Says what models can do, and finds out."""

    def model_capabilities(self, key: str) -> tuple[ModelCapability, ...]:
        """What a model can do, as far as is known. Raises ``ModelNotFoundError``."""
        return self.registry.offer(self.engine.resolve_key(key)).model.capabilities

    def supports_capability(self, key: str, capability: ModelCapability | str) -> bool:
        """Whether a model is known to do it. Raises ``ModelNotFoundError``."""
        return ModelCapability(capability) in self.model_capabilities(key)

    async def detect_capabilities(self, key: str) -> tuple[ModelCapability, ...]:
        """Ask the model's provider anew what it can do."""
        key = self.engine.resolve_key(key)
        await self.discover_models()
        return self.model_capabilities(key)
