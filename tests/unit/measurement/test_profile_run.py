"""A profile measures what was really sent and answered; here against planted times on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

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
from noa.measurement.profile import ProfileRun, check_test_count, measure, prompts, run_profile
from noa.measurement.samples import Distribution, ProfileMetrics, Sample

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

    def clock(self) -> float:
        return self.seconds

    async def ask(self, prompt: str, max_tokens: int) -> AsyncIterator[ChatEvent]:
        self.asked.append((prompt, max_tokens))
        for milliseconds, event in self.scripts.pop(0):
            self.seconds += milliseconds / 1000
            if isinstance(event, Exception):
                raise event
            yield event

    async def profile(self, test_count: int, max_tokens: int = 32) -> ProfileRun:
        return await run_profile(
            self.ask,
            test_count=test_count,
            clock=self.clock,
            wall_clock=lambda: NOON,
            nonce="nonce",
            max_tokens=max_tokens,
        )


async def measured(script: Script) -> Sample:
    model = Model(script)
    return await measure(model.ask, "prompt", 32, model.clock)


async def test_planted_times_come_out_exactly() -> None:
    times = [(10, 100), (30, 300), (20, 200), (50, 500), (40, 400)]
    model = Model(answer(5000, 50), *(answer(*pair) for pair in times))
    metrics = (await model.profile(5)).metrics
    assert metrics.ttft_ms.p50 == pytest.approx(30)
    assert metrics.e2e_ms.p50 == pytest.approx(330)
    assert metrics.tpot_ms.p50 == pytest.approx(30)
    assert metrics.ttft_ms.min == pytest.approx(10)
    assert metrics.ttft_ms.max == pytest.approx(50)
    assert metrics.average_latency == pytest.approx(330)
    assert metrics.tokens_per_second == pytest.approx(5 * 11 / 1.65)
    assert metrics.ttft_ms.p90 is None
    assert (metrics.test_count, metrics.failures, metrics.success_rate) == (5, 0, 1.0)


async def test_the_cold_request_is_recorded_apart() -> None:
    run = await Model(answer(5000, 50), answer(10, 10)).profile(1)
    assert run.metrics.cold_start_ms == pytest.approx(5000)
    assert run.metrics.ttft_ms.max == pytest.approx(10)
    assert run.cold.ttft_ms == pytest.approx(5000)
    assert len(run.samples) == 1


async def test_failures_are_counted_exactly_and_in_no_time() -> None:
    run = await Model(answer(9, 9), answer(10, 10), REFUSED, answer(10, 10), REFUSED).profile(4)
    assert (run.metrics.failures, run.metrics.success_rate, run.metrics.test_count) == (2, 0.5, 4)
    assert run.metrics.average_latency == pytest.approx(20)
    assert [sample.error_code for sample in run.samples] == [None, "CONNECTION_ERROR", None, "CONNECTION_ERROR"]
    assert [sample.error for sample in run.samples] == [None, "Nothing answers.", None, "Nothing answers."]


async def test_a_failed_cold_request_is_no_cold_start() -> None:
    metrics = (await Model(REFUSED, answer(10, 10)).profile(1)).metrics
    assert (metrics.cold_start_ms, metrics.failures) == (None, 0)


async def test_chunks_are_not_taken_for_tokens() -> None:
    sample = await measured([(1, TextDelta(text="a b c d")), (2, TextDelta(text="e f")), (1, FINISHED)])
    assert (sample.completion_tokens, sample.token_source, sample.tpot_ms) == (None, "unknown", None)
    sample = await measured(answer(10, 100, tokens=101))
    assert (sample.completion_tokens, sample.token_source) == (101, "usage")
    assert sample.tpot_ms == pytest.approx(1)


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
    model, told = Model(*[answer(1, 1)] * 3), list[tuple[int, int]]()
    await run_profile(
        model.ask,
        test_count=2,
        clock=model.clock,
        wall_clock=lambda: NOON,
        nonce="nonce",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("test_count", [0, -1, 1001, True])
async def test_an_impossible_number_of_requests_is_refused_before_any(test_count: int) -> None:
    model = Model()
    with pytest.raises(ValidationError, match="1 to 1000"):
        await model.profile(test_count)
    assert model.asked == []


def test_the_limits_themselves_are_allowed() -> None:
    assert (check_test_count(1), check_test_count(1000)) == (1, 1000)


async def test_cancelling_stops_at_once_and_closes_the_stream() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def endless(_prompt: str, _max_tokens: int) -> AsyncIterator[ChatEvent]:
        try:
            asked.set()
            await asyncio.Event().wait()
            yield STARTED
        finally:
            closed.set()

    profile = asyncio.create_task(
        run_profile(endless, test_count=5, clock=lambda: 0.0, wall_clock=lambda: NOON, nonce="nonce")
    )
    await asked.wait()
    profile.cancel()
    with pytest.raises(asyncio.CancelledError):
        await profile
    assert closed.is_set()


async def test_what_is_no_failure_of_a_provider_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await Model([(1, ZeroDivisionError())]).profile(1)


async def test_a_record_keeps_every_sample_and_the_formulas_version() -> None:
    run = await Model(answer(5000, 50), answer(10, 10), REFUSED).profile(2)
    record = run.record("a:1", NOON)
    samples = msgspec.json.decode(record.samples_json, type=list[Sample])
    assert samples == [run.cold, *run.samples]
    assert msgspec.json.decode(record.metrics_json, type=ProfileMetrics) == run.metrics
    assert (record.key, record.at, record.formula_version) == ("a:1", NOON, run.metrics.formula_version)
    assert run.metrics.tpot_ms != Distribution()
