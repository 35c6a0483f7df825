"""How values were spread lately: the newest ones, each of a weight that fades with its age. Pure, bounded in memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

from noa.measurement.samples import SAMPLES_NEEDED, Distribution

#: After this many seconds a value weighs half as much beside a new one.
HALF_LIFE_S = 300.0
#: How many values are kept, the newest ones: enough for a 99th percentile, in 8 KiB.
WINDOW = 512


class FadingValues:
    """The newest values of one kind.

    The weights are exponential in the age (forward decay: G. Cormode, V. Shkapenyuk, D. Srivastava and B. Xu, “Forward
    Decay: A Practical Time Decay Model for Streaming Systems”, ICDE 2009), and relative: where nothing new comes, the
    figures stay as they were. How many values they are worth is Kish's effective sample size, (Σw)² ÷ Σw² (L. Kish,
    Survey Sampling, 1965), and a percentile is told only where those are enough for it.
    """

    def __init__(self) -> None:
        self._values = array("d")
        self._moments_s = array("d")
        self._next = 0

    def add(self, value: float, at_s: float) -> None:
        """Take in a value measured ``at_s``; the oldest one goes if there are too many."""
        if len(self._values) < WINDOW:
            self._values.append(value)
            self._moments_s.append(at_s)
            return
        self._values[self._next] = value
        self._moments_s[self._next] = at_s
        self._next = (self._next + 1) % WINDOW

    def distribution(self) -> Distribution:
        """How the values are spread. ``samples`` is what they are worth together, in whole values."""
        if not self._values:
            return Distribution()
        newest_s = max(self._moments_s)
        weighted = sorted(
            (value, 2.0 ** ((at_s - newest_s) / HALF_LIFE_S))
            for value, at_s in zip(self._values, self._moments_s, strict=True)
        )
        weights = [weight for _, weight in weighted]
        worth = round(sum(weights) ** 2 / sum(weight * weight for weight in weights))

        def percentile(percent: int) -> float | None:
            return weighted_quantile(weighted, percent / 100) if worth >= SAMPLES_NEEDED[percent] else None

        return Distribution(
            p50=percentile(50),
            p90=percentile(90),
            p95=percentile(95),
            p99=percentile(99),
            min=weighted[0][0],
            max=weighted[-1][0],
            samples=worth,
        )


def weighted_quantile(weighted: Sequence[tuple[float, float]], fraction: float) -> float:
    """The value below which ``fraction`` of the weight of the sorted, non-empty (value, weight) pairs lies.

    Between two values it is interpolated linearly; where all weigh the same it is the quantile of type 7, as in
    ``noa.measurement.samples``.
    """
    # The place of a value is the weight between the first value and it, half of each of two neighbours' at a time.
    steps = [(before[1] + after[1]) / 2 for before, after in pairwise(weighted)]
    wanted = sum(steps) * fraction
    for (low, _), (high, _), step in zip(weighted, weighted[1:], steps, strict=False):
        if wanted <= step:
            return low + (high - low) * (wanted / step) if step > 0 else low
        wanted -= step
    return weighted[-1][0]
