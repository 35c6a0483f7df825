"""What there is, and how it is doing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

from noa.manager.part import Part
from noa.measurement.live import LiveSpread, ServedRequest
from noa.models import ActiveModel, PerformanceMetrics, Value
from noa.registry import Registry
from noa.selection.breakers import BreakerFigures
from noa.state import UsageGrouping, UsageTotal


class Statistics(Value, frozen=True, kw_only=True):
    """Counts over the whole fleet, in the quick start's fields."""

    total_models: int
    loaded_models: int
    current_model: str | None
    total_inferences: int
    provider_counts: dict[str, int]
    capability_counts: dict[str, int]
    status_counts: dict[str, int]


class Questions(Part):
    """What can be asked of a manager without changing anything."""

    @property
    def registry(self) -> Registry:
        """Every known model, searchable."""
        return self.engine.registry

    @property
    def current_model(self) -> ActiveModel | None:
        """The model in use, wherever it stands: one that is not loaded is loaded when it is asked for.

        Its ``error`` says why it cannot be, if that is known. ``None`` only if no model is in use.
        """
        return self.engine.current()

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

    def performance_metrics(self, key: str) -> PerformanceMetrics | None:
        """A model's live figures, ``None`` before its first request."""
        return self.registry.figures(self.engine.resolve_key(key)).metrics

    def performance_history(self, key: str) -> Sequence[ServedRequest]:
        """A model's latest requests, oldest first."""
        return self.inference.figures.history(self.engine.resolve_key(key))

    def live_spread(self, key: str) -> LiveSpread:
        """How the times of a model's requests were spread lately: newer ones count for more."""
        return self.inference.figures.spread(self.engine.resolve_key(key))

    async def usage(
        self,
        by: UsageGrouping | str = UsageGrouping.MODEL,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        key: str | None = None,
    ) -> Sequence[UsageTotal]:
        """What was used and what it cost, summed up by ``model``, ``key`` (of callers), ``hour`` or ``day``.

        Of the hours from that of ``since`` to before ``until``, of one model or of all. Times come newest first.
        """
        found = None if key is None else self.engine.resolve_key(key)
        return await self._open.usage.totals(UsageGrouping(by), since=since, until=until, key=found)

    def breakers(self) -> Sequence[BreakerFigures]:
        """The breakers of providers and models, providers first; what has never failed has none."""
        return self.inference.failover.figures()

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
