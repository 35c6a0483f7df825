"""Managers over providers and processes that are values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from noa.config import Configuration, ProviderConfig
from noa.events import Event
from noa.manager import ModelManager
from noa.providers.factory import ProviderFactory
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeRuntime

PARROT, OWL, WREN = "fake:parrot", "fake:owl", "fake:wren"


def birds(*, owned: bool = False, **options: Any) -> FakeProvider:
    return FakeProvider([FakeModel(id=name, owned=owned) for name in ("parrot", "owl", "wren")], **options)


def manager_over(
    *providers: FakeProvider,
    runtime: FakeRuntime | None = None,
    path: Path | None = None,
    default_model: str | None = None,
    **options: Any,
) -> ModelManager:
    factory = ProviderFactory()
    for provider in providers:
        factory.register(provider.name, lambda _config, provider=provider: provider)  # type: ignore[misc]
    configuration = Configuration(
        home=path.parent if path else Path("/nowhere"),
        providers=tuple(ProviderConfig(type=each.name, default_model=default_model) for each in providers),
    )
    return ModelManager(factory, configuration, runtime=runtime or FakeRuntime(), persistence_path=path, **options)


@asynccontextmanager
async def watched(manager: ModelManager) -> AsyncIterator[list[Event]]:
    """A manager that runs, and its events from the first on."""
    events: list[Event] = []
    manager.on("*", events.append)
    async with manager:
        yield events


def names(events: list[Event]) -> list[str]:
    return [event.type for event in events]
