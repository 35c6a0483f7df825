"""Profiles: models measured by real requests."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

from noa.chat import ChatEvent
from noa.leased_model import LeasedModel
from noa.manager.conversations import Conversations
from noa.measurement.profile import ProfileRun, check_test_count, run_profile
from noa.measurement.samples import ProfileMetrics
from noa.state import ProfileRecord


class Profiles(Conversations):
    """Measures models, and remembers what was measured."""

    async def profiles(self, key: str, limit: int = 20) -> Sequence[ProfileRecord]:
        """Past profiles of a model, newest first."""
        return await self._open.usage.profiles(self.engine.resolve_key(key), limit)

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
