"""Whether a model became faster or slower since it was last profiled. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median

from noa.measurement.profile_plan import TEST
from noa.measurement.samples import Sample
from noa.measurement.significance import paired_p_value
from noa.models import Value

#: A difference counts if chance alone would show one as large less often than this …
SIGNIFICANCE = 0.01
#: … and if it is at least this part of what it was before: less is no news, however sure.
LEAST_CHANGE = 0.05

_FIGURES: tuple[tuple[str, str, Callable[[Sample], float | None]], ...] = (
    ("ttftMs", "TTFT", lambda sample: None if sample.cache_hit else sample.ttft_ms),
    ("tpotMs", "TPOT", lambda sample: sample.tpot_ms),
)


class Change(Value, frozen=True, kw_only=True):
    """One figure's medians then and now, over the prompts that both profiles have.

    ``change`` is the median over the prompts, relative: 0.12 is 12 % slower, −0.12 is 12 % faster.
    """

    figure: str
    before: float
    after: float
    change: float
    p_value: float
    significant: bool


class Comparison(Value, frozen=True, kw_only=True):
    """A profile against an earlier one of the same model, made alike; ``summary`` says it in words."""

    since: datetime
    changes: tuple[Change, ...]
    summary: str


def compare(before: Sequence[Sample], since: datetime, after: Sequence[Sample]) -> Comparison | None:
    """What changed in TTFT and TPOT; ``None`` where nothing can be compared.

    The prompts of all profiles are the same but for the nonce, so each request is compared with the one of the same
    number: differences between long and short prompts cancel out. E2E is left out: it follows from the two, and from
    how long the answers happen to be.
    """
    changes = [
        (label, change)
        for figure, label, value in _FIGURES
        if (change := _change(figure, _by_prompt(before, value), _by_prompt(after, value))) is not None
    ]
    if not changes:
        return None
    sentence = "; ".join(_said(label, change, since) for label, change in changes)
    return Comparison(since=since, changes=tuple(change for _, change in changes), summary=f"{sentence}.")


def _by_prompt(samples: Iterable[Sample], value: Callable[[Sample], float | None]) -> dict[int, float]:
    tests = (sample for sample in samples if sample.stage == TEST and not sample.warmup and sample.success)
    known = ((sample.prompt_number, value(sample)) for sample in tests)
    return {number: each for number, each in known if number is not None and each is not None and each > 0}


def _change(figure: str, before: Mapping[int, float], after: Mapping[int, float]) -> Change | None:
    common = sorted(before.keys() & after.keys())
    if not common:
        return None
    ratios = [math.log(after[number] / before[number]) for number in common]
    change = math.exp(median(ratios)) - 1
    p_value = paired_p_value(ratios)
    return Change(
        figure=figure,
        before=median(before[number] for number in common),
        after=median(after[number] for number in common),
        change=change,
        p_value=p_value,
        significant=p_value < SIGNIFICANCE and abs(change) >= LEAST_CHANGE,
    )


def _said(label: str, change: Change, since: datetime) -> str:
    pace = "slower" if change.change > 0 else "faster"
    sure = "significant" if change.significant else "not significant"
    medians = f"p50 {change.after:.1f} ms, was {change.before:.1f} ms"
    return f"{label} {abs(change.change):.0%} {pace} than on {since:%Y-%m-%d %H:%M} UTC ({medians}), {sure}"
