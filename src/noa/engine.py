"""The one writer: steps the scheduler, performs its effects, records what happened.

Performing an effect never waits: starts, stops and writes are tasks whose completions come back as inputs that carry
the slot's generation. Everything runs on one event loop, so there is no lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from noa.absences import Absences
from noa.announcer import Announcer
from noa.background import Background
from noa.discovery import DISCOVERY_TIMEOUT_S, LOOK_PATIENCE_S, Discovery, Found, ProviderReport
from noa.engine_settings import EngineSettings
from noa.errors import AIProviderError, ModelNotFoundError, ModelUnavailableError, StorageError
from noa.events import EventBus
from noa.facts import Lookup, nothing_known
from noa.launcher import Launcher
from noa.lease import Callers, Lease
from noa.lifecycle import messages as m
from noa.lifecycle.aliases import CURRENT
from noa.lifecycle.scheduler import Scheduler
from noa.models import ActiveModel, LoadOptions, LoadPlan, ModelStatus
from noa.naming import Naming
from noa.provider_pool import ProviderPool
from noa.providers.protocol import Health, Locality, Provider
from noa.registry import Registry
from noa.resident_memory import ResidentMemory
from noa.roster import Roster
from noa.runtime.protocol import EngineLog, Runtime
from noa.sizes import Sizes
from noa.state import ProcessGone
from noa.storage.protocol import StateStore
from noa.turnover import Turnover

logger = logging.getLogger(__name__)

#: How long a request waits for its model, and a change for its turn, where the caller sets no limit.
DEFAULT_WAIT_S = 300.0
#: How long an unload or a switch waits for requests that still run.
DEFAULT_DRAIN_S = 60.0


class Engine:
    """Owns the scheduler, and everything that is started, stopped and written on its word."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        providers: Mapping[str, Provider],
        runtime: Runtime,
        state: StateStore,
        events: EventBus,
        settings: EngineSettings,
        lookup: Lookup = nothing_known,
    ) -> None:
        self.registry = Registry(self._status_of, lambda: scheduler.begun, lookup)
        self._announcer = Announcer(events, self.registry)
        self._scheduler = scheduler
        self._providers = pool = ProviderPool(providers)
        self._runtime = runtime
        self._state = state
        self._sizes = Sizes(settings.shape, settings.build)
        self._discovery = Discovery(pool, self.registry, self._take_in)
        self._naming = Naming(
            self.registry,
            scheduler,
            providers=settings.providers,
            configured=pool,
            advice=settings.advice,
            failure=self._discovery.failure,
        )
        self._launcher = Launcher(
            providers=pool,
            runtime=runtime,
            registry=self.registry,
            shape=settings.shape,
            sizes=self._sizes,
            journal=state.write,
            record=state.write,
            report=self._submit,
            publish=self._announcer.publish,
        )
        #: Exchanges providers while everything runs.
        self.turnover = Turnover(
            providers=pool,
            discovery=self._discovery,
            launcher=self._launcher,
            naming=self._naming,
            residents=scheduler.residents,
            submit=self._submit,
            events=events,
        )
        self._memory = ResidentMemory(self._launcher.running)
        self._roster = Roster(
            scheduler,
            self.registry,
            self._announcer,
            self._memory,
            process=self._launcher.process,
            absence=self._naming.absence,
        )
        self._events = events
        self._settings = settings
        self._callers = Callers()
        self._absences = Absences(self._announcer, self._naming.absence)
        self._background = Background()
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        self._closing = False

    # Life.

    async def start(self, *, load_default: bool) -> None:
        """Read what was kept, end what a predecessor left, discover, and load again what was loaded.

        Loading goes on after this returns; whoever asks for a model meanwhile waits for it.
        """
        saved = await self._state.read()
        settled = await self._runtime.reap(saved.processes)
        if settled:
            await self._state.write(*(ProcessGone(nonce=record.nonce) for record in settled))
        self.registry.restore(saved.usage)
        self.registry.prove(saved.probes)
        self._sizes.restore(saved.sizes)
        aliases = {record.name: record.key for record in saved.aliases if record.key is not None}
        self._submit(m.Restored(aliases=aliases, kept={kept.key: kept.options for kept in saved.models}))
        await self._discovery.start()
        self._absences.look(self.aliases.items())
        self._started = True
        for kept in sorted(saved.models, key=lambda each: each.at):
            self._load_in_background(kept.key, kept.options)
        if load_default and not saved.models and CURRENT not in aliases and self._settings.default_model:
            self._load_in_background(self._settings.default_model, LoadOptions())
        if saved.models or aliases:
            self._events.publish("state-restored", {"models": len(saved.models), "aliases": aliases})

    def _load_in_background(self, name: str, options: LoadOptions) -> None:
        async def load() -> None:
            try:
                await self.load(await self.find(name, patience_s=DISCOVERY_TIMEOUT_S), options)
            except AIProviderError as error:
                logger.warning("%s was not loaded: %s", name, error.message)

        self._background.spawn(load())

    async def aclose(self) -> None:
        """Refuse whoever waits and end every process. What was loaded stays noted, and is loaded again next time."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._callers.refuse_all(ModelUnavailableError("Noa is shutting down.", retry_after_s=5))
        await self._background.aclose()
        await self._discovery.aclose()
        await self._launcher.aclose()
        await self._providers.aclose()

    # What others ask.

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The providers that are set up, by name."""
        return self._providers

    @property
    def aliases(self) -> Mapping[str, str]:
        """What each alias means now."""
        return self._scheduler.aliases

    @property
    def current_key(self) -> str | None:
        """What ``current`` means now."""
        return self._scheduler.aliases.get(CURRENT)

    @property
    def waiting(self) -> int:
        """How many requests and changes wait for a model."""
        return self._scheduler.waiting

    @property
    def reports(self) -> Mapping[str, ProviderReport]:
        """What the last discovery found, by provider."""
        return self._discovery.reports

    def resolve(self, name: str | None) -> str:
        """The alias or key that a name means; raises what is wrong with it."""
        return self._naming.resolve(name)

    def resolve_key(self, name: str | None) -> str:
        """The key that a name means now. Raises ``ModelUnavailableError`` if it is an alias of nothing."""
        return self._naming.resolve_key(name)

    def status(self, key: str) -> ModelStatus:
        """Where a model stands."""
        return self._status_of(key)[0]

    def _status_of(self, key: str) -> tuple[ModelStatus, str | None]:
        view = self._scheduler.view(key)
        if view is None:
            return ModelStatus.AVAILABLE, None
        return view.status, view.error.message if view.error else None

    def active(self) -> list[ActiveModel]:
        """The loaded models (those that drain included), oldest first."""
        return self._roster.loaded()

    def current(self) -> ActiveModel | None:
        """The model that ``current`` means, loaded or not; ``None`` only if it means none."""
        return self._roster.current()

    def memory_bytes(self, key: str) -> int | None:
        """Resident memory of a model's process, read now, which takes a millisecond; ``None`` without one."""
        process = self._launcher.process(key)
        return process.memory_bytes() if process else None

    def log(self, key: str) -> EngineLog | None:
        """What a model's last process wrote, also when it is gone; ``None`` if there was none."""
        return self._runtime.log(key)

    # What others want done.

    async def discover(self) -> list[ProviderReport]:
        """Ask every provider at once what it has. One that is down or slow delays nobody and shows as down."""
        return [each.report for each in await self._discovery.run()]

    async def refresh(self) -> None:
        """Look at the model folders again, unless somebody has just done so; wait for it a moment at most.

        Files come and go unannounced, and whoever has just copied one there expects to see it.
        """
        await self._discovery.look_at_files()

    async def find(self, name: str | None, *, patience_s: float = LOOK_PATIENCE_S) -> str:
        """As ``resolve``, but a name that means nothing is asked for once more: at its provider, or in the folders."""
        try:
            return self._naming.find(name)
        except AIProviderError as error:
            if error.provider is not None and error.provider in self._providers:
                await self._discovery.look_at(error.provider, patience_s)
            elif isinstance(error, ModelNotFoundError):
                await self._discovery.look_at_files(patience_s)
            else:
                raise
        return self._naming.find(name)

    async def find_key(self, name: str | None) -> str:
        """As ``resolve_key``, but a name that means nothing is asked for once more, as ``find`` does."""
        await self.find(name)
        return self.resolve_key(name)

    def _take_in(self, found: Found) -> None:
        for key in found.merged.removed:
            self._submit(m.Gone(key=key))
        for offer in found.offers:
            self._submit(self._sizes.known(self.registry.offer(offer.model.key)))
        for key, options in self._scheduler.kept.items():
            self._sized(key, options)
        for key in found.merged.added:
            self._announcer.publish("model-registered", {"key": key})
        for key in found.merged.updated:
            self._announcer.publish("model-updated", {"key": key})
        if found.report.up:
            data = {"provider": found.report.provider, "models": len(found.offers)}
            self._announcer.publish("provider-discovered", data)
        if self._started:
            self._absences.look(self.aliases.items())

    def _sized(self, key: str, options: LoadOptions) -> None:
        """Tell the scheduler what the model needs with these options."""
        if key in self.registry and (offer := self.registry.offer(key)).locality is Locality.OWNED:
            self._submit(self._sizes.sized(offer, options))

    async def health(self) -> Mapping[str, Health]:
        """Ask every provider at once whether it is well."""
        return await self._discovery.health()

    async def acquire(
        self,
        name: str,
        *,
        hold: bool = False,
        within: int | None = None,
        wait_s: float = DEFAULT_WAIT_S,
        priority: int = 0,
    ) -> Lease:
        """Wait for the model that ``name`` (an alias or a key) means when it is our turn, loading it if need be."""
        number = self._callers.number()
        deadline = self._now() + wait_s
        wish = m.Acquire(waiter=number, name=name, deadline=deadline, priority=priority, hold=hold, within=within)
        answer = await self._ask_scheduler(number, wish)
        assert isinstance(answer, m.Admit)
        return self._callers.lease(number)

    async def load(self, key: str, options: LoadOptions, *, wait_s: float = DEFAULT_WAIT_S) -> None:
        """Have a model loaded and noted; return when both are done. The load goes on if the caller leaves."""
        self._sized(key, options)
        deadline = self._now() + wait_s
        await self.change(lambda number: m.Load(waiter=number, key=key, options=options, deadline=deadline))

    def plan(self, key: str, options: LoadOptions) -> LoadPlan:
        """What a load would take, and whom it would cost their place. Nothing changes. Raises what is wrong with it."""
        offer = self.registry.offer(key)
        need = self._sizes.need(offer, options)
        plan = self._scheduler.plan(key, options, need.size_bytes)
        return plan if plan.needed_bytes is None else msgspec.structs.replace(plan, basis=need.basis)

    async def unload(self, key: str, *, force: bool = False, drain_s: float = DEFAULT_DRAIN_S) -> None:
        """Have a model gone, once its requests are done (``force``: at once, cutting them)."""
        deadline = self._now() + drain_s
        await self.change(lambda number: m.Unload(waiter=number, key=key, deadline=deadline, force=force))

    async def switch(
        self,
        key: str,
        reason: str,
        *,
        alias: str,
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> m.Done:
        """Make an alias mean another model, which is loaded first. Nothing changes if that fails."""
        return await self.change(
            lambda number: m.Switch(
                waiter=number,
                alias=alias,
                key=key,
                reason=reason,
                deadline=self._now() + wait_s,
                options=LoadOptions(),
                expected=expected,
            )
        )

    async def change(self, wish: Callable[[int], m.Input]) -> m.Done:
        """Have something changed; ``wish`` makes the input, which has the number it is given for its waiter."""
        number = self._callers.number()
        answer = await self._ask_scheduler(number, wish(number))
        assert isinstance(answer, m.Done)
        return answer

    async def look_at_memory(self) -> None:
        """Read what every engine takes of memory, for whoever asks in the next seconds."""
        await self._memory.look()

    async def keep_usage(self) -> None:
        """Write down what changed of the models' figures."""
        if not (usage := self.registry.unwritten_usage()):
            return
        try:
            await self._state.write(*usage)
        except BaseException:
            self.registry.write_again(usage)
            raise

    async def _ask_scheduler(self, number: int, wish: m.Input) -> m.Admit | m.Done:
        if self._closing:
            raise ModelUnavailableError("Noa is shutting down.", retry_after_s=5)
        answer = self._callers.wait(number)
        try:
            self._submit(wish)
            return await answer
        except asyncio.CancelledError:
            self._release(number)
            raise
        finally:
            self._callers.wait_no_longer(number)

    def _release(self, number: int) -> None:
        if lease := self._callers.left(number):
            self._providers.give_back(lease.provider)
        if not self._closing:
            self._submit(m.Release(waiter=number))

    # Effects.

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _submit(self, message: m.Input) -> None:
        for effect in self._scheduler.step(self._now(), message):
            self._perform(effect)

    def _perform(self, effect: m.Effect) -> None:
        match effect:
            case m.Admit():
                self._admit(effect)
            case m.Done():
                self._callers.answer(effect.waiter, effect)
            case m.Refuse():
                self._callers.refuse(effect.waiter, effect.error)
            case m.Publish():
                self._announcer.publish(effect.type, effect.data)
            case m.Persist():
                self._background.spawn(self._persist(effect))
            case m.SetTimer():
                self._set_timer(effect.at)
            case m.Start():
                self._launcher.start(effect)
            case m.Stop():
                self._launcher.stop(effect)
            case m.Cut():
                self._callers.cut(effect.waiters)
            case _:
                raise AssertionError(f"an effect without an arm: {effect!r}")

    def _admit(self, effect: m.Admit) -> None:
        process = self._launcher.process(effect.key)
        offer = self.registry.last_offer(effect.key)
        self._callers.admit(
            Lease(
                effect.waiter,
                effect.key,
                effect.generation,
                self._providers.take(offer.model.provider),
                offer.model,
                process.endpoint if process else None,
                self._release,
            )
        )
        self._callers.answer(effect.waiter, effect)

    def _set_timer(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if at is None else loop.call_at(at, self._submit, m.Tick())

    async def _persist(self, effect: m.Persist) -> None:
        try:
            await self._state.write(*effect.changes)
        except AIProviderError as error:
            logger.warning("a change could not be written: %s", error.message)
            self._submit(m.PersistFailed(token=effect.token, error=error))
        except Exception as fault:
            logger.exception("a change could not be written")
            sentence = f"The change could not be written, so it was not made: {fault}"
            self._submit(m.PersistFailed(token=effect.token, error=StorageError(sentence)))
        else:
            self._submit(m.Persisted(token=effect.token))
