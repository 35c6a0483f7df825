"""Whether one model is measurably worse than another that serves the same kind of requests. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import groupby

#: How many latencies of each model are compared, the latest ones.
LATENCIES = 200
#: How unlikely a difference must be by chance alone, as a number of standard errors: about 1 in 1,000. It is strict,
#: since the question is asked again and again while requests come in.
SURE = 3.1


class Track:
    """What one model did with its share of the requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)

    def add(self, latency_ms: float, *, success: bool) -> None:
        """Count one more request. The time of a failure says nothing."""
        self.requests += 1
        if success:
            self._latencies_ms.append(latency_ms)
        else:
            self.failures += 1

    @property
    def latencies_ms(self) -> Sequence[float]:
        """The latest times of those that succeeded."""
        return self._latencies_ms


def how_it_is_worse(
    newcomer: Track, own: Track, *, max_error_rise: float, max_latency_ratio: float | None, min_requests: int
) -> str | None:
    """What is worse about the newcomer, in words; ``None`` if nothing is, or too little was seen to tell."""
    if newcomer.requests < min_requests:
        return None
    if _surely_fails_more(newcomer, own, max_error_rise):
        return (
            f"{newcomer.failures} of its {newcomer.requests} requests failed, against {own.failures} of {own.requests}"
        )
    if max_latency_ratio is None or min(len(newcomer.latencies_ms), len(own.latencies_ms)) < min_requests:
        return None
    allowed_ms = [each * max_latency_ratio for each in own.latencies_ms]
    if rank_sum_z(newcomer.latencies_ms, allowed_ms) > SURE:
        ours, its = _median(own.latencies_ms), _median(newcomer.latencies_ms)
        return f"it takes {its:.0f} ms, more than {max_latency_ratio:g} times the {ours:.0f} ms of the other"
    return None


def _surely_fails_more(newcomer: Track, own: Track, rise: float) -> bool:
    """Whether the difference of the failure rates is above ``rise`` beyond chance (two proportions, unpooled).

    Where no request of the own model was seen, none failed. The rates are drawn a little towards one half (Agresti &
    Caffo, The American Statistician 54 (2000)), since at 0 and 1 the formula would be sure of everything.
    """
    worse, worse_variance = _rate(newcomer)
    better, better_variance = _rate(own) if own.requests else (0.0, 0.0)
    return worse - better - SURE * math.sqrt(worse_variance + better_variance) > rise


def _rate(track: Track) -> tuple[float, float]:
    count = track.requests + 2
    rate = (track.failures + 1) / count
    return rate, rate * (1 - rate) / count


def rank_sum_z(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """By how many standard deviations our values rank above theirs.

    H. B. Mann and D. R. Whitney, “On a test of whether one of two random variables is stochastically larger than the
    other”, Annals of Mathematical Statistics 18 (1947), 50–60, in the normal approximation with ties.
    """
    values = sorted([(value, True) for value in ours] + [(value, False) for value in theirs])
    place, rank_sum, ties = 0, 0.0, 0.0
    for _, group in groupby(values, key=lambda each: each[0]):
        members = [is_ours for _, is_ours in group]
        rank_sum += sum(members) * (place + (len(members) + 1) / 2)
        place += len(members)
        ties += len(members) ** 3 - len(members)
    n, m = len(ours), len(theirs)
    if not n or not m:
        return 0.0
    above = rank_sum - n * (n + 1) / 2
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    return (above - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
