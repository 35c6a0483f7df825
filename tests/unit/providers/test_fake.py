from __future__ import annotations

import msgspec
import pytest

from noa.chat import ChatRequest, EmbeddingRequest, Message, TextPart
from noa.errors import RateLimitError, UnsupportedError
from noa.models import Endpoint
from noa.providers.fake import FakeModel, FakeProvider
from noa.providers.protocol import Dialect, Locality, RawRequest

ASK = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Polly wants a cracker"),)),))


async def test_a_parrot_repeats_what_it_was_told() -> None:
    assert (await FakeProvider().complete(ASK, "parrot")).text == "Polly wants a cracker"


async def test_an_owned_model_asks_for_a_process() -> None:
    provider = FakeProvider([FakeModel(id="own", owned=True, size_bytes=7)])
    (offer,) = await provider.list_models()
    assert (offer.locality, offer.path, offer.size_bytes) == (Locality.OWNED, "own.gguf", 7)
    endpoint = Endpoint(base_url="http://localhost/v1", socket_path="/nowhere")
    await provider.complete(ASK, "own", endpoint)
    assert provider.endpoints == [endpoint]


async def test_delays_are_those_of_the_given_sleep() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    provider = FakeProvider(latency_s=5, piece_delay_s=2, sleep=sleep)
    await provider.complete(ASK, "parrot")
    assert slept == [5, 2, 2, 2]


async def test_failures_are_used_up_in_order_and_everything_is_counted() -> None:
    provider = FakeProvider()
    provider.fail(RateLimitError("slow down", provider="fake"), times=2)
    for _ in range(2):
        with pytest.raises(RateLimitError):
            await provider.complete(ASK, "parrot")
    await provider.complete(ASK, "parrot")
    await provider.verify("parrot")
    assert (provider.requests["parrot"], provider.verified["parrot"]) == (3, 1)
    assert (provider.in_flight, provider.most_in_flight, provider.abandoned) == (0, 1, 0)


async def test_only_embedding_models_embed() -> None:
    with pytest.raises(UnsupportedError):
        await FakeProvider().embed(EmbeddingRequest(inputs=("a",)), "parrot")


async def test_leaving_a_raw_stream_ends_it() -> None:
    provider = FakeProvider()
    body = {"model": "parrot", "stream": True, "messages": [{"role": "user", "content": "a b c"}]}
    request = RawRequest(
        dialect=Dialect.OPENAI,
        path="/chat/completions",
        body=msgspec.json.encode(body),
        model_id="parrot",
        stream=True,
    )
    response = await provider.open(request)
    assert provider.in_flight == 1
    await response.aclose()
    assert (provider.in_flight, provider.abandoned) == (0, 1)
