"""How sure a figure is: intervals around medians, and whether measurements of the same things differ. Pure.

Both are free of assumptions about how times are distributed, which is never normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from noa.models import Value

#: How sure an interval is to hold the median.
CONFIDENCE = 0.95
#: Up to this many differences the exact distribution is counted; beyond it the normal one is close.
EXACT_LIMIT = 50


class Interval(Value, frozen=True, kw_only=True):
    """Where the true median lies with a probability of at least ``confidence``."""

    low: float
    high: float
    confidence: float


def median_interval(ordered: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Between which of the sorted values the median lies; ``None`` if there are too few (fewer than 6, for 95 %).

    From order statistics: the number of values below the median is binomial with p = ½, so the k-th smallest and the
    k-th largest value hold it with 1 − 2·P(B < k). See David & Nagaraja, “Order Statistics”, 3rd ed., §7.1.
    ``confidence`` of the result is that probability, which is at least what was asked for.
    """
    count = len(ordered)
    below, chosen, covered = 0.0, 0, 0.0
    for k in range(1, count // 2 + 1):
        below += math.comb(count, k - 1) * 0.5**count
        if 1 - 2 * below < confidence:
            break
        chosen, covered = k, 1 - 2 * below
    if not chosen:
        return None
    return Interval(low=ordered[chosen - 1], high=ordered[count - chosen], confidence=covered)


def paired_p_value(differences: Sequence[float]) -> float:
    """How likely chance alone would put paired differences at least this far to one side: two-sided signed ranks.

    F. Wilcoxon, “Individual comparisons by ranking methods”, Biometrics Bulletin 1 (1945), 80–83: the permutation test
    that flips the sign of each rank. Exact for up to ``EXACT_LIMIT`` differences, ties included; beyond it the normal
    approximation (Hollander & Wolfe, “Nonparametric Statistical Methods”, §3.1). Differences of 0 are left out, and 1
    is the answer where none is left.
    """
    told = sorted((each for each in differences if each != 0), key=abs)
    ranks = _doubled_ranks([abs(each) for each in told])
    below = sum(rank for rank, each in zip(ranks, told, strict=True) if each < 0)
    lesser = min(below, sum(ranks) - below)
    if len(ranks) <= EXACT_LIMIT:
        ways = _ways(ranks)
        return min(1.0, sum(ways[: lesser + 1]) * 0.5 ** (len(ranks) - 1))
    # Doubled ranks, so the distance is doubled too, and the correction for continuity is 1 and not ½.
    deviation = math.sqrt(sum(rank**2 for rank in ranks) / 4)
    distance = max(0.0, sum(ranks) / 2 - lesser - 1)
    return math.erfc(distance / deviation / math.sqrt(2))


def _doubled_ranks(ordered: Sequence[float]) -> list[int]:
    """Twice the rank of each of the sorted values; equal ones share the mean of theirs."""
    ranks: list[int] = []
    for _, group in groupby(ordered):
        size = len([*group])
        ranks += [2 * len(ranks) + size + 1] * size
    return ranks


def _ways(ranks: Sequence[int]) -> list[int]:
    """How many choices among the ranks have each sum."""
    ways = [1] + [0] * sum(ranks)
    for rank in ranks:
        for value in range(len(ways) - 1, rank - 1, -1):
            ways[value] += ways[value - rank]
    return ways
