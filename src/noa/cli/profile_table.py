"""Profiles for people: a line of a table for each, and what else is worth saying of one."""

from __future__ import annotations

from collections.abc import Iterator

from noa.cli.terminal import UNKNOWN
from noa.measurement.samples import Distribution
from noa.measurement.spending import Expense
from noa.measurement.summary import ProfileMetrics

COLUMNS = ("KEY", "TTFT", "TPOT", "E2E", "TOK/S", "PROMPT TOK/S", "SUCCESS", "COLD START", "MEMORY", "COST")
HISTORY_COLUMNS = ("WHEN", "MODE", "REQUESTS", "TTFT", "TPOT", "TOK/S", "SUCCESS", "COMPARED WITH THE ONE BEFORE")


def row(key: str, metrics: ProfileMetrics) -> tuple[str, ...]:
    """A profile beside others; times are medians."""
    return (
        key,
        milliseconds(metrics.ttft_ms.p50),
        milliseconds(metrics.tpot_ms.p50),
        milliseconds(metrics.e2e_ms.p50),
        number(metrics.tokens_per_second),
        number(metrics.prompt_tokens_per_second),
        share(metrics),
        milliseconds(metrics.cold_start_ms),
        UNKNOWN if metrics.peak_memory_usage is None else f"{metrics.peak_memory_usage:.0f} MB",
        money(metrics.cost_usd),
    )


def history_row(metrics: ProfileMetrics) -> tuple[str, ...]:
    """A profile of a model's history."""
    when = metrics.last_benchmarked
    return (
        UNKNOWN if when is None else f"{when.astimezone():%Y-%m-%d %H:%M}",
        metrics.mode if metrics.stopped is None else f"{metrics.mode} (stopped)",
        str(metrics.test_count),
        milliseconds(metrics.ttft_ms.p50),
        milliseconds(metrics.tpot_ms.p50),
        number(metrics.tokens_per_second),
        share(metrics),
        UNKNOWN if metrics.comparison is None else metrics.comparison.summary,
    )


def details(metrics: ProfileMetrics) -> Iterator[str]:
    """What the table has no room for; the spreads, the shapes, the levels, and what casts doubt on the figures."""
    for name, spread in (
        ("first token", metrics.ttft_ms),
        ("per token", metrics.tpot_ms),
        ("between chunks", metrics.itl_ms),
        ("whole answer", metrics.e2e_ms),
    ):
        yield f"{name}: {spread_of(spread)}"
    for shape in metrics.shapes:
        reads = f"{number(shape.prompt_tokens_per_second)} prompt tokens/s, {failures(shape.failures)}"
        size = UNKNOWN if shape.prompt_tokens is None else f"{shape.prompt_tokens:.0f}"
        yield f"prompts of {size} tokens: first token {milliseconds(shape.ttft_ms.p50)}, {reads}"
    for level in metrics.levels:
        pace = f"{number(level.tokens_per_second)} tokens/s, first token {milliseconds(level.ttft_ms.p50)}"
        yield f"{level.concurrency} at once: {pace}, {failures(level.failures)}"
    if metrics.saturation is not None:
        yield f"saturated with {metrics.saturation} at once"
    if metrics.comparison is not None:
        yield metrics.comparison.summary
    yield from doubts(metrics)


def doubts(metrics: ProfileMetrics) -> Iterator[str]:
    """What must be known to read the figures right."""
    for code, count in metrics.errors.items():
        yield f"{count} of {metrics.test_count} requests failed: {code}"
    if metrics.cache_hits:
        yield f"{metrics.cache_hits} prompts came from a cache and are in no time"
    if metrics.tokens_per_second is None and metrics.failures < metrics.test_count:
        yield "nobody counted the tokens of the answers, so there is no speed"
    if (metrics.tokens_per_chunk or 1) > 1.5:
        yield f"the answers came in chunks of {metrics.tokens_per_chunk:.1f} tokens, so gaps are between chunks"
    lag, first = metrics.client_lag_ms.p50, metrics.ttft_ms.p50
    if lag is not None and first is not None and lag > max(5.0, 0.05 * first):
        yield f"the server that measured was busy itself: it was late by {lag:.0f} ms half of the time"
    if metrics.stopped == "max-cost":
        yield "it ended early, because the next request might have cost more than --max-cost allows"


def expense(key: str, taken: Expense) -> str:
    """What a profile will take at most, in a sentence."""
    work = f"{taken.requests} requests, about {taken.prompt_tokens} tokens in and at most {taken.completion_tokens} out"
    if taken.cost_usd is None:
        return f"{key}: at most {work}; what it costs is not known."
    if taken.cost_usd == 0:
        return f"{key}: at most {work}, free."
    return f"{key}: at most {work}, about {money(taken.cost_usd)}."


def spread_of(spread: Distribution) -> str:
    """A distribution in a line, with the percentiles that it has samples enough for."""
    if not spread.samples:
        return UNKNOWN
    known = [(name, getattr(spread, name)) for name in ("p50", "p90", "p95", "p99")]
    shown = [f"{name} {milliseconds(value)}" for name, value in known if value is not None]
    ends = f"{milliseconds(spread.min)} to {milliseconds(spread.max)}"
    return f"{', '.join(shown)}, {ends} ({spread.samples})"


def milliseconds(value: float | None) -> str:
    """A duration, as exact as it is worth."""
    if value is None:
        return UNKNOWN
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def number(value: float | None) -> str:
    """A number with one decimal."""
    return UNKNOWN if value is None else f"{value:.1f}"


def failures(count: int) -> str:
    """How many failed."""
    return f"{count} failed" if count else "none failed"


def share(metrics: ProfileMetrics) -> str:
    """How many of the requests succeeded."""
    if metrics.success_rate is None:
        return UNKNOWN
    return f"{metrics.test_count - metrics.failures}/{metrics.test_count}"


def money(usd: float | None) -> str:
    """An amount, exact to where it begins to matter."""
    if usd is None:
        return UNKNOWN
    if usd == 0:
        return "free"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}"
