"""``ModelManager``: the public face of Noa, for programs and for its own server."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from noa.bootstrap import Place, build
from noa.config import Configuration
from noa.errors import ConfigurationError
from noa.events import Handler
from noa.inference import Observer
from noa.manager.callers import Callers
from noa.manager.capabilities import Capabilities
from noa.manager.choices import Choices
from noa.manager.pointing import Pointing
from noa.manager.profiles import Profiles
from noa.manager.reloading import Reloading
from noa.manager.splitting import Splitting
from noa.manager.sync import SyncDoor
from noa.providers.factory import ProviderFactory
from noa.runtime.protocol import Runtime


class ModelManager(Capabilities, Profiles, Pointing, Splitting, Choices, Callers, Reloading):
    """Finds, loads, switches, measures and serves models, and remembers it all.

    ``configuration`` defaults to what the environment says. State is kept in memory unless ``persistence_path`` names a
    file (one that ends in ``.json`` also gets a readable snapshot; the database stands beside it), or the configuration
    does. ``runtime`` replaces what runs local models, for tests.

    Use it with ``async with``, or call ``initialize`` and ``destroy``. Without asyncio: ``with ModelManager.sync()``.
    """

    sync = SyncDoor()

    def __init__(
        self,
        provider_factory: ProviderFactory | None = None,
        configuration: Configuration | None = None,
        *,
        default_provider: str | None = None,
        auto_load_default: bool | None = None,
        max_loaded_models: int | None = None,
        enable_persistence: bool = True,
        persistence_path: str | Path | None = None,
        enable_performance_tracking: bool | None = None,
        enable_auto_switch: bool | None = None,
        auto_switch_threshold: float | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__()
        self._arguments = {
            "default_provider": default_provider,
            "auto_load_default": auto_load_default,
            "max_loaded_models": max_loaded_models,
            "persistence_path": None if persistence_path is None else Path(persistence_path).absolute(),
            "enable_performance_tracking": enable_performance_tracking,
            "enable_auto_switch": enable_auto_switch,
            "auto_switch_threshold": auto_switch_threshold,
        }
        if configuration is None:
            self.read_by(Configuration.from_environment)
        configuration = configuration or Configuration.from_environment()
        self.configuration = configuration.with_arguments(**self._arguments)
        self._factory = provider_factory
        self._runtime = runtime
        persists = enable_persistence and self.configuration.persistence_path is not None
        self._place = Place.of(self.configuration) if persists else Place()
        self._handlers: list[tuple[str, Handler]] = []
        self._observers: list[Observer] = []

    @classmethod
    def from_environment(cls, prefix: str = "AI_", **options: Any) -> Self:
        """A manager configured by the environment, ``.env`` and ``noa.yaml``; ``options`` as for the constructor."""
        manager = cls(configuration=Configuration.from_environment(prefix), **options)
        manager.read_by(partial(Configuration.from_environment, prefix))
        return manager

    # Life.

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    async def initialize(self) -> None:
        """Restore what was kept, discover what there is, and start to load what was loaded. Twice does nothing more.

        Raises ``StateInUseError`` if another manager holds the state.
        """
        if self._house is not None:
            return
        house = await build(self.configuration, self._place, factory=self._factory, runtime=self._runtime)
        for event_type, handler in self._handlers:
            house.events.on(event_type, handler)
        for observer in self._observers:
            house.inference.observe(observer)
        self._house = house
        try:
            await house.engine.start(load_default=self.configuration.auto_load_default)
        except BaseException:
            self._house = None
            await house.aclose()
            raise
        await house.keep_figures()
        house.events.publish("initialized", {"models": len(house.engine.registry)})

    async def destroy(self) -> None:
        """Save, end every process of ours, and let go of the state. Loaded models are loaded again next time."""
        house, self._house = self._house, None
        if house is not None:
            await house.aclose()

    def persist_at(self, place: Place) -> None:
        """Keep state there. Only before ``initialize``."""
        if self._house is not None:
            raise ConfigurationError("The manager runs already; say where it keeps its state before it starts.")
        self._place = place

    def announce(self, url: str) -> None:
        """Tell whoever else wants the state where we listen."""
        self._open.state.announce(url)

    async def save_state(self) -> Path | None:
        """Write every figure down now (what changes is durable anyway) and say where; ``None`` means in memory."""
        path = await self._open.save()
        self.events.publish("state-saved", {"path": None if path is None else str(path)})
        return path

    # Events.

    def on(self, event_type: str, handler: Handler) -> None:
        """Call ``handler`` with each ``Event`` of this type (``*``: of all). Works before ``initialize`` too."""
        self._handlers.append((event_type, handler))
        if self._house is not None:
            self._house.events.on(event_type, handler)

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` with the record of each inference once it is over, at once. Before ``initialize`` too.

        It is part of the request's way, so it must be quick; whoever takes longer listens to ``inference-complete``.
        """
        self._observers.append(observer)
        if self._house is not None:
            self._house.inference.observe(observer)

    def off(self, event_type: str, handler: Handler) -> None:
        """Stop calling ``handler``."""
        if (event_type, handler) in self._handlers:
            self._handlers.remove((event_type, handler))
        if self._house is not None:
            self._house.events.off(event_type, handler)
