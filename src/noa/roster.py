"""The models in use, as others see them: the loaded ones, and the one that is current wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from noa.announcer import Announcer
from noa.errors import AIProviderError, ModelNotFoundError
from noa.lifecycle.aliases import CURRENT
from noa.lifecycle.scheduler import Scheduler
from noa.lifecycle.slots import SlotView
from noa.models import ActiveModel, ModelInfo, ModelStatus, split_key
from noa.registry import Registry
from noa.resident_memory import ResidentMemory
from noa.runtime.protocol import EngineProcess

_SERVING: Final = frozenset({ModelStatus.LOADED, ModelStatus.DRAINING})


class Roster:
    """Puts together what the scheduler, the registry and the processes know of a model.

    ``process`` is the process of a key, if it has one; ``absence`` says what is wrong with the model that an alias
    means, if it is not there now.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        registry: Registry,
        announcer: Announcer,
        memory: ResidentMemory,
        *,
        process: Callable[[str], EngineProcess | None],
        absence: Callable[[str], AIProviderError | None],
    ) -> None:
        self._scheduler = scheduler
        self._registry = registry
        self._announcer = announcer
        self._memory = memory
        self._process = process
        self._absence = absence

    def loaded(self) -> list[ActiveModel]:
        """The loaded models (those that drain included), oldest first."""
        return [self._of(view) for view in self._scheduler.residents() if view.status in _SERVING]

    def current(self) -> ActiveModel | None:
        """The model that ``current`` means, loaded or not; ``None`` only if it means none.

        One that is not there now, because its file is gone or its provider does not list it, is unloaded, and its
        ``error`` says so.
        """
        key = self._scheduler.aliases.get(CURRENT)
        if key is None:
            return None
        absence = self._absence(CURRENT)
        view = self._scheduler.view(key)
        if view is not None and absence is None:
            return self._of(view)
        return ActiveModel(
            key=key,
            model=self._facts(key),
            loaded_at=None,
            performance_metrics=self._registry.figures(key).metrics,
            status=ModelStatus.UNLOADED,
            error=absence.message if absence else None,
        )

    def _of(self, view: SlotView) -> ActiveModel:
        metrics = self._registry.figures(view.key).metrics
        process = self._process(view.key)
        spec = process.spec if process else None
        return ActiveModel(
            key=view.key,
            model=self._facts(view.key),
            loaded_at=self._announcer.loaded_at(view.key) if view.status in _SERVING else None,
            total_inferences=metrics.total_inferences if metrics else 0,
            performance_metrics=metrics,
            status=view.status,
            in_flight=view.in_flight,
            pinned=view.options.pin,
            ttl_s=view.options.ttl_s,
            pid=process.pid if process else None,
            memory_bytes=self._memory.of(process) if process else None,
            context_size=spec.context_size if spec else None,
            slots=spec.slots if spec else None,
            threads=spec.threads if spec else None,
            error=view.error.message if view.error else None,
        )

    def _facts(self, key: str) -> ModelInfo:
        """What is known of it, also when its provider lists it no longer."""
        try:
            return self._registry.last_offer(key).model
        except ModelNotFoundError:
            provider, model_id = split_key(key)
            return ModelInfo(id=model_id, name=model_id, provider=provider)
