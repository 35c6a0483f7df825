"""How an event is dressed before it is told: with what whoever listens would ask for next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from noa.events import EventBus
from noa.registry import Registry


class Announcer:
    """Publishes events of models with the facts of the model, and remembers when each was loaded."""

    def __init__(self, events: EventBus, registry: Registry) -> None:
        self._events = events
        self._registry = registry
        self._loaded_at: dict[str, datetime] = {}

    def publish(self, event_type: str, data: Mapping[str, object]) -> None:
        """Tell whoever listens. What has a ``key`` also gets its ``provider`` and, if it is listed, the ``model``."""
        key = data.get("key")
        if isinstance(key, str):
            facts: dict[str, object] = {"provider": key.partition(":")[0]}
            if key in self._registry:
                facts["model"] = self._registry.offer(key).model
            data = {**facts, **data}
        if event_type == "model-switched":
            data = {**data, "timestamp": datetime.now(UTC)}
        if event_type == "model-loaded" and isinstance(key, str):
            self._loaded_at[key] = datetime.now(UTC)
        self._events.publish(event_type, data)

    def loaded_at(self, key: str) -> datetime | None:
        """When the model was last announced as loaded."""
        return self._loaded_at.get(key)
