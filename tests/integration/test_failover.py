"""Upstreams that refuse connections, are overloaded, limit, stall and recover: who serves, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from noa.config import Configuration, ProviderConfig, Secret
from noa.errors import ModelUnavailableError, ProviderConnectionError, RateLimitError
from noa.events import Event
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import Answer, ScriptedUpstream, events_answer, json_answer
from served import Served, serving

FIRST, SECOND = "openai:gpt-4", "claude:claude-x"
MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]
CHAT = {"model": FIRST, "messages": MESSAGES, "max_tokens": 9}
CHAT_PATH, MESSAGES_PATH = "/v1/chat/completions", "/v1/messages"
HELLO = b"Hello there, friend."
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
BUSY = {"error": {"type": "overloaded_error", "message": "busy"}}
OVERLOADED = json_answer({"error": {"type": "overloaded_error", "message": "too much"}}, 529)


class Clock:
    """The breakers' clock, which stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A manager over two upstreams: requests that the first does not take go to the second."""

    def __init__(self, manager: ModelManager, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
        self.manager = manager
        self.first = first
        self.second = second
        self.clock = Clock()
        self.events: list[Event] = []
        manager.on("*", self.events.append)

    def told(self, *types: str) -> list[Event]:
        return [event for event in self.events if event.type in types]

    def story(self) -> list[str]:
        """What the breakers and failovers told, in order."""
        kinds = ("breaker-opened", "breaker-half-open", "breaker-closed", "rate-limited", "request-failed-over")
        return [event.type for event in self.told(*kinds)]

    def asked(self, upstream: ScriptedUpstream) -> int:
        """How many inferences an upstream was asked for."""
        return sum(request.path in (CHAT_PATH, MESSAGES_PATH) for request in upstream.requests)


def configured(
    home: Path, first: ScriptedUpstream, second: ScriptedUpstream, *, fallbacks: Sequence[str], **options: Any
) -> Configuration:
    key = Secret("sk-canary")
    return Configuration(
        home=home,
        providers=(
            ProviderConfig(type="openai", api_key=key, base_url=f"{first.url}/v1", **options),
            ProviderConfig(type="claude", api_key=key, base_url=second.url, max_retries=0),
        ),
        fallbacks={FIRST: tuple(fallbacks)} if fallbacks else {},
    )


async def paired(home: Path, *fallbacks: str, **options: Any) -> AsyncIterator[Pair]:
    async with ScriptedUpstream() as first, ScriptedUpstream(models=("claude-x",)) as second:
        configuration = configured(home, first, second, fallbacks=fallbacks, **options)
        manager = ModelManager(configuration=configuration, runtime=FakeRuntime())
        pair = Pair(manager, first, second)
        async with manager:
            manager.inference.failover._clock = pair.clock
            await manager.load_model(FIRST)
            await manager.load_model(SECOND)
            yield pair


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async for pair in paired(tmp_path, "anthropic/claude-x", max_retries=0):
        yield pair


@pytest.fixture
async def server(pair: Pair) -> AsyncIterator[Served]:
    async with serving(pair.manager) as server:
        yield server


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Pair]:
    async for pair in paired(tmp_path, timeout_s=0.3):
        yield pair


async def served_by(server: Served, *, stream: bool = False, path: str = CHAT_PATH) -> tuple[str, str]:
    answer = await server.post(path, {**CHAT, "stream": stream})
    assert answer.status == 200, answer.body
    assert b"friend" in answer.body
    assert b"error" not in answer.body
    return answer.headers["x-noa-model"], answer.headers["x-noa-attempts"]


# Another can serve.


@pytest.mark.parametrize("path", [CHAT_PATH, MESSAGES_PATH])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (Answer(status=429, headers={"retry-after": "30"}), "RATE_LIMIT_ERROR"),
        (Answer(status=429), "RATE_LIMIT_ERROR"),
        (Answer(status=503), "MODEL_UNAVAILABLE"),
        (OVERLOADED, "MODEL_UNAVAILABLE"),
        (events_answer(ROLE, BUSY), "MODEL_UNAVAILABLE"),
    ],
    ids=["429 with Retry-After", "429", "503", "529", "overloaded before the first word of a stream"],
)
async def test_a_request_that_was_refused_is_served_by_the_fallback(
    pair: Pair, server: Served, refusal: Answer, reason: str, stream: bool, path: str
) -> None:
    if refusal.chunks and not stream:
        return
    pair.first.always(CHAT_PATH, refusal)
    assert await served_by(server, stream=stream, path=path) == (SECOND, "2")
    moved = pair.told("request-failed-over")[-1].data
    assert (moved["previous"], moved["key"], moved["reason"], moved["attempt"]) == (FIRST, SECOND, reason, 2)
    assert [line.success for line in pair.manager.performance_history(FIRST)] == [False]
    assert [line.success for line in pair.manager.performance_history(SECOND)] == [True]


async def test_the_story_of_an_outage_can_be_read_in_the_events(pair: Pair, server: Served) -> None:
    port = pair.first.port
    await pair.first.aclose()
    for _ in range(5):
        assert await served_by(server) == (SECOND, "2")
    assert await served_by(server, stream=True) == (SECOND, "1"), "the open breaker spares it the first attempt"
    opened = pair.told("breaker-opened")[0].data
    assert (opened["scope"], opened["name"], opened["for_s"]) == ("provider", "openai", 5.0)
    assert pair.told("request-failed-over")[-1].data["reason"] == "BREAKER_OPEN"
    providers = (await server.get("/api/v1/status/providers")).json
    [breaker] = providers["breakers"]
    assert (breaker["scope"], breaker["name"], breaker["state"], breaker["retryInS"]) == (
        ("provider", "openai", "open", 5.0)
    )
    assert 'noa_breaker_state{name="openai",scope="provider"} 2.0' in (await server.get("/metrics")).body.decode()

    pair.clock.now += 6
    assert await served_by(server) == (SECOND, "2"), "the probe failed, and somebody else served"
    assert pair.told("breaker-opened")[-1].data["for_s"] == 10.0
    async with ScriptedUpstream(port=port):
        pair.clock.now += 11
        assert [await served_by(server) for _ in range(3)] == [(FIRST, "1")] * 3
    assert [kind for kind in pair.story() if kind != "request-failed-over"] == [
        "breaker-opened",
        "breaker-half-open",
        "breaker-opened",
        "breaker-half-open",
        "breaker-closed",
    ]
    assert 'noa_breaker_state{name="openai",scope="provider"} 0.0' in (await server.get("/metrics")).body.decode()


async def test_one_request_at_a_time_tries_whether_a_model_has_recovered(pair: Pair, server: Served) -> None:
    pair.first.always(CHAT_PATH, Answer(status=503))
    for _ in range(5):
        await served_by(server)
    assert pair.story()[-2:] == ["breaker-opened", "request-failed-over"]
    before = pair.asked(pair.first)
    pair.first.always(CHAT_PATH, Answer(status=503, delay_s=0.2))
    pair.clock.now += 6
    replies = await asyncio.gather(*(pair.manager.chat("hello", FIRST, max_tokens=9) for _ in range(12)))
    assert {reply.model for reply in replies} == {"claude-x"}
    assert pair.asked(pair.first) == before + 1


async def test_nobody_fails_when_many_come_at_once_to_what_is_down(pair: Pair, server: Served) -> None:
    await pair.first.aclose()
    served = await asyncio.gather(*(served_by(server, stream=index % 2 == 0) for index in range(60)))
    assert {key for key, _ in served} == {SECOND}


async def test_what_asks_to_slow_down_is_left_alone_for_so_long(pair: Pair, server: Served) -> None:
    pair.first.script(CHAT_PATH, Answer(status=429, headers={"retry-after": "30"}))
    assert await served_by(server) == (SECOND, "2")
    pair.clock.now += 29
    assert await served_by(server) == (SECOND, "1")
    pair.clock.now += 2
    assert await served_by(server) == (FIRST, "1")
    assert pair.story() == ["rate-limited", "request-failed-over", "request-failed-over"]
    limited = pair.told("rate-limited")[0].data
    assert (limited["key"], limited["for_s"]) == (FIRST, 30.0)


async def test_when_all_refuse_the_caller_hears_the_model_it_asked_for(pair: Pair, server: Served) -> None:
    said = {"error": {"message": "slow down, please", "type": "rate_limit_error"}}
    pair.first.always(CHAT_PATH, json_answer(said, 429, headers={"retry-after": "7"}))
    pair.second.always(MESSAGES_PATH, OVERLOADED)
    for stream in (False, True):
        answer = await server.post(CHAT_PATH, {**CHAT, "stream": stream})
        assert (answer.status, answer.json, answer.headers["retry-after"]) == (429, said, "7")
        assert answer.headers["x-noa-model"] == FIRST
        assert answer.headers["x-noa-attempts"] == "2"


async def test_the_library_fails_over_as_the_server_does(pair: Pair) -> None:
    manager = pair.manager
    pair.first.always(CHAT_PATH, Answer(status=503))
    reply = await manager.chat("hello", FIRST, max_tokens=9)
    assert reply.text.encode() == HELLO
    assert "".join([piece async for piece in manager.stream("hello", FIRST, max_tokens=9)]).encode() == HELLO
    async with manager.use(FIRST) as model:
        assert (await model.chat("hello", max_tokens=9)).text.encode() == HELLO
        assert "".join([piece async for piece in model.stream("hello", max_tokens=9)]).encode() == HELLO
    async with manager.use(FIRST, failover=False) as model:
        with pytest.raises(ModelUnavailableError):
            await model.chat("hello", max_tokens=9)
    assert all(not active.in_flight for active in manager.loaded_models)


async def test_an_alias_goes_where_its_model_goes_and_others_choose_their_own_candidates(pair: Pair) -> None:
    pair.first.always(CHAT_PATH, Answer(status=503))
    await pair.manager.point_alias("prod", FIRST)
    assert (await pair.manager.chat("hello", "prod", max_tokens=9)).text.encode() == HELLO
    async with pair.manager.inference.serve(None, "chat", candidates=(SECOND, FIRST)) as serving_now:
        assert serving_now.key == SECOND


async def test_a_model_that_cannot_be_had_is_replaced_before_anything_is_sent(tmp_path: Path) -> None:
    async with ScriptedUpstream() as first, ScriptedUpstream(models=("claude-x",)) as second:
        configuration = configured(tmp_path, first, second, fallbacks=[SECOND])
        async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager:
            await first.aclose()
            assert (await manager.chat("hello", FIRST, max_tokens=9)).text.encode() == HELLO
            async with manager.use(FIRST) as model:
                assert model.key == SECOND


# Nobody else, or nobody else any more.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refusal", [Answer(status=429), Answer(status=503), OVERLOADED])
async def test_without_a_fallback_the_same_model_is_asked_again(alone: Pair, refusal: Answer, stream: bool) -> None:
    async with serving(alone.manager) as server:
        alone.first.script(CHAT_PATH, refusal)
        assert await served_by(server, stream=stream) == (FIRST, "2")
        alone.first.script(CHAT_PATH, refusal, refusal, refusal)
        answer = await server.post(CHAT_PATH, {**CHAT, "stream": stream})
        assert answer.status in (429, 503, 529)
        assert answer.headers["x-noa-attempts"] == "3", "twice again is the provider's limit"


@pytest.mark.parametrize(
    ("refusal", "status"), [(Answer(status=429, headers={"retry-after": "30"}), 429), (Answer(status=500), 502)]
)
async def test_what_shall_wait_long_or_may_have_been_done_is_not_asked_again(
    alone: Pair, refusal: Answer, status: int
) -> None:
    async with serving(alone.manager) as server:
        alone.first.always(CHAT_PATH, refusal)
        answer = await server.post(CHAT_PATH, CHAT)
        assert (answer.status, answer.headers["x-noa-attempts"]) == (status, "1")
        assert alone.asked(alone.first) == 1


async def test_a_spent_budget_ends_repetitions_and_tells_the_caller_not_to_add_to_them(alone: Pair) -> None:
    async with serving(alone.manager) as server:
        alone.first.always(CHAT_PATH, Answer(status=429, headers={"retry-after-ms": "1"}))
        answers = [await server.post(CHAT_PATH, CHAT) for _ in range(12)]
    assert {answer.status for answer in answers} == {429}
    assert "x-should-retry" not in answers[0].headers
    assert answers[-1].headers["x-should-retry"] == "false"
    assert alone.asked(alone.first) <= 12 + 10 + 12 * 0.2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_after_sending_is_a_504_in_time_and_asked_of_nobody_else(tmp_path: Path, stream: bool) -> None:
    async for pair in paired(tmp_path, SECOND, timeout_s=0.2):
        async with serving(pair.manager) as server:
            pair.first.script(CHAT_PATH, Answer(delay_s=60))
            answer = await server.post(CHAT_PATH, {**CHAT, "stream": stream})
            assert answer.status == 504
            assert (pair.asked(pair.first), pair.asked(pair.second)) == (1, 0)


@pytest.mark.parametrize("ending", [{"truncate": True}, {"reset": True}, {"hang": True}])
async def test_a_stream_that_broke_after_its_first_byte_is_an_error_event_and_never_tried_again(
    tmp_path: Path, ending: dict[str, Any]
) -> None:
    async for pair in paired(tmp_path, SECOND, timeout_s=0.2):
        async with serving(pair.manager) as server:
            chunk = {"choices": [{"index": 0, "delta": {"content": "half"}}]}
            pair.first.script(CHAT_PATH, events_answer(chunk, **ending))
            answer = await server.post(CHAT_PATH, {**CHAT, "stream": True})
            assert answer.status == 200
            assert b"half" in answer.body
            assert answer.body.rstrip().split(b"\n\n")[-1].startswith(b'data: {"error"')
            assert (pair.asked(pair.first), pair.asked(pair.second)) == (1, 0)


async def test_a_refusal_in_the_midst_of_a_stream_comes_too_late_to_go_elsewhere(pair: Pair) -> None:
    pair.first.script(CHAT_PATH, events_answer({"choices": [{"index": 0, "delta": {"content": "half"}}]}, BUSY))
    stream = pair.manager.stream("hello", FIRST, max_tokens=9)
    assert await anext(stream) == "half"
    with pytest.raises(ModelUnavailableError):
        await anext(stream)
    assert pair.asked(pair.second) == 0


async def test_without_failover_a_model_is_asked_once(alone: Pair) -> None:
    alone.first.always(CHAT_PATH, Answer(status=503))
    async with alone.manager.use(FIRST, failover=False) as model:
        with pytest.raises(ModelUnavailableError):
            await model.chat("hello", max_tokens=9)
    assert alone.asked(alone.first) == 1


async def test_a_caller_who_was_told_who_serves_is_not_passed_on(tmp_path: Path) -> None:
    async for pair in paired(tmp_path, SECOND, max_retries=0):
        async with serving(pair.manager, hold_s=0.05) as server:
            pair.first.script(CHAT_PATH, Answer(status=503, delay_s=0.3))
            answer = await server.post(CHAT_PATH, {**CHAT, "stream": True})
            assert (answer.status, answer.headers["x-noa-model"]) == (200, FIRST)
            assert b'data: {"error"' in answer.body
            assert pair.asked(pair.second) == 0


async def test_a_model_in_trouble_is_asked_all_the_same_when_there_is_no_other(alone: Pair) -> None:
    manager, port = alone.manager, alone.first.port
    await alone.first.aclose()
    for _ in range(8):
        with pytest.raises(ProviderConnectionError):
            async with manager.use(FIRST, failover=False) as model:
                await model.chat("hello", max_tokens=9)
    assert alone.told("breaker-opened")
    async with ScriptedUpstream(port=port):
        assert (await manager.chat("hello", FIRST, max_tokens=9)).text.encode() == HELLO
        assert (await manager.chat("hello", FIRST, max_tokens=9)).text.encode() == HELLO
    assert alone.story() == ["breaker-opened", "breaker-half-open", "breaker-closed"]


async def test_an_account_out_of_credit_is_not_asked_again(alone: Pair) -> None:
    said = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    alone.first.always(CHAT_PATH, json_answer(said, 429))
    with pytest.raises(RateLimitError, match="no credit"):
        await alone.manager.chat("hello", FIRST, max_tokens=9)
    assert alone.asked(alone.first) == 1
    await asyncio.sleep(0)
    assert alone.told("rate-limited")[0].data["name"] == "openai"
