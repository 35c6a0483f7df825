"""A profile: real requests to one model, stage by stage, each of them timed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

import msgspec

from noa.measurement.profile_plan import TEST, ProfileOptions, Stage, saturated, stages
from noa.measurement.prompts import prompt
from noa.measurement.regression import compare
from noa.measurement.samples import FORMULA_VERSION, Sample, distribution
from noa.measurement.spending import Purse, cost_of
from noa.measurement.stopwatch import Ask, MonotonicClock, measure
from noa.measurement.summary import ProfileMetrics, Stopped, level_figures, summarise
from noa.models import Price, Value
from noa.state import ProfileRecord

#: Told after each request how many of how many are done, those that warm up included, and in which stage.
ProfileProgress = Callable[[int, int, str], None]

#: No more requests of a stage are begun after this time, but for the test itself: a slow model takes long enough.
STAGE_PATIENCE_S = 30.0
#: How often it is looked at how late the event loop is.
LAG_INTERVAL_S = 0.05


class ProfileRun(Value, frozen=True, kw_only=True):
    """A profile that has ended: the figures, and every request as it was measured."""

    metrics: ProfileMetrics
    samples: tuple[Sample, ...]

    def with_memory(self, size_bytes: int | None, peak_bytes: int | None) -> Self:
        """The same, with what the model's process took when it ended and the most it took; both in MB of 10⁶ bytes."""
        return self._with(
            memory_usage=None if size_bytes is None else round(size_bytes / 1e6, 1),
            peak_memory_usage=None if peak_bytes is None else round(peak_bytes / 1e6, 1),
        )

    def after_load(self, load_ms: float | None) -> Self:
        """The same, made right after a load that took so long (``None``: there was none)."""
        first = self.metrics.first_request_ms
        return self if load_ms is None or first is None else self._with(cold_start_ms=load_ms + first)

    def compared_with(self, earlier: Sequence[ProfileRecord]) -> Self:
        """The same, compared with the latest of these (newest first) that was made alike and to its end."""
        for record in earlier:
            if record.formula_version != FORMULA_VERSION:
                continue
            before = msgspec.json.decode(record.metrics_json, type=ProfileMetrics)
            if before.stopped is None and (before.mode, before.max_tokens) == (
                self.metrics.mode,
                self.metrics.max_tokens,
            ):
                samples = msgspec.json.decode(record.samples_json, type=tuple[Sample, ...])
                return self._with(comparison=compare(samples, record.at, self.samples))
        return self

    def record(self, key: str, at: datetime) -> ProfileRecord:
        """What storage keeps of it, the raw samples among it."""
        return ProfileRecord(
            key=key,
            at=at,
            formula_version=FORMULA_VERSION,
            metrics_json=msgspec.json.encode(self.metrics),
            samples_json=msgspec.json.encode(self.samples),
        )

    def _with(self, **fields: object) -> Self:
        return msgspec.structs.replace(self, metrics=msgspec.structs.replace(self.metrics, **fields))


class Profiler:
    """Carries a profile out. What was measured so far can be summed up at any time.

    A request that fails is a failed sample; only what is no ``AIProviderError`` is raised. ``nonce`` must be new for
    each profile. ``price`` is what the model's tokens cost; with a ``max_cost`` among the options nothing is sent whose
    cost is not known to stay within it.
    """

    def __init__(
        self,
        ask: Ask,
        options: ProfileOptions,
        *,
        clock: MonotonicClock,
        wall_clock: Callable[[], datetime],
        nonce: str,
        context_window: int | None = None,
        price: Price | None = None,
        progress: ProfileProgress | None = None,
    ) -> None:
        options.check()
        self._ask = ask
        self._options = options
        self._clock = clock
        self._wall_clock = wall_clock
        self._nonce = nonce
        self._price = price
        self._progress = progress
        self._stages = stages(options, context_window)
        self._purse = Purse(options.max_cost, price)
        self._begun = clock()
        self._samples: list[Sample] = []
        self._lags_ms: list[float] = []
        self._total = sum(stage.requests for stage in self._stages)
        self._serial = itertools.count()
        self._penniless = False
        self._complete = False

    async def run(self) -> None:
        """Carry it out. Cancelling stops it at once, and what was measured stays."""
        self._begun = self._clock()
        speeds: list[float | None] = []
        async with self._watching_the_loop():
            for stage in self._stages:
                await self._carry_out(stage)
                if self._penniless or self._is_saturated(stage, speeds):
                    break
        self._complete = not self._penniless

    @property
    def stopped(self) -> Stopped | None:
        """Why it has come no further, if it has not come to its end."""
        if self._complete:
            return None
        return "max-cost" if self._penniless else "asked"

    def result(self) -> ProfileRun:
        """What was measured so far."""
        options = self._options
        metrics = summarise(self._samples, at=self._wall_clock(), mode=options.mode, max_tokens=options.max_tokens)
        costs = [cost_of(sample, self._price) for sample in self._samples]
        metrics = msgspec.structs.replace(
            metrics,
            stopped=self.stopped,
            duration_s=round(self._clock() - self._begun, 3),
            client_lag_ms=distribution(self._lags_ms),
            cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        )
        return ProfileRun(metrics=metrics, samples=tuple(self._samples))

    def _is_saturated(self, stage: Stage, speeds: list[float | None]) -> bool:
        """Note how fast it was with so many callers, and say whether more would bring no more."""
        if stage.concurrency == 1 and stage.name != TEST:
            return False
        figures = level_figures([sample for sample in self._samples if sample.stage == stage.name])
        speeds.append(figures.tokens_per_second or figures.requests_per_second)
        return stage.concurrency > 1 and saturated(speeds, figures.failures, figures.requests)

    async def _carry_out(self, stage: Stage) -> None:
        """Send the stage's requests from as many callers as it wants, each one after the other."""
        waiting = iter(range(stage.requests))
        deadline = self._clock() + STAGE_PATIENCE_S

        async def call() -> None:
            for number in waiting:
                late = stage.name != TEST and self._clock() > deadline
                if late or self._penniless or not await self._request(stage, number):
                    return

        callers = [asyncio.ensure_future(call()) for _ in range(min(stage.concurrency, stage.requests))]
        try:
            await asyncio.gather(*callers)
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def _request(self, stage: Stage, number: int) -> bool:
        """Send one request, if there is money for it, and note what came of it."""
        max_tokens = self._options.max_tokens
        # Numbers of prompts are the same in each profile; only the nonce and the serial number after it are new.
        text = prompt(f"{self._nonce}-{next(self._serial)}", number, stage.prompt_tokens)
        reserved = self._purse.take(text, max_tokens)
        if reserved is None:
            self._penniless = True
            return False
        started = self._clock()
        cost: float | None = None
        try:
            sample = await measure(self._ask, text, max_tokens, self._clock)
            cost = cost_of(sample, self._price)
        finally:
            self._purse.settle(reserved, cost)
        self._samples.append(
            msgspec.structs.replace(
                sample,
                stage=stage.name,
                prompt_number=number,
                concurrency=stage.concurrency,
                warmup=number < stage.warmup,
                started_ms=(started - self._begun) * 1000,
            )
        )
        if self._progress is not None:
            self._progress(len(self._samples), self._total, stage.name)
        return True

    @asynccontextmanager
    async def _watching_the_loop(self) -> AsyncIterator[None]:
        """Note how late our own event loop wakes up: a busy one would make every model look slow."""

        async def watch() -> None:
            while True:
                asleep = self._clock()
                await asyncio.sleep(LAG_INTERVAL_S)
                self._lags_ms.append(max(0.0, (self._clock() - asleep - LAG_INTERVAL_S) * 1000))

        watcher = asyncio.ensure_future(watch())
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
