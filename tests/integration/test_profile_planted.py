"""A profile finds what was planted: real sockets, real times, and an upstream that behaves exactly as it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import Answer, Received, ScriptedUpstream, events_answer, json_answer

CHAT = "/v1/chat/completions"
KEY = "openai:gpt-4"
#: What is planted: the first token after 200 ms, then four tokens in each chunk, ten milliseconds for each token.
TTFT_S, CHUNK_S, CHUNKS, TOKENS_PER_CHUNK = 0.2, 0.04, 8, 4
TOKENS = CHUNKS * TOKENS_PER_CHUNK

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4"}


def delta(content: dict[str, object], finish_reason: str | None = None) -> dict[str, object]:
    return {**HEAD, "choices": [{"index": 0, "delta": content, "finish_reason": finish_reason}]}


def planted(ttft_s: float = TTFT_S, chunks: int = CHUNKS, **more: object) -> Answer:
    """A role-only chunk and an empty one at once, pings on the way, and the content at its times."""
    usage = {"prompt_tokens": 80, "completion_tokens": chunks * TOKENS_PER_CHUNK, "total_tokens": 80 + TOKENS, **more}
    early = [delta({"role": "assistant"}), delta({"content": ""})]
    content = [delta({"content": "four tokens in here "})] * chunks
    late: list[object] = [delta({}, "stop"), {**HEAD, "choices": [], "usage": usage}, "[DONE]"]
    answer = events_answer(*early, *content, *late)
    assert answer.chunks is not None
    pinged = [b": ping\n\n" + chunk for chunk in answer.chunks]
    times = [ttft_s + CHUNK_S * number for number in range(chunks)]
    moments = (0.0, ttft_s / 2, *times, *[times[-1] + 0.03] * len(late))
    return Answer(content_type=answer.content_type, chunks=pinged, moments_s=moments)


@asynccontextmanager
async def managed(upstream: ScriptedUpstream) -> AsyncIterator[ModelManager]:
    provider = ProviderConfig(type="openai", base_url=f"{upstream.url}/v1", api_key=Secret("unused"))
    configuration = Configuration(home=Path("/nowhere"), providers=(provider,))
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager:
        yield manager


async def test_medians_are_what_was_planted_and_failures_are_counted_exactly() -> None:
    broken = events_answer(delta({"content": "and then the"}), truncate=True)
    failure = json_answer({"error": {"message": "out of order", "type": "server_error"}}, 500)
    script = [planted(), planted(), failure, planted(), broken, planted(), failure, *[planted()] * 5]
    async with ScriptedUpstream() as upstream, managed(upstream) as manager:
        upstream.script(CHAT, *script)
        metrics = await manager.profile_model(KEY, len(script) - 1)
    assert (metrics.test_count, metrics.failures) == (11, 3)
    assert sum(metrics.errors.values()) == 3
    assert metrics.success_rate == pytest.approx(8 / 11)
    assert metrics.ttft_ms.p50 == pytest.approx(TTFT_S * 1000, rel=0.05)
    assert metrics.tpot_ms.p50 == pytest.approx(CHUNK_S * 1000 / TOKENS_PER_CHUNK, rel=0.05)
    assert metrics.itl_ms.p50 == pytest.approx(CHUNK_S * 1000, rel=0.05)
    whole_s = TTFT_S + CHUNK_S * (CHUNKS - 1)
    assert metrics.e2e_ms.p50 == pytest.approx(whole_s * 1000, rel=0.05)
    assert metrics.tokens_per_second == pytest.approx(TOKENS / whole_s, rel=0.05)
    assert metrics.output_tokens_per_second == pytest.approx(TOKENS_PER_CHUNK / CHUNK_S, rel=0.05)
    assert metrics.tokens_per_chunk == pytest.approx(TOKENS_PER_CHUNK)
    assert metrics.p50_intervals.ttft_ms is not None
    assert metrics.p50_intervals.ttft_ms.low <= TTFT_S * 1000 * 1.05


class CachingUpstream(ScriptedUpstream):
    """Answers a prompt at once if it knows how it begins, without a word of it."""

    SLOW_S, FAST_S = 0.15, 0.01

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self._seen: set[str] = set()
        self._answers_everything = options.get("answers_everything", False)

    def _choose(self, request: Received) -> Answer:
        if not request.path.startswith(CHAT):
            return super()._choose(request)
        beginning = "" if self._answers_everything else request.json["messages"][-1]["content"][:24]
        known = beginning in self._seen
        self._seen.add(beginning)
        details = {"prompt_tokens_details": {"cached_tokens": 80}} if known and self._answers_everything else {}
        return planted(self.FAST_S if known else self.SLOW_S, chunks=1, **details)


async def ttft_ms(manager: ModelManager, prompts: Sequence[str]) -> list[float]:
    for prompt in prompts:
        async for _ in manager.stream(prompt, KEY, max_tokens=32):
            pass
    return [request.ttft_ms for request in manager.performance_history(KEY) if request.ttft_ms is not None]


async def test_a_model_behind_a_prompt_cache_is_not_reported_faster_than_it_is() -> None:
    async with CachingUpstream() as upstream, managed(upstream) as manager:
        # The cache works: the same prompt again is fast.
        first, again = await ttft_ms(manager, ["the very same words, once more"] * 2)
        assert again < first / 2
        for _ in range(2):
            metrics = await manager.profile_model(KEY, 5)
            assert metrics.ttft_ms.min is not None
            assert metrics.ttft_ms.min >= CachingUpstream.SLOW_S * 1000 * 0.95
        prompts = [json.loads(request.body)["messages"][-1]["content"] for request in upstream.requests[-12:]]
        assert len({prompt[:24] for prompt in prompts}) == 12


async def test_an_answer_from_a_cache_is_in_no_time_and_said() -> None:
    async with CachingUpstream(answers_everything=True) as upstream, managed(upstream) as manager:
        metrics = await manager.profile_model(KEY, 3)
    assert (metrics.cache_hits, metrics.cached_tokens) == (3, 240)
    assert metrics.ttft_ms.samples == 0
    assert metrics.average_latency is None
    assert metrics.success_rate == 1.0
