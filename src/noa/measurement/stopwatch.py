"""Times one request: sends it and notes when the events of its answer come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import pairwise

from noa.chat import ChatEvent, ReplyFinished, TextDelta, ThinkingDelta, ToolCallDelta, Usage, UsageReported
from noa.errors import AIProviderError, ProviderResponseError
from noa.measurement.samples import Sample

#: Sends a prompt, with a limit of tokens to generate, and streams the answer. Failures are ``AIProviderError``.
Ask = Callable[[str, int], AsyncIterator[ChatEvent]]
#: Seconds on a clock that never goes back, such as ``time.perf_counter``.
MonotonicClock = Callable[[], float]


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
        now_ms = self._now_ms()
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
            gaps_ms=tuple(later - earlier for earlier, later in pairwise(times)),
            ended_ms=self._now_ms(),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            token_source="unknown" if usage.completion_tokens is None else "usage",
            finish_reason=self._finish_reason,
            error_code=None if error is None else error.code,
            error=None if error is None else error.message,
        )

    def _now_ms(self) -> float:
        return (self._clock() - self._sent) * 1000


def _is_content(event: ChatEvent) -> bool:
    match event:
        case TextDelta(text=text) | ThinkingDelta(text=text):
            return bool(text)
        case ToolCallDelta():
            return bool(event.name or event.arguments)
        case _:
            return False
