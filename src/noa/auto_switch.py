"""Switches away from a current model that does badly, where that is switched on (``models.autoSwitch``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from noa.alias_book import AliasBook
from noa.background import Background
from noa.engine import Engine
from noa.errors import AIProviderError
from noa.models import ModelStatus, PerformanceMetrics
from noa.selection.aliases import CURRENT
from noa.selection.auto_switch import LowScores, Measured, Rules, reason, successor
from noa.selection.rank import auto_switch_score
from noa.state import RequestRecord

logger = logging.getLogger(__name__)


class AutoSwitch:
    """Looks at every request of the current model, and has ``current`` moved when it is time to.

    It is a switch like any other, so no request fails for it, and ``model-switched`` tells why. If somebody else
    switches meanwhile, theirs stands. ``trouble`` says why a model had better not be asked just now; ``clock`` is in
    seconds and never goes back.
    """

    def __init__(
        self,
        engine: Engine,
        book: AliasBook,
        trouble: Callable[[str], str | None],
        rules: Rules,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._book = book
        self._trouble = trouble
        self._rules = rules
        self._clock = clock
        self._scores = LowScores(rules)
        self._background = Background()
        self._switching = False

    def observe(self, record: RequestRecord) -> None:
        """Take in a request that is over, and was counted in its model's figures."""
        key, metrics = record.key, self._engine.registry.figures(record.key).metrics
        if key != self._engine.current_key or metrics is None or self._switching:
            return
        if not self._scores.seen(key, auto_switch_score(metrics), self._clock()):
            return
        self._scores.looked(self._clock())
        current = self._measured(key, metrics)
        better = successor(current, self._others(), self._rules)
        if better is not None:
            self._switching = True
            self._background.spawn(self._switch(current, better))

    async def aclose(self) -> None:
        """Leave a switch that is under way."""
        await self._background.aclose()

    def _others(self) -> Iterator[Measured]:
        registry = self._engine.registry
        for key, figures in registry.all_figures.items():
            if key not in registry or figures.metrics is None or self._trouble(key) is not None:
                continue
            if self._engine.status(key) is not ModelStatus.FAILED:
                yield self._measured(key, figures.metrics)

    def _measured(self, key: str, metrics: PerformanceMetrics) -> Measured:
        model = self._engine.registry.last_offer(key).model
        return Measured(
            key=key,
            score=auto_switch_score(metrics),
            requests=metrics.total_inferences,
            capabilities=frozenset(model.capabilities),
            context_window=model.context_window,
        )

    async def _switch(self, current: Measured, better: Measured) -> None:
        why = reason(current, better, self._rules)
        try:
            await self._book.point(CURRENT, better.key, why, expected=current.key)
        except AIProviderError as error:
            logger.warning("did not switch to %s by itself (%s): %s", better.key, why, error.message)
        finally:
            self._switching = False
