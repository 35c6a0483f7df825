"""A profile: real requests to one model, one after the other, each of them timed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Self

import msgspec

from noa.chat import ChatEvent, ReplyFinished, TextDelta, ThinkingDelta, ToolCallDelta, Usage, UsageReported
from noa.errors import AIProviderError, ProviderResponseError, ValidationError
from noa.measurement.samples import FORMULA_VERSION, ProfileMetrics, Sample, summarise
from noa.models import Value
from noa.state import ProfileRecord

#: Sends a prompt, with a limit of tokens to generate, and streams the answer. Failures are ``AIProviderError``.
Ask = Callable[[str, int], AsyncIterator[ChatEvent]]
#: Seconds on a clock that never goes back, such as ``time.perf_counter``.
MonotonicClock = Callable[[], float]
#: Told after each request how many of how many are done, the cold one included.
ProfileProgress = Callable[[int, int], None]

MAX_TEST_COUNT = 1000
#: Tokens to generate per request of a quick profile: enough to time generation, few enough to take seconds.
QUICK_MAX_TOKENS = 32

_TASKS = (
    "Summarise the following notes in two sentences.",
    "List the three most important facts in these notes, one per line.",
    "Explain these notes to a child of ten.",
    "Write a friendly reply to whoever sent these notes.",
    "Say what is missing from these notes, and why it matters.",
    "Turn these notes into a short announcement.",
    "Which of these notes would you doubt first? Answer in a sentence or two.",
)

_NOTES = (
    (
        "The ferry leaves the north pier at seven in the morning and returns after sunset, except on Mondays, when the "
        "crew paints the hull and nobody crosses the bay."
    ),
    (
        "A bakery on the corner sells out of rye bread before nine, so the neighbours take turns queueing and share "
        "what they bring home, with butter if there is any."
    ),
    (
        "The weather station on the hill lost its wind gauge in the storm; until the spare part arrives, the keeper "
        "looks at the flags in the harbour and writes down a guess."
    ),
    (
        "Seven families keep bees behind the old mill. In a dry summer each hive gives twelve jars of honey, in a wet "
        "one hardly five, and the mayor always buys the first."
    ),
    (
        "The library lends tools as well as books: drills, ladders and a sewing machine that must come back oiled. "
        "Late returns are paid for with an hour of repairing bindings."
    ),
    (
        "Two engineers disagree about the bridge. One wants to replace the cables now, the other to measure them for a "
        "year first; both agree that lorries should take the long way round."
    ),
)


class ProfileRun(Value, frozen=True, kw_only=True):
    """A finished profile: the figures, the first request that is in none of them, and every warm one as measured."""

    metrics: ProfileMetrics
    cold: Sample
    samples: tuple[Sample, ...]

    def with_memory(self, size_bytes: int | None) -> Self:
        """The same, with what the model's process took when it ended; ``memory_usage`` is in MB of 10⁶ bytes."""
        if size_bytes is None:
            return self
        metrics = msgspec.structs.replace(self.metrics, memory_usage=round(size_bytes / 1e6, 1))
        return msgspec.structs.replace(self, metrics=metrics)

    def record(self, key: str, at: datetime) -> ProfileRecord:
        """What storage keeps of it; the raw samples begin with the cold one."""
        return ProfileRecord(
            key=key,
            at=at,
            formula_version=FORMULA_VERSION,
            metrics_json=msgspec.json.encode(self.metrics),
            samples_json=msgspec.json.encode((self.cold, *self.samples)),
        )


def check_test_count(test_count: int) -> int:
    """Return it if a profile may have so many requests. Raises ``ValidationError`` otherwise."""
    if isinstance(test_count, bool) or not 1 <= test_count <= MAX_TEST_COUNT:
        raise ValidationError(f"A profile takes 1 to {MAX_TEST_COUNT} test requests, not {test_count}.")
    return test_count


def prompts(nonce: str, count: int) -> tuple[str, ...]:
    """Different short tasks of about 40 to 300 tokens, none of which any cache has seen: each begins with a nonce."""
    return tuple(_prompt(nonce, index) for index in range(count))


async def run_profile(
    ask: Ask,
    *,
    test_count: int,
    clock: MonotonicClock,
    wall_clock: Callable[[], datetime],
    nonce: str,
    max_tokens: int = QUICK_MAX_TOKENS,
    progress: ProfileProgress | None = None,
) -> ProfileRun:
    """Send one request that is recorded apart (it may pay for a cold start), then ``test_count`` in sequence.

    A request that fails is a failed sample; only what is no ``AIProviderError`` is raised. Cancelling stops it at
    once. ``nonce`` must be new for each profile. Raises ``ValidationError`` for a ``test_count`` outside 1…1000.
    """
    check_test_count(test_count)
    samples: list[Sample] = []
    for prompt in prompts(nonce, test_count + 1):
        samples.append(await measure(ask, prompt, max_tokens, clock))
        if progress is not None:
            progress(len(samples), test_count + 1)
    cold, *warm = samples
    metrics = summarise(warm, cold=cold, at=wall_clock(), mode="quick")
    return ProfileRun(metrics=metrics, cold=cold, samples=tuple(warm))


async def measure(ask: Ask, prompt: str, max_tokens: int, clock: MonotonicClock) -> Sample:
    """Send one request and time its answer."""
    watch = _Stopwatch(clock)
    try:
        async for event in ask(prompt, max_tokens):
            watch.see(event)
    except AIProviderError as error:
        return watch.sample(error)
    if not watch.finished:
        return watch.sample(ProviderResponseError("The answer broke off before it was finished."))
    return watch.sample(None)


class _Stopwatch:
    """Notes when the events of one answer come."""

    def __init__(self, clock: MonotonicClock) -> None:
        self._clock = clock
        self._sent = clock()
        self._content_ms: list[float] = []
        self._first_answer_ms: float | None = None
        self._finished_ms: float | None = None
        self._finish_reason: str | None = None
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        return self._finished_ms is not None

    def see(self, event: ChatEvent) -> None:
        now_ms = (self._clock() - self._sent) * 1000
        if _is_content(event):
            self._content_ms.append(now_ms)
            if self._first_answer_ms is None and not isinstance(event, ThinkingDelta):
                self._first_answer_ms = now_ms
        elif isinstance(event, ReplyFinished):
            self._finished_ms = now_ms
            self._finish_reason = event.finish_reason
        elif isinstance(event, UsageReported):
            self._usage = event.usage

    def sample(self, error: AIProviderError | None) -> Sample:
        times, usage = self._content_ms, self._usage or Usage()
        return Sample(
            success=error is None,
            # An answer without any content took until it said that it was finished.
            e2e_ms=times[-1] if times else self._finished_ms,
            ttft_ms=times[0] if times else None,
            first_answer_ms=self._first_answer_ms,
            gaps_ms=_gaps(times),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            token_source="unknown" if usage.completion_tokens is None else "usage",
            finish_reason=self._finish_reason,
            error_code=None if error is None else error.code,
            error=None if error is None else error.message,
        )


def _is_content(event: ChatEvent) -> bool:
    match event:
        case TextDelta(text=text) | ThinkingDelta(text=text):
            return bool(text)
        case ToolCallDelta():
            return bool(event.name or event.arguments)
        case _:
            return False


def _gaps(times: Sequence[float]) -> tuple[float, ...]:
    return tuple(later - earlier for earlier, later in pairwise(times))


def _prompt(nonce: str, index: int) -> str:
    notes = [_NOTES[(index + offset) % len(_NOTES)] for offset in range(1 + index % len(_NOTES))]
    # The nonce comes first: prompt caches match from the beginning.
    return " ".join((f"[{nonce}-{index}]", _TASKS[index % len(_TASKS)], *notes))
