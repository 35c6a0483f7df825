"""Which requests a profile makes, decided before the first of them; and when more callers bring no more. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from noa.errors import ValidationError
from noa.models import Value

MAX_TEST_COUNT = 1000
MAX_CONCURRENCY = 256
#: Tokens to generate per request: enough to time generation, few enough to take seconds.
DEFAULT_MAX_TOKENS = 32

#: The lengths of prompts that a full profile compares, in tokens, about; the requests of each.
SHAPES = {"short": 100, "medium": 500, "long": 1500}
SHAPE_COUNT = 5
#: How many requests each caller of a level makes, and how many of all are the least.
REQUESTS_PER_CALLER = 4
LEAST_PER_LEVEL = 10
#: A level whose tokens per second are not more than the best before it by this part brings nothing.
LEAST_GAIN = 0.1
#: A level with more failures than this part, and more than one, is beyond what the model can serve.
MOST_FAILURES = 0.05


class ProfileMode(StrEnum):
    """How thorough a profile is: ``quick`` takes seconds and is indicative, ``full`` takes minutes."""

    QUICK = "quick"
    FULL = "full"


class ProfileOptions(Value, frozen=True, kw_only=True):
    """How to measure a model.

    ``test_count`` requests, one after the other, make the figures; each may generate ``max_tokens``. ``max_cost`` is a
    hard limit in USD. With ``cold_start`` a local model that is idle is unloaded and loaded again, to see how long that
    takes. ``max_concurrency`` ends a full profile's search for the point of saturation.
    """

    mode: ProfileMode = ProfileMode.QUICK
    test_count: int = 10
    max_tokens: int = DEFAULT_MAX_TOKENS
    max_cost: float | None = None
    cold_start: bool = False
    max_concurrency: int = 32

    def check(self) -> None:
        """Raise ``ValidationError`` for what no profile can do."""
        if isinstance(self.test_count, bool) or not 1 <= self.test_count <= MAX_TEST_COUNT:
            raise ValidationError(f"A profile takes 1 to {MAX_TEST_COUNT} test requests, not {self.test_count}.")
        if self.max_tokens < 1:
            raise ValidationError(f"A request generates 1 token or more, not {self.max_tokens} (max_tokens).")
        if not 1 <= self.max_concurrency <= MAX_CONCURRENCY:
            raise ValidationError(f"1 to {MAX_CONCURRENCY} requests at once can be tried, not {self.max_concurrency}.")
        if self.max_cost is not None and not (math.isfinite(self.max_cost) and self.max_cost >= 0):
            raise ValidationError(f"max_cost is an amount in USD, 0 or more, not {self.max_cost}.")


class Stage(Value, frozen=True, kw_only=True):
    """Requests of one kind: ``warmup`` that are in no figure, then ``count``, ``concurrency`` at once.

    Prompts have about ``prompt_tokens``; ``None`` is the usual mix of 40 to 300.
    """

    name: str
    count: int
    warmup: int = 0
    concurrency: int = 1
    prompt_tokens: int | None = None

    @property
    def requests(self) -> int:
        """All of them."""
        return self.warmup + self.count


#: The stage whose samples make the figures of either mode.
TEST = "test"


def stages(options: ProfileOptions, context_window: int | None) -> tuple[Stage, ...]:
    """What to do, in order: the test itself, then prompts of several lengths, then more and more callers at once.

    Prompts that would not fit the window are left out. The last stages are carried out until the model is saturated.
    """
    test = Stage(name=TEST, count=options.test_count, warmup=1)
    if options.mode is ProfileMode.QUICK:
        return (test,)
    fitting = {
        name: tokens
        for name, tokens in SHAPES.items()
        if context_window is None or 1.5 * tokens + options.max_tokens <= context_window
    }
    shapes = [Stage(name=name, count=SHAPE_COUNT, prompt_tokens=tokens) for name, tokens in fitting.items()]
    levels, concurrency = [], 2
    while concurrency <= options.max_concurrency:
        count = max(LEAST_PER_LEVEL, REQUESTS_PER_CALLER * concurrency)
        levels.append(Stage(name=f"x{concurrency}", count=count, warmup=concurrency, concurrency=concurrency))
        concurrency *= 2
    return (test, *shapes, *levels)


def saturated(speeds: Sequence[float | None], failures: int, requests: int) -> bool:
    """Whether the latest level shows that more callers bring no more.

    ``speeds`` are the tokens (or else requests) per second of all levels so far; the latest had so many ``failures``.
    """
    if failures > 1 and failures > MOST_FAILURES * requests:
        return True
    latest, earlier = speeds[-1], [speed for speed in speeds[:-1] if speed is not None]
    return latest is None or (bool(earlier) and latest < max(earlier) * (1 + LEAST_GAIN))
