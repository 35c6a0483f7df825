"""What models can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from noa import probes
from noa.errors import ValidationError
from noa.manager.questions import Questions
from noa.manager.residency import Residency
from noa.models import ModelCapability, ProbePlan, ProbeResult


class Capabilities(Questions, Residency):
    """Says what models can do, and finds out."""

    def model_capabilities(self, key: str) -> tuple[ModelCapability, ...]:
        """What a model can do, as far as is known. Raises ``ModelNotFoundError``."""
        return self.registry.offer(self.engine.resolve_key(key)).model.capabilities

    def supports_capability(self, key: str, capability: ModelCapability | str) -> bool:
        """Whether a model is known to do it. Raises ``ModelNotFoundError``."""
        return ModelCapability(capability) in self.model_capabilities(key)

    async def detect_capabilities(self, key: str, *, probe: bool = False) -> tuple[ModelCapability, ...]:
        """Ask the model's provider anew what it can do; with ``probe``, also the model itself, as ``probe_model``."""
        key = self.engine.resolve_key(key)
        await self.discover_models()
        if probe:
            await self.probe_model(key)
        return self.model_capabilities(key)

    async def probe_model(
        self, key: str, capabilities: Iterable[ModelCapability | str] | None = None
    ) -> Sequence[ProbeResult]:
        """Find out by real requests what a model can do: one small one for each capability, by default for all.

        They cost what requests cost; ``plan_probe`` says how much at most. What they show goes before what the provider
        declares, is kept, and ``capability-contradicted`` tells where it differs. A failure to reach the model shows
        nothing.
        """
        return await self._open.prober.probe(self.engine.resolve_key(key), _capabilities(capabilities))

    def plan_probe(self, key: str, capabilities: Iterable[ModelCapability | str] | None = None) -> ProbePlan:
        """What probing would take and cost at most. Nothing is asked of the model."""
        key = self.engine.resolve_key(key)
        return probes.plan(key, self.registry.offer(key).model.price, _capabilities(capabilities))


def _capabilities(given: Iterable[ModelCapability | str] | None) -> tuple[ModelCapability, ...] | None:
    try:
        return None if given is None else tuple(ModelCapability(each) for each in given)
    except ValueError:
        raise ValidationError(f"A capability is one of {', '.join(ModelCapability)}.") from None
