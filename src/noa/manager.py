"""``ModelManager``: the public face of Noa, for programs and for its own server."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from noa.alias_book import Expected
from noa.bootstrap import House, Place, build
from noa.chat import ChatEvent, ChatReply, EmbeddingReply
from noa.config import Configuration, ProviderConfig
from noa.discovery import ProviderReport
from noa.engine import DEFAULT_DRAIN_S, DEFAULT_WAIT_S, Engine
from noa.errors import ConfigurationError, ModelNotFoundError, ValidationError
from noa.events import EventBus, Handler
from noa.inference import Inference
from noa.leased_model import LeasedModel, Messages, ModelUse, chat_request, embedding_request, texts
from noa.measurement.live import ServedRequest
from noa.measurement.profile import ProfileRun, check_test_count, run_profile
from noa.measurement.samples import ProfileMetrics
from noa.models import (
    ActiveModel,
    LoadOptions,
    LoadPlan,
    ModelCapability,
    PerformanceMetrics,
    SwitchResult,
    Value,
    model_key,
)
from noa.providers.factory import ProviderFactory
from noa.registry import Registry
from noa.runtime.protocol import Runtime
from noa.selection.aliases import CURRENT
from noa.selection.rank import best
from noa.state import AliasRecord, ProfileRecord


class Statistics(Value, frozen=True, kw_only=True):
    """Counts over the whole fleet, in the quick start's fields."""

    total_models: int
    loaded_models: int
    current_model: str | None
    total_inferences: int
    provider_counts: dict[str, int]
    capability_counts: dict[str, int]
    status_counts: dict[str, int]


class ModelManager:
    """Finds, loads, switches, measures and serves models, and remembers it all.

    ``configuration`` defaults to what the environment says. State is kept in memory unless ``persistence_path`` names a
    file (one that ends in ``.json`` also gets a readable snapshot; the database stands beside it), or the configuration
    does. ``runtime`` replaces what runs local models, for tests.

    Use it with ``async with``, or call ``initialize`` and ``destroy``.
    """

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
        configuration = configuration or Configuration.from_environment()
        self.configuration = configuration.with_arguments(
            default_provider=default_provider,
            auto_load_default=auto_load_default,
            max_loaded_models=max_loaded_models,
            persistence_path=None if persistence_path is None else Path(persistence_path).absolute(),
            enable_performance_tracking=enable_performance_tracking,
            enable_auto_switch=enable_auto_switch,
            auto_switch_threshold=auto_switch_threshold,
        )
        self._factory = provider_factory
        self._runtime = runtime
        persists = enable_persistence and self.configuration.persistence_path is not None
        self._place = Place.of(self.configuration) if persists else Place()
        self._house: House | None = None
        self._handlers: list[tuple[str, Handler]] = []

    @classmethod
    def from_environment(cls, prefix: str = "AI_", **options: Any) -> Self:
        """A manager configured by the environment, ``.env`` and ``noa.yaml``; ``options`` as for the constructor."""
        return cls(configuration=Configuration.from_environment(prefix), **options)

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

    @property
    def _open(self) -> House:
        if self._house is None:
            raise ConfigurationError("The manager is not running; use “async with”, or await initialize() first.")
        return self._house

    @property
    def engine(self) -> Engine:
        """What carries the manager's word out."""
        return self._open.engine

    @property
    def inference(self) -> Inference:
        """What serves requests."""
        return self._open.inference

    @property
    def events(self) -> EventBus:
        """What happens."""
        return self._open.events

    # What there is.

    @property
    def registry(self) -> Registry:
        """Every known model, searchable."""
        return self.engine.registry

    @property
    def current_model(self) -> ActiveModel | None:
        """The model in use, if it is loaded."""
        key = self.engine.current_key
        return next((active for active in self.engine.active() if active.key == key), None)

    @property
    def loaded_models(self) -> list[ActiveModel]:
        """The loaded models, oldest first."""
        return self.engine.active()

    def statistics(self) -> Statistics:
        """Counts over the whole fleet."""
        providers, capabilities, statuses = self.registry.counts()
        figures = self.registry.all_figures.values()
        return Statistics(
            total_models=len(self.registry),
            loaded_models=len(self.loaded_models),
            current_model=self.engine.current_key,
            total_inferences=sum(each.metrics.total_inferences for each in figures if each.metrics),
            provider_counts=providers,
            capability_counts=capabilities,
            status_counts=statuses,
        )

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

    def performance_metrics(self, key: str) -> PerformanceMetrics | None:
        """A model's live figures, ``None`` before its first request."""
        return self.registry.figures(self.engine.resolve_key(key)).metrics

    def performance_history(self, key: str) -> Sequence[ServedRequest]:
        """A model's latest requests, oldest first."""
        return self.inference.history(self.engine.resolve_key(key))

    def logs(self, key: str) -> Sequence[str]:
        """The last lines that a local model's process wrote, or wrote before it ended; none without a process."""
        log = self.engine.log(self.engine.resolve_key(key))
        return log.lines() if log else ()

    async def follow_logs(self, key: str, last: int | None = None) -> AsyncGenerator[str, None]:
        """The same lines (only the ``last`` ones if that is given), then each as it is written, until it ends."""
        log = self.engine.log(self.engine.resolve_key(key))
        if log is not None:
            async with aclosing(log.follow(last)) as lines:
                async for line in lines:
                    yield line

    async def profiles(self, key: str, limit: int = 20) -> Sequence[ProfileRecord]:
        """Past profiles of a model, newest first."""
        return await self._open.usage.profiles(self.engine.resolve_key(key), limit)

    # What to do.

    async def discover_models(self) -> Sequence[ProviderReport]:
        """Ask every provider at once what it has. One that is down delays nobody and shows as down."""
        return await self.engine.discover()

    async def load_model(
        self,
        provider_config_or_key: ProviderConfig | str,
        model_id: str | None = None,
        *,
        warmup: bool = False,
        ttl: float | None = None,
        pin: bool = False,
        priority: int = 0,
        options: LoadOptions | None = None,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> str:
        """Load a model and return its key: the quick start's ``(provider_config, model_id)``, or a key alone.

        A local model is loaded when its own process has answered a token; a remote one when its credentials and id were
        verified, and with ``warmup`` a real request was answered. ``ttl`` is in seconds after its last use. ``options``
        holds the rest of what can be said (see ``LoadOptions``).
        """
        key = await self._key(provider_config_or_key, model_id)
        given = msgspec.structs.replace(options or LoadOptions(), warmup=warmup, ttl_s=ttl, pin=pin, priority=priority)
        await self.engine.load(key, given, wait_s=wait_s)
        return key

    async def plan_load(self, key: str, options: LoadOptions | None = None) -> LoadPlan:
        """What a load of this model would take, and whom it would cost their place. Nothing is loaded or changed.

        Raises ``ConflictError`` where the model is loaded with other options.
        """
        return self.engine.plan(await self.engine.find_key(key), options or LoadOptions())

    async def unload_model(self, key: str, *, force: bool = False, drain_s: float = DEFAULT_DRAIN_S) -> str:
        """Unload a model once its requests are done (``force``: at once) and return its key.

        Raises ``ModelNotLoadedError``, and ``ConflictError`` if it is still in use after ``drain_s``.
        """
        key = self.engine.resolve_key(key)
        await self.engine.unload(key, force=force, drain_s=drain_s)
        return key

    async def switch_model(
        self,
        key: str,
        reason: str = "asked for",
        *,
        expected: Expected = msgspec.UNSET,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> SwitchResult:
        """Make another model the current one, loading it first. Requests that run finish on the old one.

        Raises ``ConflictError`` if another model than ``expected`` (``None``: any model) is current then.
        """
        return await self.point_alias(CURRENT, key, reason, expected=expected, wait_s=wait_s)

    async def point_alias(
        self,
        name: str,
        key: str,
        reason: str = "asked for",
        *,
        expected: Expected = msgspec.UNSET,
        load: bool = True,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> SwitchResult:
        """Make an alias (``prod``, ``fast``) mean a model, as ``switch_model`` does with ``current``.

        Requests for the alias follow it without one failing. With ``load=False`` the model is loaded when it is used.
        Raises ``ValidationError`` for a name that can be no alias, and ``ConflictError`` if it means another model
        than ``expected`` (``None``: any model).
        """
        book = self._open.aliases
        return await book.point(name, key, reason, expected=expected, load=load, wait_s=wait_s)

    async def rollback_alias(
        self, name: str, reason: str | None = None, *, wait_s: float = DEFAULT_WAIT_S
    ) -> SwitchResult:
        """Make an alias mean what it meant before its latest change, loading that first; again is back again.

        An alias that was removed comes back. Raises ``ModelNotFoundError`` if there never was such an alias, and
        ``ConflictError`` if it meant nothing before.
        """
        return await self._open.aliases.roll_back(name, reason, wait_s=wait_s)

    async def remove_alias(self, name: str, reason: str = "asked for") -> str:
        """Drop an alias and return the key it meant. The model stays as it is. Raises ``ModelNotFoundError``."""
        return await self._open.aliases.remove(name, reason)

    async def aliases(self) -> Sequence[AliasRecord]:
        """What each alias means, since when and why, by name; ``current`` is one of them if a model is in use."""
        return await self._open.aliases.entries()

    async def alias_history(self, name: str) -> Sequence[AliasRecord]:
        """What an alias has meant, newest first. Raises ``ModelNotFoundError``."""
        return await self._open.aliases.history(name)

    async def auto_switch_to_best_model(self, capability: ModelCapability | str) -> SwitchResult:
        """Switch to the best measured model that can do it. Raises ``ModelNotFoundError`` if none was measured."""
        capability = ModelCapability(capability)
        found = best(self.registry.models_by_capability(capability))
        if found is None:
            raise ModelNotFoundError(f"No model that can do {capability} was measured yet; profile one first.")
        entry, score = found
        return await self.switch_model(entry.key, f"best measured for {capability} ({score:.2f})")

    async def profile_model(self, key: str, test_count: int = 10) -> ProfileMetrics:
        """Measure a model by real requests: one apart for the cold start, then ``test_count`` in a row."""
        check_test_count(test_count)
        key = self.engine.resolve_key(key)
        self.events.publish("profiling-started", {"key": key, "test_count": test_count})
        async with self.use(key) as model:
            run = await self._profile(model, test_count)
            run = run.with_memory(self.engine.memory_bytes(key))
        at = datetime.now(UTC)
        await self._open.usage.add_profile(run.record(key, at))
        self.inference.benchmarked(key, at)
        self.events.publish("profiling-completed", {"key": key, "metrics": run.metrics})
        return run.metrics

    async def _profile(self, model: LeasedModel, test_count: int) -> ProfileRun:
        def ask(prompt: str, max_tokens: int) -> AsyncGenerator[ChatEvent, None]:
            return model.stream_events(prompt, max_tokens=max_tokens)

        def progress(done: int, total: int) -> None:
            self.events.publish("profiling-progress", {"key": model.key, "done": done, "total": total})

        return await run_profile(
            ask,
            test_count=test_count,
            clock=time.perf_counter,
            wall_clock=lambda: datetime.now(UTC),
            nonce=uuid.uuid4().hex,
            progress=progress,
        )

    def record_inference(self, key: str, latency_ms: float, tokens: int | None, success: bool) -> None:
        """Count an inference that you made yourself in the model's live figures."""
        self.inference.record(self.engine.resolve_key(key), latency_ms, tokens, success=success)

    async def save_state(self) -> Path | None:
        """Write every figure down now (what changes is durable anyway) and say where; ``None`` means in memory."""
        path = await self._open.save()
        self.events.publish("state-saved", {"path": None if path is None else str(path)})
        return path

    # Inference.

    def use(self, name: str | None = None, *, wait_s: float = DEFAULT_WAIT_S, priority: int = 0) -> ModelUse:
        """A lease: ``async with manager.use("current") as model``. It is loaded if need be, and nothing evicts it."""
        return ModelUse(self.inference, name, wait_s=wait_s, priority=priority)

    async def chat(self, messages: Messages, model: str | None = None, **parameters: Any) -> ChatReply:
        """Continue a conversation, by default with the current model. ``parameters`` are OpenAI's: ``max_tokens`` …."""
        request = chat_request(messages, parameters)
        async with self.inference.serve(model, "chat") as serving:
            return await serving.complete(request)

    async def stream(
        self, messages: Messages, model: str | None = None, **parameters: Any
    ) -> AsyncGenerator[str, None]:
        """The same, as text that comes bit by bit."""
        request = chat_request(messages, parameters)
        async with (
            self.inference.serve(model, "chat", streamed=True) as serving,
            aclosing(texts(serving, request)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def embed(self, inputs: str | Sequence[str], model: str | None = None) -> EmbeddingReply:
        """Turn texts into vectors."""
        async with self.inference.serve(model, "embeddings") as serving:
            return await serving.embed(embedding_request(inputs))

    # Events.

    def on(self, event_type: str, handler: Handler) -> None:
        """Call ``handler`` with each ``Event`` of this type (``*``: of all). Works before ``initialize`` too."""
        self._handlers.append((event_type, handler))
        if self._house is not None:
            self._house.events.on(event_type, handler)

    def off(self, event_type: str, handler: Handler) -> None:
        """Stop calling ``handler``."""
        if (event_type, handler) in self._handlers:
            self._handlers.remove((event_type, handler))
        if self._house is not None:
            self._house.events.off(event_type, handler)

    async def _key(self, provider_config_or_key: ProviderConfig | str, model_id: str | None) -> str:
        if isinstance(provider_config_or_key, ProviderConfig):
            if model_id is None:
                raise ValidationError("Say which model of the provider to load.")
            return await self.engine.find_key(model_key(provider_config_or_key.name, model_id))
        name = provider_config_or_key if model_id is None else model_key(provider_config_or_key, model_id)
        return await self.engine.find_key(name)
