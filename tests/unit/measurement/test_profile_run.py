"""A profile measures what was really sent and answered; here against planted times on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from noa.chat import (
    ChatEvent,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from noa.errors import ProviderConnectionError, ValidationError
from noa.measurement.profile import Profiler, ProfileRun
from noa.measurement.profile_plan import ProfileMode, ProfileOptions
from noa.measurement.prompts import prompts
from noa.measurement.samples import Distribution, Sample
from noa.measurement.stopwatch import measure
from noa.measurement.summary import ProfileMetrics
from noa.models import Price, PriceSource

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STARTED = ReplyStarted(id="1", model="m", created=0)
FINISHED = ReplyFinished(finish_reason="length")

#: What an answer is made of: how many milliseconds pass, and what comes then.
Script = Sequence[tuple[float, ChatEvent | Exception]]


def counted(tokens: int) -> UsageReported:
    return UsageReported(usage=Usage(prompt_tokens=50, completion_tokens=tokens, cached_tokens=0))


def answer(ttft_ms: float, rest_ms: float, tokens: int = 11) -> Script:
    """An answer in two pieces, however many tokens it has."""
    return [
        (0, STARTED),
        (ttft_ms, TextDelta(text="many tokens at once ")),
        (rest_ms, TextDelta(text="and many more")),
        (1, FINISHED),
        (1, counted(tokens)),
    ]


REFUSED: Script = [(3, ProviderConnectionError("Nothing answers."))]


class Model:
    """Answers each request with the next script, in the time of its own clock."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.seconds = 1000.0
        self.asked: list[tuple[str, int]] = []
        self.told: list[tuple[int, int, str]] = []

    def clock(self) -> float:
        return self.seconds

    async def ask(self, prompt: str, max_tokens: int) -> AsyncIterator[ChatEvent]:
        self.asked.append((prompt, max_tokens))
        for milliseconds, event in self.scripts.pop(0):
            self.seconds += milliseconds / 1000
            if isinstance(event, Exception):
                raise event
            yield event

    def profiler(self, test_count: int, price: Price | None = None, **options: Any) -> Profiler:
        return Profiler(
            self.ask,
            ProfileOptions(test_count=test_count, **options),
            clock=self.clock,
            wall_clock=lambda: NOON,
            nonce="nonce",
            price=price,
            progress=lambda done, total, stage: self.told.append((done, total, stage)),
        )

    async def profile(self, test_count: int, **options: Any) -> ProfileRun:
        profiler = self.profiler(test_count, **options)
        await profiler.run()
        return profiler.result()


async def measured(script: Script) -> Sample:
    model = Model(script)
    return await measure(model.ask, "prompt", 32, model.clock)


async def test_planted_times_come_out_exactly() -> None:
    times = [(10, 100), (30, 300), (20, 200), (50, 500), (40, 400)]
    model = Model(answer(5000, 50), *(answer(*pair) for pair in times))
    metrics = (await model.profile(5)).metrics
    assert metrics.ttft_ms.p50 == pytest.approx(30)
    assert metrics.e2e_ms.p50 == pytest.approx(330)
    # In two chunks of 5.5 tokens each, so that the second took all of the time.
    assert metrics.tpot_ms.p50 == pytest.approx(300 / 5.5)
    assert metrics.ttft_ms.min == pytest.approx(10)
    assert metrics.ttft_ms.max == pytest.approx(50)
    assert metrics.average_latency == pytest.approx(330)
    assert metrics.tokens_per_second == pytest.approx(5 * 11 / 1.65)
    assert metrics.ttft_ms.p90 is None
    assert (metrics.test_count, metrics.failures, metrics.success_rate) == (5, 0, 1.0)


async def test_the_first_request_is_recorded_apart_and_is_no_cold_start_by_itself() -> None:
    run = await Model(answer(5000, 50), answer(10, 10)).profile(1)
    assert run.metrics.first_request_ms == pytest.approx(5000)
    assert run.metrics.cold_start_ms is None
    assert run.after_load(1000).metrics.cold_start_ms == pytest.approx(6000)
    assert run.metrics.ttft_ms.max == pytest.approx(10)
    assert [sample.warmup for sample in run.samples] == [True, False]


async def test_failures_are_counted_exactly_and_in_no_time() -> None:
    run = await Model(answer(9, 9), answer(10, 10), REFUSED, answer(10, 10), REFUSED).profile(4)
    assert (run.metrics.failures, run.metrics.success_rate, run.metrics.test_count) == (2, 0.5, 4)
    assert run.metrics.average_latency == pytest.approx(20)
    assert [sample.error_code for sample in run.samples[1:]] == [None, "CONNECTION_ERROR", None, "CONNECTION_ERROR"]
    assert [sample.error for sample in run.samples[1:]] == [None, "Nothing answers.", None, "Nothing answers."]
    assert run.metrics.errors == {"CONNECTION_ERROR": 2}


async def test_a_failed_first_request_says_nothing_of_a_cold_start() -> None:
    run = await Model(REFUSED, answer(10, 10)).profile(1)
    assert (run.metrics.first_request_ms, run.metrics.failures) == (None, 0)
    assert run.after_load(1000).metrics.cold_start_ms is None


async def test_chunks_are_not_taken_for_tokens() -> None:
    sample = await measured([(1, TextDelta(text="a b c d")), (2, TextDelta(text="e f")), (1, FINISHED)])
    assert (sample.completion_tokens, sample.token_source, sample.tpot_ms) == (None, "unknown", None)
    sample = await measured(answer(10, 100, tokens=101))
    assert (sample.completion_tokens, sample.token_source) == (101, "usage")
    assert sample.tpot_ms == pytest.approx(100 / 50.5)


async def test_time_to_first_token_ends_with_content() -> None:
    sample = await measured(
        [
            (5, STARTED),
            (5, TextDelta(text="")),
            (5, ThinkingDelta(signature="opaque")),
            (5, TextDelta(text="now")),
            (100, FINISHED),
        ]
    )
    assert sample.ttft_ms == pytest.approx(20)
    assert sample.e2e_ms == pytest.approx(20)


async def test_reasoning_is_content_but_no_answer() -> None:
    sample = await measured([(5, ThinkingDelta(text="hm")), (7, TextDelta(text="yes")), (3, FINISHED)])
    assert sample.ttft_ms == pytest.approx(5)
    assert sample.first_answer_ms == pytest.approx(12)
    assert list(sample.gaps_ms) == pytest.approx([7])


async def test_a_tool_call_is_an_answer() -> None:
    sample = await measured([(5, ToolCallDelta(index=0, id="1", name="look")), (1, FINISHED)])
    assert sample.ttft_ms == pytest.approx(5)
    assert sample.first_answer_ms == pytest.approx(5)


async def test_a_stream_that_just_ends_is_a_failure() -> None:
    sample = await measured([(5, TextDelta(text="and then the"))])
    assert (sample.success, sample.error_code) == (False, "PROVIDER_ERROR")


async def test_a_later_count_of_tokens_replaces_an_earlier_one() -> None:
    sample = await measured([(1, counted(1)), (1, TextDelta(text="x")), (1, counted(7)), (1, FINISHED)])
    assert (sample.prompt_tokens, sample.completion_tokens, sample.cached_tokens) == (50, 7, 0)


async def test_an_empty_answer_has_an_end_but_no_first_token() -> None:
    sample = await measured([(5, STARTED), (5, FINISHED)])
    assert (sample.success, sample.ttft_ms) == (True, None)
    assert sample.e2e_ms == pytest.approx(10)


async def test_prompts_are_all_different_from_the_first_character_on() -> None:
    model = Model(*[answer(1, 1)] * 13)
    await model.profile(12, max_tokens=48)
    asked = [prompt for prompt, _ in model.asked]
    assert len({prompt.split("]")[0] for prompt in asked}) == 13
    assert all(prompt.startswith("[nonce-") for prompt in asked)
    assert {max_tokens for _, max_tokens in model.asked} == {48}
    assert set(prompts("one", 13)).isdisjoint(prompts("other", 13))


async def test_prompts_vary_in_length() -> None:
    words = [len(prompt.split()) for prompt in prompts("nonce", 12)]
    assert min(words) < 50
    assert 150 < max(words) < 300


async def test_progress_is_told_after_each_request() -> None:
    model = Model(*[answer(1, 1)] * 3)
    await model.profile(2)
    assert model.told == [(1, 3, "test"), (2, 3, "test"), (3, 3, "test")]


@pytest.mark.parametrize("test_count", [0, -1, 1001, True])
async def test_an_impossible_number_of_requests_is_refused_before_any(test_count: int) -> None:
    model = Model()
    with pytest.raises(ValidationError, match="1 to 1000"):
        await model.profile(test_count)
    assert model.asked == []


def test_the_limits_themselves_are_allowed() -> None:
    ProfileOptions(test_count=1, max_concurrency=1, max_cost=0).check()
    ProfileOptions(test_count=1000, max_concurrency=256).check()


async def test_cancelling_stops_at_once_and_keeps_what_was_measured() -> None:
    model, asked, closed = Model(answer(50, 5), answer(10, 10)), asyncio.Event(), asyncio.Event()

    async def endless(prompt: str, max_tokens: int) -> AsyncIterator[ChatEvent]:
        if model.scripts:
            async for event in model.ask(prompt, max_tokens):
                yield event
            return
        try:
            asked.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    profiler = Profiler(
        endless, ProfileOptions(test_count=5), clock=model.clock, wall_clock=lambda: NOON, nonce="nonce"
    )
    profile = asyncio.create_task(profiler.run())
    await asked.wait()
    profile.cancel()
    with pytest.raises(asyncio.CancelledError):
        await profile
    assert closed.is_set()
    metrics = profiler.result().metrics
    assert (metrics.test_count, metrics.stopped) == (1, "asked")
    assert metrics.ttft_ms.p50 == pytest.approx(10)


async def test_what_is_no_failure_of_a_provider_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await Model([(1, ZeroDivisionError())]).profile(1)


async def test_a_record_keeps_every_sample_and_the_formulas_version() -> None:
    run = await Model(answer(5000, 50), answer(10, 10), REFUSED).profile(2)
    record = run.record("a:1", NOON)
    samples = msgspec.json.decode(record.samples_json, type=list[Sample])
    assert samples == [*run.samples]
    assert len(samples) == 3
    assert msgspec.json.decode(record.metrics_json, type=ProfileMetrics) == run.metrics
    assert (record.key, record.at, record.formula_version) == ("a:1", NOON, run.metrics.formula_version)
    assert run.metrics.tpot_ms != Distribution()


# Full profiles.


async def test_a_full_profile_goes_on_with_longer_prompts_and_more_callers_until_that_brings_no_more() -> None:
    model = Model(*[answer(10, 10)] * 1000)
    metrics = (await model.profile(4, mode=ProfileMode.FULL)).metrics
    assert metrics.test_count == 4
    assert [(shape.name, shape.requests, shape.failures) for shape in metrics.shapes] == [
        ("short", 5, 0),
        ("medium", 5, 0),
        ("long", 5, 0),
    ]
    lengths = [sum(len(prompt) for prompt, _ in model.asked[5 + each * 5 : 10 + each * 5]) / 5 for each in range(3)]
    assert lengths == pytest.approx([400, 2000, 6000], rel=0.01)
    # This model serves one after the other, so two callers get no more than one does.
    assert [level.concurrency for level in metrics.levels] == [1, 2]
    assert metrics.saturation == 1
    assert metrics.stopped is None


async def test_prompts_that_do_not_fit_the_window_are_left_out() -> None:
    model = Model(*[answer(10, 10)] * 1000)
    profiler = Profiler(
        model.ask,
        ProfileOptions(test_count=1, mode=ProfileMode.FULL),
        clock=model.clock,
        wall_clock=lambda: NOON,
        nonce="nonce",
        context_window=1000,
    )
    await profiler.run()
    assert [shape.name for shape in profiler.result().metrics.shapes] == ["short", "medium"]


# Money.

PRICE = Price(input=1.0, output=100.0, source=PriceSource.CONFIGURED)


async def test_a_profile_ends_before_it_could_cost_more_than_allowed() -> None:
    model = Model(*[answer(10, 10, tokens=32)] * 100)
    profiler = model.profiler(50, price=PRICE, max_cost=0.05)
    await profiler.run()
    metrics = profiler.result().metrics
    assert metrics.stopped == "max-cost"
    assert metrics.cost_usd == pytest.approx((50 + 3200) / 1e6 * len(model.asked))
    assert metrics.cost_usd is not None
    assert 0.04 < metrics.cost_usd <= 0.05
    assert metrics.test_count > 10


async def test_failures_that_may_have_cost_something_count_against_the_limit() -> None:
    broken: Script = [(1, TextDelta(text="and then the"))]
    model = Model(*[broken] * 100)
    profiler = model.profiler(50, price=PRICE, max_cost=0.05)
    await profiler.run()
    assert len(model.asked) < 16
    assert profiler.result().metrics.cost_usd is None


async def test_without_a_known_price_nothing_is_sent_within_a_limit() -> None:
    model = Model()
    profiler = model.profiler(1, price=None, max_cost=100.0)
    await profiler.run()
    assert (model.asked, profiler.stopped) == ([], "max-cost")


# What it was before.


def slower(run: ProfileRun, by: float) -> ProfileRun:
    def later(sample: Sample) -> Sample:
        assert sample.ttft_ms is not None
        assert sample.e2e_ms is not None
        late = sample.ttft_ms * (by - 1)
        return msgspec.structs.replace(sample, ttft_ms=sample.ttft_ms + late, e2e_ms=sample.e2e_ms + late)

    return msgspec.structs.replace(run, samples=tuple(map(later, run.samples)))


async def test_a_model_that_became_slower_is_told_so_with_the_day() -> None:
    times = [answer(100 + 10 * (number % 5), 50) for number in range(11)]
    before = await Model(*times).profile(10)
    record = before.record("a:1", NOON - timedelta(days=3))
    after = slower(before, 1.12).compared_with([record])
    assert after.metrics.comparison is not None
    [ttft, tpot] = after.metrics.comparison.changes
    assert (ttft.figure, ttft.significant, tpot.figure, tpot.significant) == ("ttftMs", True, "tpotMs", False)
    assert ttft.change == pytest.approx(0.12)
    assert tpot.change == pytest.approx(0)
    assert after.metrics.comparison.summary.startswith(
        "TTFT 12% slower than on 2026-11-20 12:00 UTC (p50 134.4 ms, was 120.0 ms), significant; TPOT "
    )


async def test_small_changes_are_no_news_however_sure() -> None:
    before = await Model(*[answer(100, 50)] * 21).profile(20)
    comparison = slower(before, 1.03).compared_with([before.record("a:1", NOON)]).metrics.comparison
    assert comparison is not None
    assert comparison.changes[0].p_value < 0.001
    assert not comparison.changes[0].significant


async def test_only_profiles_made_alike_and_to_their_end_are_compared() -> None:
    run = await Model(*[answer(10, 10)] * 3).profile(2)
    other = await Model(*[answer(10, 10)] * 3).profile(2, max_tokens=64)
    stopped = msgspec.structs.replace(run, metrics=msgspec.structs.replace(run.metrics, stopped="asked"))
    old = msgspec.structs.replace(run.record("a:1", NOON), formula_version=1, metrics_json=b"{}")
    records = [other.record("a:1", NOON), stopped.record("a:1", NOON), old]
    assert run.compared_with(records).metrics.comparison is None
    assert run.compared_with([*records, run.record("a:1", NOON)]).metrics.comparison is not None
