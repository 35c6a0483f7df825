"""What a model's next request would take, by those it served lately. Pure: time arrives as an argument.

Every figure is a weighted mean in which a sample's weight falls by half every ``HALF_LIFE_S``. All that came before a
new sample weighs at least ``LEAST_PAST`` times as much as that, so that where requests are rare one odd answer doesn't
count for everything.

The latency of an answer depends on its length, so it is no mean: it is the weighted least-squares line through (tokens,
milliseconds), which is TTFT and TPOT wherever answers differ in length, streamed or not. Long prompts take longer to
read, so they are kept apart from short ones.
"""

from __future__ import annotations

import math

import msgspec

#: After this many seconds a sample weighs half as much.
HALF_LIFE_S = 10.0
#: What all earlier samples weigh at least, where a new one weighs 1.
LEAST_PAST = 1.5
#: Prompts of up to so many tokens are alike.
PROMPT_SIZES = (1_024, 8_192)
#: What a model is believed to do before it was seen, and how many requests that belief is worth.
PRIOR_SUCCESS, PRIOR_WEIGHT = 0.99, 2.0
#: An answer that took so much less than expected, as a part of that, is a surprise: its model may have become better.
SURPRISE = 0.3
#: After so many seconds without one, a request that failed says nothing yet: the next may tell.
SILENCE_S = 10.0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One request that is over. ``at_s`` is in seconds on any clock, the rest as in a request's record."""

    at_s: float
    success: bool
    streamed: bool
    latency_ms: float
    ttft_ms: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the next request would take.

    ``success_rate`` is most likely within ``success_margin`` (two standard errors). ``cache_rate`` is the part of
    prompts that was read from a cache. A model is ``unsettled`` whose latest answer was a surprise, or
    that failed after a silence.
    """

    latency_ms: float | None = None
    ttft_ms: float | None = None
    success_rate: float | None = None
    success_margin: float | None = None
    unsettled: bool = False
    cache_rate: float | None = None
    samples: int = 0
    age_s: float | None = None


class Estimates:
    """The figures of one model."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[bool, int], _Kind] = {}
        self._cached = _Mean()
        self._tried = self._succeeded = 0.0
        self._samples = 0
        self._surprised = self._failed = False
        self._last_s: float | None = None

    def observe(self, seen: Observation) -> None:
        """Take a request into account. One that failed took no time that says anything, and counts as a failure."""
        kept = 1.0 if self._last_s is None else _kept(seen.at_s - self._last_s)
        was_silent = self._last_s is None or seen.at_s - self._last_s > SILENCE_S
        self._tried = self._tried * kept + 1
        self._succeeded = self._succeeded * kept + seen.success
        self._last_s = seen.at_s
        self._samples += 1
        failed_before, self._failed = self._failed, not seen.success
        if not seen.success:
            # A failure leaves open what was open; a second one in a row settles it.
            self._surprised = was_silent or (self._surprised and not failed_before)
            return
        if seen.prompt_tokens and seen.cached_tokens is not None:
            self._cached.add(seen.cached_tokens / seen.prompt_tokens, seen.at_s)
        of = (seen.streamed, _size(seen.prompt_tokens))
        kind = self._kinds.get(of)
        if kind is None:
            kind = self._kinds[of] = _Kind()
        tokens = float(seen.output_tokens or 0)
        expected_ms = kind.latency.at(tokens)
        self._surprised = expected_ms is not None and expected_ms - seen.latency_ms > SURPRISE * expected_ms
        kind.latency.add(tokens, seen.latency_ms, seen.at_s)
        if seen.ttft_ms is not None:
            kind.ttft.add(seen.ttft_ms, seen.at_s)

    def estimate(self, now_s: float, *, streamed: bool, prompt_tokens: int, output_tokens: int) -> Estimate:
        """What a request of that kind would take ``now_s``."""
        if self._last_s is None:
            return Estimate()
        age_s = max(0.0, now_s - self._last_s)
        kept = _kept(age_s)
        kind = self._nearest(streamed, _size(prompt_tokens))
        tried = self._tried * kept + PRIOR_WEIGHT
        success_rate = (self._succeeded * kept + PRIOR_SUCCESS * PRIOR_WEIGHT) / tried
        return Estimate(
            latency_ms=None if kind is None else kind.latency.at(output_tokens),
            ttft_ms=None if kind is None else kind.ttft.value,
            success_rate=success_rate,
            success_margin=2 * math.sqrt(success_rate * (1 - success_rate) / tried),
            unsettled=self._surprised,
            cache_rate=self._cached.value,
            samples=self._samples,
            age_s=age_s,
        )

    def _nearest(self, streamed: bool, size: int) -> _Kind | None:
        """The figures of such requests, else of those most like them."""
        kinds = sorted(self._kinds, key=lambda kind: (abs(kind[1] - size), kind[0] != streamed))
        return self._kinds[kinds[0]] if kinds else None


class _Weights:
    """How much each new sample weighs against all before it."""

    def __init__(self) -> None:
        self._past = 0.0
        self._last_s = 0.0

    def share(self, at_s: float) -> float:
        """The part of the whole that a sample has which comes now; 1 for the first."""
        least = min(LEAST_PAST, self._past)
        past = max(least, self._past * _kept(at_s - self._last_s))
        self._past, self._last_s = past + 1, at_s
        return 1 / self._past


class _Mean:
    """A weighted mean of values as they come."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._weights = _Weights()

    def add(self, value: float, at_s: float) -> None:
        share = self._weights.share(at_s)
        self.value = value if self.value is None else self.value + share * (value - self.value)


class _Line:
    """The weighted least-squares line through points as they come, from their weighted means alone."""

    def __init__(self) -> None:
        self._x = self._y = self._xx = self._xy = 0.0
        self._empty = True
        self._weights = _Weights()

    def add(self, x: float, y: float, at_s: float) -> None:
        share = self._weights.share(at_s)
        self._empty = False
        self._x += share * (x - self._x)
        self._y += share * (y - self._y)
        self._xx += share * (x * x - self._xx)
        self._xy += share * (x * y - self._xy)

    def at(self, x: float) -> float | None:
        """The line's value, within what a line can mean here: longer answers never take less, nothing takes below 0.

        Where all answers were about as long there is no slope to be had, and an answer takes what they took.
        """
        if self._empty:
            return None
        variance = self._xx - self._x * self._x
        if variance < max(1.0, 0.0025 * self._x * self._x):
            return self._y
        slope = max(0.0, (self._xy - self._x * self._y) / variance)
        intercept = self._y - slope * self._x
        if intercept < 0:
            return self._y * x / self._x
        return intercept + slope * x


class _Kind:
    """The times of one kind of request."""

    def __init__(self) -> None:
        self.latency = _Line()
        self.ttft = _Mean()


def _kept(elapsed_s: float) -> float:
    return float(2.0 ** (-max(0.0, elapsed_s) / HALF_LIFE_S))


def _size(prompt_tokens: int | None) -> int:
    return sum(prompt_tokens is not None and prompt_tokens > most for most in PROMPT_SIZES)
