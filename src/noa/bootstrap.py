"""From a configuration to a running engine: the only file that names concrete classes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from noa.alias_book import AliasBook
from noa.auto_switch import AutoSwitch
from noa.blueprint import Blueprint, look_up_with
from noa.caller_keys import CallerKeys
from noa.catalog import Catalog, services_of
from noa.catalog.refresh import CatalogShelf
from noa.chooser import Chooser
from noa.config import Configuration
from noa.engine import Engine
from noa.errors import AIProviderError
from noa.events import EventBus
from noa.failover import Failover
from noa.inference import Inference
from noa.lifecycle.scheduler import Scheduler
from noa.probing import Prober
from noa.providers.factory import ProviderFactory
from noa.providers.protocol import Provider
from noa.refit import Refit
from noa.routing import Routing
from noa.runtime.child import ChildRuntime
from noa.runtime.hardware import read_hardware
from noa.runtime.protocol import Runtime
from noa.selection.auto_switch import Rules
from noa.splits import Splits
from noa.state import SavedState
from noa.storage.snapshot import read_snapshot, write_snapshot
from noa.storage.sqlite import SqliteStateStore
from noa.storage.usage import SqliteUsageStore
from noa.tracing import open_tracing

logger = logging.getLogger(__name__)

#: How often live figures are written (a crash loses what came after), and what engines take of memory is read.
KEEP_FIGURES_S = 2.0
#: How many requests of earlier runs are read back into the histories.
REMEMBERED_REQUESTS = 2000


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where state is kept. All ``None``: in memory."""

    state_path: Path | None = None
    usage_path: Path | None = None
    snapshot_path: Path | None = None

    @classmethod
    def of(cls, configuration: Configuration) -> Place:
        """Where this configuration keeps it."""
        return cls(
            state_path=configuration.state_path,
            usage_path=configuration.usage_path,
            snapshot_path=configuration.snapshot_path,
        )


class House:
    """Everything that was built, and how it is taken down again."""

    def __init__(
        self,
        *,
        engine: Engine,
        inference: Inference,
        aliases: AliasBook,
        prober: Prober,
        chooser: Chooser,
        splits: Splits,
        auto_switch: AutoSwitch,
        caller_keys: CallerKeys,
        refit: Refit,
        events: EventBus,
        state: SqliteStateStore,
        usage: SqliteUsageStore,
        place: Place,
    ) -> None:
        self.engine = engine
        self.inference = inference
        self.aliases = aliases
        self.prober = prober
        self.chooser = chooser
        self.splits = splits
        self.auto_switch = auto_switch
        self.caller_keys = caller_keys
        self.refit = refit
        self.events = events
        self.state = state
        self.usage = usage
        self.place = place
        self._keeping: asyncio.Task[None] | None = None

    async def keep_figures(self) -> None:
        """Read the histories of earlier runs, and write the figures down every few seconds from now on.

        A crash costs no more than what came in between.
        """
        served = await self.usage.requests(limit=REMEMBERED_REQUESTS)
        self.inference.figures.remember(reversed(served))
        self.chooser.remember(reversed(served))
        saved = await self.state.read()
        self.splits.restore(saved.splits)
        self.caller_keys.restore(saved.caller_keys)
        self._keeping = asyncio.get_running_loop().create_task(self._keep_figures())

    async def _keep_figures(self) -> None:
        while True:
            await asyncio.sleep(KEEP_FIGURES_S)
            await self.engine.look_at_memory()
            try:
                await self.engine.keep_usage()
                await self.caller_keys.keep()
            except AIProviderError as error:
                logger.warning("the figures could not be written: %s", error.message)

    async def save(self) -> Path | None:
        """Write every figure down, and the readable snapshot if one was asked for. Says where the state is."""
        await self.engine.keep_usage()
        await self.usage.flush()
        return await self._write_snapshot() or self.place.state_path

    async def _write_snapshot(self) -> Path | None:
        path = self.place.snapshot_path
        if path is not None:
            await asyncio.to_thread(write_snapshot, path, await self.state.read())
        return path

    async def aclose(self) -> None:
        """Save, end every process, and let go of the state; each of them even if what comes before it fails."""
        async with AsyncExitStack() as last_first:
            last_first.push_async_callback(self.state.aclose)
            last_first.push_async_callback(self.usage.aclose)
            last_first.push_async_callback(self._write_snapshot)
            last_first.push_async_callback(self.splits.settle)
            last_first.push_async_callback(self.events.aclose)
            if self.inference.tracing is not None:
                last_first.push_async_callback(self.inference.tracing.aclose)
            last_first.push_async_callback(self.engine.aclose)
            last_first.push_async_callback(self.auto_switch.aclose)
            last_first.push_async_callback(self.caller_keys.keep)
            last_first.push_async_callback(self.engine.keep_usage)
            if self._keeping is not None:
                self._keeping.cancel()
                await asyncio.gather(self._keeping, return_exceptions=True)


async def build(
    configuration: Configuration,
    place: Place,
    *,
    factory: ProviderFactory | None = None,
    runtime: Runtime | None = None,
) -> House:
    """Open the state and build everything on it. Nothing is discovered or loaded yet; ``engine.start`` does that.

    Raises ``StateInUseError`` if another manager holds the state, ``ConfigurationError`` and ``StorageError`` for a
    state that cannot be used.
    """
    async with AsyncExitStack() as opened:
        state = await SqliteStateStore.open(place.state_path)
        opened.push_async_callback(state.aclose)
        await _restore_snapshot(state, place)
        usage = await SqliteUsageStore.open(place.usage_path)
        opened.push_async_callback(usage.aclose)
        events = EventBus()
        hardware = read_hardware()
        blueprint = Blueprint.of(configuration, hardware)
        catalog = Catalog(CatalogShelf(configuration.catalog_dir).current_path, services_of(configuration.providers))
        factory = factory or ProviderFactory()
        scheduler = Scheduler(blueprint.room)
        engine = Engine(
            scheduler=scheduler,
            providers=_providers(configuration, factory),
            runtime=runtime or ChildRuntime(llama_server=configuration.llama_server),
            state=state,
            events=events,
            settings=blueprint.engine,
            lookup=look_up_with(catalog, configuration),
        )
        failover = Failover(blueprint.failover, events)
        inference = Inference(engine, usage, events, failover, track=configuration.enable_performance_tracking)
        aliases = AliasBook(engine, state, blueprint.engine.providers)
        prober = Prober(engine, inference, state, events)
        chooser = Chooser(
            engine.registry,
            scheduler.view_of_begun,
            failover.trouble,
            policies=blueprint.policies,
            explore=blueprint.explore,
        )
        chooser.watch(events)
        splits = Splits(engine, aliases, state, events)
        routing = Routing(chooser, splits)
        inference.tracing = open_tracing(configuration.otlp_endpoint)
        inference.route_by(routing.line_up)
        inference.observe(routing.observe)
        opened.pop_all()
    for damaged in (state.set_aside, usage.set_aside):
        if damaged is not None:
            events.publish("state-set-aside", {"path": str(damaged)})
    return House(
        engine=engine,
        inference=inference,
        aliases=aliases,
        prober=prober,
        chooser=chooser,
        splits=splits,
        auto_switch=_auto_switch(configuration, engine, aliases, inference),
        caller_keys=CallerKeys(state),
        refit=Refit(engine, failover, aliases, chooser, catalog, factory=factory, hardware=hardware),
        events=events,
        state=state,
        usage=usage,
        place=place,
    )


async def _restore_snapshot(state: SqliteStateStore, place: Place) -> None:
    """An empty database takes what the snapshot says."""
    if place.snapshot_path is None or await state.read() != SavedState():
        return
    snapshot = read_snapshot(place.snapshot_path)
    if snapshot is not None:
        await state.restore(snapshot)
        logger.info("restored the state from %s", place.snapshot_path)


def _providers(configuration: Configuration, factory: ProviderFactory) -> Mapping[str, Provider]:
    folders = configuration.model_folders
    return {
        config.name: factory.create(config, folders=folders) for config in configuration.providers if config.is_set_up
    }


def _auto_switch(configuration: Configuration, engine: Engine, aliases: AliasBook, inference: Inference) -> AutoSwitch:
    """What watches the current model, told of every request only where it is switched on."""
    rules = Rules(threshold=configuration.auto_switch_threshold)
    auto_switch = AutoSwitch(engine, aliases, inference.failover.trouble, rules)
    if configuration.enable_auto_switch:
        inference.observe(auto_switch.observe)
    return auto_switch
