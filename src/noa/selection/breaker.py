"""When a provider or a model is left alone for a while, and when it is tried again. Pure: the time is an argument.

A breaker is closed (requests go there), open (they go elsewhere, for a time that doubles with each relapse), or
half-open (one request at a time goes there as a probe, until enough of them succeeded). Being asked to slow down is no
failure: it is a cool-down of its own, beside the breaker's state, for as long as the upstream said.

The shape is that of the classic circuit breaker (M. Nygard, "Release It!") with the rolling failure rate of Hystrix and
the growing ejection time of Envoy's outlier detection. Times are in seconds, on a clock that never goes back.
"""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum

import msgspec


class BreakerState(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens, and for how long.

    It opens after ``failures_in_a_row``, so that an outage is noticed at once (where failures are usual it takes more
    of them, since there chance alone brings some in a row), and when, within ``window_s``, at least ``least_failures``
    requests failed and they are at least ``failure_rate`` (0–1) of all. It stays open for ``open_s``, doubling up to
    ``longest_open_s`` each time it opens again before it was closed for ``calm_s``. ``probes`` successes in a row close
    it; a probe that has no answer after ``probe_patience_s`` no longer keeps another from being sent.

    ``cooling_s`` is how long to leave alone what asks to slow down without saying for how long, doubling each time up
    to ``longest_cooling_s``. That is also the longest that is believed: a quota may be raised before its day is over.
    """

    failures_in_a_row: int = 5
    window_s: float = 30.0
    least_failures: int = 5
    failure_rate: float = 0.5
    open_s: float = 5.0
    longest_open_s: float = 60.0
    calm_s: float = 60.0
    probes: int = 2
    probe_patience_s: float = 30.0
    cooling_s: float = 1.0
    longest_cooling_s: float = 300.0


#: What chance hardly brings: once in so many times.
HARDLY = 1e-6

#: Into how many parts a window is divided; it moves on by one part at a time.
PARTS = 6


class Window:
    """How many requests succeeded and failed lately."""

    __slots__ = ("_part_s", "_parts")

    def __init__(self, window_s: float) -> None:
        self._part_s = window_s / PARTS
        #: Number of the part, successes, failures.
        self._parts: deque[list[int]] = deque(maxlen=PARTS)

    def count(self, now: float, *, success: bool) -> None:
        """Count one request that ended now."""
        number = int(now / self._part_s)
        if not self._parts or self._parts[-1][0] != number:
            self._parts.append([number, 0, 0])
        self._parts[-1][1 if success else 2] += 1

    def totals(self, now: float) -> tuple[int, int]:
        """Requests and failures within the window."""
        oldest = int(now / self._part_s) - PARTS + 1
        recent = [part for part in self._parts if part[0] >= oldest]
        failures = sum(part[2] for part in recent)
        return sum(part[1] for part in recent) + failures, failures

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()


class Breaker:
    """The breaker of one provider or one model.

    ``succeeded``, ``failed``, ``limited`` and ``left`` are told of each request with the moment at which it was sent:
    one sent before the latest change of state says nothing of what is true since. They return the state that the
    breaker has just entered, if it changed.
    """

    __slots__ = (
        "_bare_limits",
        "_changed_at",
        "_closed_at",
        "_in_a_row",
        "_openings",
        "_probed_at",
        "_successes",
        "_window",
        "cooling_until",
        "open_until",
        "rules",
        "state",
    )

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.state = BreakerState.CLOSED
        self.open_until = -math.inf
        self.cooling_until = -math.inf
        self._window = Window(rules.window_s)
        self._changed_at = -math.inf
        self._closed_at = -math.inf
        self._openings = 0
        self._in_a_row = 0
        self._bare_limits = 0
        self._probed_at: float | None = None
        self._successes = 0

    def ready(self, now: float) -> bool:
        """Whether a request may go there. Asking changes nothing."""
        return now >= self.ready_at()

    def ready_at(self) -> float:
        """From when on a request may go there, as things stand; minus infinity for a healthy one."""
        match self.state:
            case BreakerState.CLOSED:
                return self.cooling_until
            case BreakerState.OPEN:
                return max(self.open_until, self.cooling_until)
            case BreakerState.HALF_OPEN:
                free_at = -math.inf if self._probed_at is None else self._probed_at + self.rules.probe_patience_s
                return max(free_at, self.cooling_until)

    def totals(self, now: float) -> tuple[int, int]:
        """Requests and failures within the window."""
        return self._window.totals(now)

    def begin(self, now: float) -> BreakerState | None:
        """A request is sent there, also one that nobody else could take; the first one after the open time probes."""
        if self.state is BreakerState.OPEN and now >= self.open_until:
            self._enter(BreakerState.HALF_OPEN, now)
            self._probed_at = now
            return self.state
        if self.state is BreakerState.HALF_OPEN and self.ready(now):
            self._probed_at = now
        return None

    def succeeded(self, now: float, sent_at: float) -> BreakerState | None:
        """A request was answered."""
        self._bare_limits = 0
        if sent_at < self._changed_at:
            return None
        self._in_a_row = 0
        if self.state is BreakerState.CLOSED:
            self._window.count(now, success=True)
            return None
        before = self.state
        if before is BreakerState.OPEN:
            # It was sent because nobody else could take it, and it went well: as good as a probe.
            self._enter(BreakerState.HALF_OPEN, now)
        self._probed_at = None
        self._successes += 1
        if self._successes >= self.rules.probes:
            self._enter(BreakerState.CLOSED, now)
            self._closed_at = now
        return None if self.state is before else self.state

    def failed(self, now: float, sent_at: float) -> BreakerState | None:
        """A request failed."""
        if sent_at < self._changed_at or self.state is BreakerState.OPEN:
            return None
        if self.state is BreakerState.CLOSED:
            self._window.count(now, success=False)
            self._in_a_row += 1
            if not self._is_broken(now):
                return None
            if now - self._closed_at >= self.rules.calm_s:
                self._openings = 0
        self._enter(BreakerState.OPEN, now)
        self.open_until = now + min(self.rules.open_s * 2.0**self._openings, self.rules.longest_open_s)
        self._openings = min(self._openings + 1, 64)
        return self.state

    def limited(self, now: float, sent_at: float, retry_after_s: float | None) -> bool:
        """A request was refused for coming too soon. Says whether a cool-down has begun; one that lasts only grows."""
        if retry_after_s is None:
            retry_after_s = self.rules.cooling_s * 2.0**self._bare_limits
            self._bare_limits = min(self._bare_limits + 1, 64)
        was_cooling = now < self.cooling_until
        self.cooling_until = max(self.cooling_until, now + min(retry_after_s, self.rules.longest_cooling_s))
        self.left(sent_at)
        return not was_cooling and now < self.cooling_until

    def left(self, sent_at: float) -> None:
        """A request ended without saying anything of the upstream; if it was the probe, another may be sent."""
        if sent_at >= self._changed_at:
            self._probed_at = None

    def _is_broken(self, now: float) -> bool:
        rules = self.rules
        requests, failures = self._window.totals(now)
        often = failures >= rules.least_failures and failures >= rules.failure_rate * requests
        return often or self._in_a_row >= self._outage(requests - self._in_a_row, failures - self._in_a_row)

    def _outage(self, requests: int, failures: int) -> int:
        """How many failures in a row chance would hardly bring where so many of the requests before them failed."""
        least = self.rules.failures_in_a_row
        if requests <= 0:
            return least
        # Laplace's rule of succession, since few requests tell little of what is usual.
        usual = (max(failures, 0) + 1) / (requests + 2)
        return max(least, math.ceil(math.log(HARDLY) / math.log(usual)))

    def _enter(self, state: BreakerState, now: float) -> None:
        self.state = state
        self._changed_at = now
        self._probed_at = None
        self._successes = 0
        self._in_a_row = 0
        self._window.clear()
