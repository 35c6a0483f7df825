"""Whether one of two builds is slower than the other, judged by pairs of measurements that were taken in turns."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

#: What is called slower: this much more, at least, with the certainty below.
WORTH_TELLING: Final = 1.05
CERTAINTY: Final = 0.99
_RESAMPLES: Final = 2_000


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The median of the pairs' ratios, and between which bounds that of all such pairs lies."""

    ratio: float
    low: float
    high: float

    @property
    def is_slower(self) -> bool:
        """Whether the second build surely costs more, and enough more to be told."""
        return self.low > 1.0 and self.ratio >= WORTH_TELLING

    @property
    def is_faster(self) -> bool:
        """Whether it surely costs less."""
        return self.high < 1.0 and self.ratio <= 1 / WORTH_TELLING


def judge(before: Sequence[float], after: Sequence[float]) -> Verdict:
    """Compare costs (less is better) pair by pair.

    The bounds are those of a percentile bootstrap (Efron 1979) of the median ratio, with fixed draws.
    """
    ratios = [theirs / ours for ours, theirs in zip(before, after, strict=True)]
    draw = random.Random(0)  # noqa: S311 — resampling needs no secrecy, and the same samples shall get the same verdict
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    cut = int(_RESAMPLES * (1 - CERTAINTY) / 2)
    return Verdict(ratio=statistics.median(ratios), low=medians[cut], high=medians[-1 - cut])
