"""Profiles: models measured by real requests."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from noa.chat import ChatEvent
from noa.errors import (
    AIProviderError,
    ConflictError,
    ModelNotLoadedError,
    StorageError,
    UnsupportedError,
    ValidationError,
)
from noa.leased_model import LeasedModel
from noa.manager.conversations import Conversations
from noa.manager.pointing import Pointing
from noa.manager.residency import Residency
from noa.manager.running_profile import MemoryWatch, RunningProfile
from noa.measurement.profile import Profiler, ProfileRun
from noa.measurement.profile_plan import DEFAULT_MAX_TOKENS, ProfileMode, ProfileOptions, stages
from noa.measurement.spending import Expense, estimate, most_usd
from noa.measurement.summary import ProfileMetrics
from noa.models import ModelCapability, ModelStatus, Price, PriceSource
from noa.providers.protocol import Locality
from noa.state import ProfileRecord

logger = logging.getLogger(__name__)

#: How many earlier profiles are looked through for one to compare with.
COMPARED_WITH = 20
#: How long a model may take to become idle before its cold start; it stays loaded if somebody uses it longer.
IDLE_PATIENCE_S = 0.5


class Profiles(Conversations, Pointing, Residency):
    """Measures models, and remembers what was measured."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[str, RunningProfile] = {}

    async def profiles(self, key: str, limit: int = 20) -> Sequence[ProfileRecord]:
        """Past profiles of a model, newest first."""
        return await self._open.usage.profiles(self.engine.resolve_key(key), limit)

    async def profile_model(
        self,
        key: str,
        test_count: int = 10,
        *,
        mode: ProfileMode | str = ProfileMode.QUICK,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        max_cost: float | None = None,
        cold_start: bool = False,
    ) -> ProfileMetrics:
        """Measure a model by real requests: one that warms it up, then ``test_count`` in a row.

        ``mode="full"`` goes on with longer prompts, and with more and more requests at once until that brings no more.
        ``max_cost`` is a hard limit in USD: the profile ends before it. ``cold_start`` allows to unload a local model
        that is idle, to see how long it takes from there to its first token; one that was not loaded is measured so
        anyway; if it is the model in use, requests for ``current`` that come meanwhile go to another one. Cancelling
        stops it, and the event ``profiling-stopped`` tells what was measured so far.

        Raises ``ConflictError`` while the model is profiled already, and ``ValidationError`` for options that make no
        sense, or a limit for a model whose price is not known.
        """
        options = ProfileOptions(
            mode=_mode(mode), test_count=test_count, max_tokens=max_tokens, max_cost=max_cost, cold_start=cold_start
        )
        options.check()
        key = self.engine.resolve_key(key)
        _check_talks(key, self.engine.registry.offer(key).model.capabilities)
        price = self._price(key)
        _check_cap(key, max_cost, price)
        if key in self._running:
            raise ConflictError(f"{key} is being profiled already; wait for that profile to end, or stop it.")
        running = self._running[key] = RunningProfile()
        try:
            data = {"key": key, "test_count": test_count, "mode": options.mode, "max_tokens": max_tokens}
            self.events.publish("profiling-started", data)
            metrics = running.metrics = await self._measure(key, options, price, running)
        except AIProviderError as error:
            self.events.publish("profiling-failed", {"key": key, "error": error.message})
            raise
        finally:
            del self._running[key]
            running.ended.set()
        return metrics

    async def stop_profile(self, key: str) -> ProfileMetrics | None:
        """End a running profile early and return what it has measured; whoever asked for it gets the same.

        ``None`` if it failed. Raises ``ConflictError`` if none is running.
        """
        key = self.engine.resolve_key(key)
        running = self._running.get(key)
        if running is None:
            raise ConflictError(f"{key} is not being profiled now.")
        running.end()
        await running.ended.wait()
        return running.metrics

    def estimate_profile(
        self,
        key: str,
        test_count: int = 10,
        *,
        mode: ProfileMode | str = ProfileMode.QUICK,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> Expense:
        """What such a profile takes at most: requests, tokens and USD. Nothing is sent."""
        options = ProfileOptions(mode=_mode(mode), test_count=test_count, max_tokens=max_tokens)
        options.check()
        key = self.engine.resolve_key(key)
        window = self.engine.registry.offer(key).model.context_window
        return estimate(stages(options, window), max_tokens, self._price(key))

    def _price(self, key: str) -> Price | None:
        offer = self.engine.registry.offer(key)
        if offer.model.price is None and offer.locality is Locality.OWNED:
            return Price(input=0.0, output=0.0, source=PriceSource.LOCAL)
        return offer.model.price

    # One profile.

    async def _measure(
        self, key: str, options: ProfileOptions, price: Price | None, running: RunningProfile
    ) -> ProfileMetrics:
        was_current = self.engine.current_key == key
        if options.cold_start:
            await self._unload_if_idle(key)
        cold = self._is_cold(key)
        asked = time.perf_counter()
        async with self.use(key, failover=False) as model:
            load_ms = (time.perf_counter() - asked) * 1000 if cold else None
            if was_current and self.engine.current_key != key:
                await self.switch_model(key, "its cold start was measured")
            profiler = self._profiler(model, options, price)
            watch = MemoryWatch(partial(self.engine.memory_bytes, key))
            try:
                async with watch:
                    await running.carry_out(profiler)
            except asyncio.CancelledError:
                run = self._result(profiler, watch, load_ms)
                self.events.publish("profiling-stopped", {"key": key, "metrics": run.metrics})
                raise
            return await self._keep(key, self._result(profiler, watch, load_ms))

    async def _unload_if_idle(self, key: str) -> None:
        if self._is_owned(key) and self.engine.status(key) is ModelStatus.LOADED:
            with suppress(ConflictError, ModelNotLoadedError):  # It is in use, or went by itself.
                await self.unload_model(key, drain_s=IDLE_PATIENCE_S)

    def _is_cold(self, key: str) -> bool:
        """Whether a local model has no process and nobody starts one, so that its next use starts it."""
        standing = (ModelStatus.LOADED, ModelStatus.LOADING, ModelStatus.DRAINING)
        return self._is_owned(key) and self.engine.status(key) not in standing

    def _is_owned(self, key: str) -> bool:
        return self.engine.registry.offer(key).locality is Locality.OWNED

    @staticmethod
    def _result(profiler: Profiler, watch: MemoryWatch, load_ms: float | None) -> ProfileRun:
        return profiler.result().with_memory(watch.last_bytes, watch.peak_bytes).after_load(load_ms)

    async def _keep(self, key: str, run: ProfileRun) -> ProfileMetrics:
        if run.metrics.test_count:
            at, usage = datetime.now(UTC), self._open.usage
            run = run.compared_with(await usage.profiles(key, COMPARED_WITH))
            try:
                await usage.add_profile(run.record(key, at))
            except StorageError as error:  # What was measured, and perhaps paid for, is told anyway.
                logger.warning("the profile of %s is not in its history: %s", key, error.message)
            self.inference.figures.benchmarked(key, at)
        self.events.publish("profiling-completed", {"key": key, "metrics": run.metrics})
        return run.metrics

    def _profiler(self, model: LeasedModel, options: ProfileOptions, price: Price | None) -> Profiler:
        def ask(prompt: str, max_tokens: int) -> AsyncGenerator[ChatEvent, None]:
            return model.stream_events(prompt, max_tokens=max_tokens)

        def progress(done: int, total: int, stage: str) -> None:
            data = {"key": model.key, "done": done, "total": total, "stage": stage}
            self.events.publish("profiling-progress", data)

        return Profiler(
            ask,
            options,
            clock=time.perf_counter,
            wall_clock=lambda: datetime.now(UTC),
            nonce=uuid.uuid4().hex[:16],
            context_window=model.model.context_window,
            price=price,
            progress=progress,
        )


def _mode(mode: ProfileMode | str) -> ProfileMode:
    try:
        return ProfileMode(mode)
    except ValueError:
        known = ", ".join(ProfileMode)
        raise ValidationError(f"There is no mode “{mode}” of a profile; there are {known}.") from None


def _check_cap(key: str, max_cost: float | None, price: Price | None) -> None:
    if max_cost is not None and most_usd(0, 0, price) is None:
        raise ValidationError(
            f"What {key} costs is not known, so no profile of it can keep to max_cost; give its price in noa.yaml "
            "(models.“key”.price), or leave max_cost out."
        )


def _check_talks(key: str, capabilities: Collection[ModelCapability]) -> None:
    if ModelCapability.EMBEDDINGS in capabilities and ModelCapability.CHAT_COMPLETION not in capabilities:
        raise UnsupportedError(f"{key} makes embeddings and no conversation, which is what a profile measures.")
