"""What every provider does alike, the fake included. Each case runs over a real socket where the provider has one."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from noa.chat import (
    ChatEvent,
    ChatRequest,
    EmbeddingRequest,
    Message,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    TextPart,
    UsageReported,
)
from noa.config import ProviderConfig, Secret
from noa.errors import (
    AIProviderError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderResponseError,
    RateLimitError,
    UnsupportedError,
)
from noa.models import ModelCapability
from noa.providers.claude import ClaudeProvider
from noa.providers.fake import FakeModel, FakeProvider
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.ollama import OllamaProvider
from noa.providers.openai import OpenAIProvider
from noa.providers.protocol import Dialect, Provider, RawRequest
from scripted_ollama import ScriptedOllama
from scripted_upstream import Answer, ScriptedUpstream, events_answer, json_answer

#: Not of a form that anything would recognise as a key.
CANARY = "canary-0123456789abcdefghij"
REPLY = "Hello there, friend."
MODEL = "gpt-4"
EMBEDDER = "text-embedding-3-small"
ASK = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Say hello."),)),), max_tokens=16)


@dataclass
class Case:
    """A provider under test, and how to make things go wrong for it."""

    provider: Provider
    upstream: ScriptedUpstream | None
    chat_path: str
    go_down: Callable[[], Awaitable[None]]

    @property
    def fake(self) -> FakeProvider:
        assert isinstance(self.provider, FakeProvider)
        return self.provider

    def refuse(self, status: int, error: AIProviderError, **headers: str) -> None:
        """Have the next inference refused: with this status, or (the fake) this error."""
        if self.upstream is None:
            return self.fake.fail(error)
        body = {"type": "error", "error": {"type": "some_error", "message": "not now"}}
        return self.upstream.script(self.chat_path, json_answer(body, status, headers=headers))

    def hang(self, answer: Answer) -> asyncio.Event:
        """Have the next inference stop after ``answer``; the event tells that it has begun."""
        if self.upstream is not None:
            self.upstream.script(self.chat_path, answer)
            return self.upstream.answering
        entered = asyncio.Event()

        async def forever(_: float) -> None:
            entered.set()
            await asyncio.get_running_loop().create_future()

        self.fake._sleep = forever
        return entered

    async def let_go(self) -> None:
        """Return when the upstream was left, which must be soon."""
        if self.upstream is not None:
            await asyncio.wait_for(self.upstream.gone.wait(), 1)
        else:
            assert (self.fake.in_flight, self.fake.abandoned) == (0, 1)


def make_provider(kind: str, upstream: ScriptedUpstream) -> Provider:
    key = Secret(CANARY)
    if kind == "claude":
        return ClaudeProvider(ProviderConfig(type="claude", api_key=key, base_url=upstream.url))
    config = ProviderConfig(type=kind, api_key=key, base_url=f"{upstream.url}/v1")
    if kind == "ollama":
        return OllamaProvider(config)
    return LlamaCppProvider(config, ()) if kind == "llama.cpp" else OpenAIProvider(config)


@asynccontextmanager
async def open_case(kind: str) -> AsyncIterator[Case]:
    if kind == "fake":
        embedder = FakeModel(id=EMBEDDER, capabilities=(ModelCapability.EMBEDDINGS,))
        fake = FakeProvider([FakeModel(id=MODEL, reply=REPLY), embedder])

        async def take_down() -> None:
            fake.up = False

        yield Case(fake, None, "", take_down)
        return
    async with (ScriptedOllama if kind == "ollama" else ScriptedUpstream)(key=CANARY, reply=REPLY) as upstream:
        provider = make_provider(kind, upstream)
        path = "/v1/messages" if kind == "claude" else "/v1/chat/completions"
        yield Case(provider, upstream, path, upstream.aclose)
        await provider.aclose()


@pytest.fixture(params=["openai", "claude", "llama.cpp", "ollama", "fake"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with open_case(request.param) as opened:
        yield opened


@pytest.fixture(params=["openai", "claude", "llama.cpp", "ollama"])
async def remote(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with open_case(request.param) as opened:
        yield opened


def raw(case: Case, *, stream: bool) -> RawRequest:
    """The request a caller who speaks the provider's dialect would make."""
    (dialect,) = case.provider.dialects
    body = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    path = "/messages" if dialect is Dialect.ANTHROPIC else "/chat/completions"
    return RawRequest(dialect=dialect, path=path, body=msgspec.json.encode(body), model_id=MODEL, stream=stream)


async def collect(case: Case) -> list[ChatEvent]:
    return [event async for event in case.provider.stream(ASK, MODEL)]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_lists_its_models_under_its_own_name(case: Case) -> None:
    offers = await case.provider.list_models()
    assert {offer.model.id for offer in offers} == {MODEL, EMBEDDER}
    assert {offer.model.provider for offer in offers} == {case.provider.name}
    capabilities = {offer.model.id: offer.model.capabilities for offer in offers}
    assert ModelCapability.CHAT_COMPLETION in capabilities[MODEL]
    assert capabilities[EMBEDDER] == (ModelCapability.EMBEDDINGS,)


async def test_is_well_while_its_service_answers(case: Case) -> None:
    health = await case.provider.health()
    assert health.up
    assert health.latency_ms is not None
    assert health.error is None


async def test_is_down_with_a_reason_when_nothing_answers(case: Case) -> None:
    await case.go_down()
    health = await case.provider.health()
    assert not health.up
    assert health.error is not None
    assert case.provider.name in health.error


async def test_verifies_a_model_it_has(case: Case) -> None:
    model = await case.provider.verify(MODEL)
    assert (model.id, model.provider) == (MODEL, case.provider.name)


async def test_does_not_verify_a_model_it_has_not(case: Case) -> None:
    with pytest.raises(ModelNotFoundError, match="nonesuch") as caught:
        await case.provider.verify("nonesuch")
    assert caught.value.provider == case.provider.name


async def test_answers_whole(case: Case) -> None:
    reply = await case.provider.complete(ASK, MODEL)
    assert reply.text == REPLY
    assert reply.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


async def test_answers_bit_by_bit(case: Case) -> None:
    events = await collect(case)
    assert isinstance(events[0], ReplyStarted)
    assert text_of(events) == REPLY
    assert len([event for event in events if isinstance(event, TextDelta)]) == 3
    assert ReplyFinished(finish_reason="stop") in events
    usage = [event.usage for event in events if isinstance(event, UsageReported)]
    assert usage[-1].completion_tokens == 3


async def test_embeds_or_says_that_it_cannot(case: Case) -> None:
    request = EmbeddingRequest(inputs=("one", "three"))
    if Dialect.ANTHROPIC in case.provider.dialects:
        with pytest.raises(UnsupportedError, match="embedding"):
            await case.provider.embed(request, EMBEDDER)
        return
    reply = await case.provider.embed(request, EMBEDDER)
    assert [vector[0] for vector in reply.vectors] == [3.0, 5.0]


async def test_passes_a_raw_answer_on(case: Case) -> None:
    response = await case.provider.open(raw(case, stream=False))
    body = b"".join([chunk async for chunk in response.chunks()])
    assert REPLY.encode() in body
    assert msgspec.json.decode(body)["model"] == MODEL
    assert (response.status, response.content_type) == (200, "application/json")
    assert response.usage is not None
    assert response.usage.completion_tokens == 3


async def test_passes_a_raw_stream_on_and_tells_usage_and_beginning(case: Case) -> None:
    response = await case.provider.open(raw(case, stream=True))
    assert response.content_type.startswith("text/event-stream")
    assert (response.begun, response.usage) == (False, None)
    body = b"".join([chunk async for chunk in response.chunks()])
    assert b"Hello" in body
    assert b"friend." in body
    assert response.begun
    assert response.usage is not None
    assert response.usage.completion_tokens == 3
    await response.aclose()


async def test_an_unreachable_service_is_named_and_took_nothing(case: Case) -> None:
    await case.go_down()
    with pytest.raises(ProviderConnectionError) as caught:
        await case.provider.complete(ASK, MODEL)
    assert caught.value.provider == case.provider.name
    assert caught.value.message.startswith(f"{case.provider.name} cannot be reached")
    assert caught.value.details["sent"] is False
    assert caught.value.retryable


async def test_a_rate_limit_says_how_long(case: Case) -> None:
    wanted = RateLimitError("slow down", provider=case.provider.name, retry_after_s=7)
    case.refuse(429, wanted, **{"retry-after": "7"})
    with pytest.raises(RateLimitError) as caught:
        await case.provider.complete(ASK, MODEL)
    assert caught.value.provider == case.provider.name
    assert caught.value.retry_after_s == 7


async def test_a_failing_service_is_a_bad_gateway(case: Case) -> None:
    case.refuse(500, ProviderResponseError("it failed", provider=case.provider.name))
    with pytest.raises(ProviderResponseError) as caught:
        await collect(case)
    assert caught.value.provider == case.provider.name
    assert caught.value.status == 502


async def test_a_stream_that_stops_before_its_end_raises_after_what_came(case: Case) -> None:
    events: list[ChatEvent] = []
    if case.upstream is None:
        case.fake.fail(ProviderResponseError("it broke off", provider="fake"), after_pieces=2)
    else:
        chunks = await stream_chunks(case)
        case.upstream.script(case.chat_path, Answer(content_type="text/event-stream", chunks=cut(chunks)))

    async def read() -> None:
        async for event in case.provider.stream(ASK, MODEL):
            events.append(event)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ProviderResponseError) as caught:
        await read()
    assert caught.value.provider == case.provider.name
    assert text_of(events).startswith("Hello")
    assert not any(isinstance(event, ReplyFinished) for event in events)


async def stream_chunks(case: Case) -> list[bytes]:
    """The events of a good stream."""
    response = await case.provider.open(raw(case, stream=True))
    body = b"".join([chunk async for chunk in response.chunks()])
    return [event + b"\n\n" for event in body.split(b"\n\n") if event]


def cut(chunks: list[bytes]) -> list[bytes]:
    """The stream up to its first word, properly closed by HTTP."""
    end = next(index for index, chunk in enumerate(chunks) if b"Hello" in chunk)
    return chunks[: end + 1]


async def test_leaving_a_stream_lets_go_of_the_upstream(case: Case) -> None:
    begun = case.hang(Answer(content_type="text/event-stream", chunks=(b": hm\n\n",), hang=True))
    waiting = asyncio.ensure_future(collect(case))
    await begun.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await case.let_go()


@pytest.mark.parametrize("stage", [Answer(raw=b"", hang=True), Answer(chunks=(b"{",), hang=True)])
async def test_leaving_a_whole_answer_lets_go_of_the_upstream(case: Case, stage: Answer) -> None:
    begun = case.hang(stage)
    waiting = asyncio.ensure_future(case.provider.complete(ASK, MODEL))
    await begun.wait()
    await asyncio.sleep(0.05)  # So that the headers, if there are any, have arrived.
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await case.let_go()


async def test_closing_the_generator_early_lets_go_of_the_upstream(case: Case) -> None:
    if case.upstream is not None:
        case.hang(Answer(content_type="text/event-stream", chunks=cut(await stream_chunks(case)), hang=True))
    events = case.provider.stream(ASK, MODEL)
    async for event in events:
        if isinstance(event, TextDelta):
            break
    await events.aclose()
    await case.let_go()


async def test_closing_an_answer_ends_whoever_waits_for_more_of_it(case: Case) -> None:
    if case.upstream is not None:
        case.hang(Answer(content_type="text/event-stream", chunks=cut(await stream_chunks(case)), hang=True))
    response = await case.provider.open(raw(case, stream=True))
    if case.upstream is None:
        case.hang(Answer())
    received: list[bytes] = []
    some = asyncio.Event()

    async def read() -> None:
        async for chunk in response.chunks():
            received.append(chunk)
            some.set()

    reading = asyncio.ensure_future(read())
    await some.wait()
    await response.aclose()
    with pytest.raises(ProviderResponseError):
        await asyncio.wait_for(reading, 1)
    await case.let_go()


FAULTS = [
    json_answer({"error": {"message": f"Incorrect API key provided: {CANARY}", "type": "x"}}, 401),
    json_answer({"error": {"message": f"bad thing near {CANARY}", "type": "invalid_request_error"}}, 400),
    json_answer({"error": {"message": f"bad thing near {CANARY}", "type": "server_error"}}, 500),
    json_answer({"error": {"message": f"bad thing near {CANARY}"}}, 200),
    Answer(status=502, body=f"<html>{CANARY}</html>".encode(), content_type="text/html"),
    Answer(raw=b"HTTP/1.1 banana\r\n\r\n"),
    Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", truncate=True),
    Answer(raw=b"", reset=True),
    Answer(status=302, headers={"location": "http://127.0.0.1:1/elsewhere"}),
    events_answer({"error": {"message": f"bad thing near {CANARY}"}}),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_failure_shows_the_key(
    remote: Case, fault: Answer, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert remote.upstream is not None
    caplog.set_level(logging.DEBUG)
    remote.upstream.script(remote.chat_path, fault)
    with pytest.raises(AIProviderError) as caught:
        await (collect(remote) if streamed else remote.provider.complete(ASK, MODEL))
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.details) + repr(error.upstream)
    body = error.upstream.body if error.upstream else b""
    assert error.provider == remote.provider.name
    assert CANARY not in shown + caplog.text + repr(remote.provider)
    assert CANARY.encode() not in body


async def test_a_refused_key_is_the_providers_and_says_what_to_check(remote: Case) -> None:
    assert remote.upstream is not None
    remote.upstream.key = "another"
    for attempt in (remote.provider.complete(ASK, MODEL), remote.provider.verify(MODEL), remote.provider.list_models()):
        with pytest.raises(ProviderAuthenticationError) as caught:
            await attempt
        assert caught.value.message.startswith(f"{remote.provider.name} refused its key. Check ")
        assert caught.value.upstream is None
    assert not (await remote.provider.health()).up


async def test_the_key_travels_in_one_header_and_nothing_of_the_caller_does(remote: Case) -> None:
    assert remote.upstream is not None
    request = msgspec.structs.replace(
        raw(remote, stream=False),
        headers=(("authorization", "Bearer caller"), ("cookie", "a=b"), ("x-api-key", "caller"), ("x-secret", "1")),
    )
    await remote.provider.open(request)
    headers = remote.upstream.requests[-1].headers
    carrying = [name for name, value in headers.items() if CANARY in value]
    assert carrying == ["x-api-key" if Dialect.ANTHROPIC in remote.provider.dialects else "authorization"]
    assert "caller" not in " ".join(headers.values())
    assert not {"cookie", "x-secret"} & set(headers)
    assert headers["accept-encoding"] == "identity"
