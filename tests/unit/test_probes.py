"""Probes: what each asks, and what an answer proves."""

from __future__ import annotations

import struct
import zlib
from datetime import date

import pytest

from noa import probes
from noa.chat import (
    AnyPart,
    ChatReply,
    EmbeddingReply,
    FinishReason,
    ReplyFinished,
    ReplyStarted,
    TextDelta,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from noa.models import ModelCapability, Price, PriceSource, ProbeOutcome

SUPPORTED, UNSUPPORTED, INCONCLUSIVE = ProbeOutcome.SUPPORTED, ProbeOutcome.UNSUPPORTED, ProbeOutcome.INCONCLUSIVE
PRICE = Price(input=1.0, output=2.0, source=PriceSource.CATALOG, as_of=date(2026, 10, 1))


def reply(*parts: AnyPart | str, finish: FinishReason = "stop") -> ChatReply:
    made = tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    return ChatReply(id="1", model="m", created=1, parts=made, finish_reason=finish)


def call(arguments: str, name: str = "report_weather") -> ToolCallPart:
    return ToolCallPart(id="1", name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply("Ready."), SUPPORTED),
        (reply(ThinkingPart(text="Hm"), finish="length"), SUPPORTED),
        (reply(""), INCONCLUSIVE),
        (reply(finish="length"), INCONCLUSIVE),
    ],
)
def test_any_answer_proves_that_a_model_chats(answer: ChatReply, outcome: ProbeOutcome) -> None:
    assert probes.judge_chat(answer).outcome is outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply('{"colour": "red", "warm": true}'), SUPPORTED),
        (reply('{"colour": "crimson", "warm": true}'), UNSUPPORTED),
        (reply('{"colour": "red"}'), UNSUPPORTED),
        (reply('{"colour": "red", "warm": true, "more": 1}'), UNSUPPORTED),
        (reply("A ripe tomato is red."), UNSUPPORTED),
        (reply("A ripe tomato is red and", finish="length"), UNSUPPORTED),
        (reply('{"colour": ', finish="length"), INCONCLUSIVE),
        (reply("", finish="length"), INCONCLUSIVE),
    ],
)
def test_only_an_answer_of_the_schema_proves_json(answer: ChatReply, outcome: ProbeOutcome) -> None:
    assert probes.judge_schema(answer).outcome is outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(call('{"city": "Paris"}')), SUPPORTED),
        (reply(call('{"town": "Paris"}')), UNSUPPORTED),
        (reply(call('{"city": 7}')), UNSUPPORTED),
        (reply(call("Paris")), UNSUPPORTED),
        (reply(call('{"city": "Par'), finish="length"), INCONCLUSIVE),
        (reply(call('{"city": "Paris"}', name="other")), UNSUPPORTED),
        (reply("It is sunny."), UNSUPPORTED),
        (reply("It is sunny and", finish="length"), UNSUPPORTED),
        (reply(finish="length"), INCONCLUSIVE),
    ],
)
def test_only_the_forced_call_with_its_arguments_proves_function_calling(
    answer: ChatReply, outcome: ProbeOutcome
) -> None:
    assert probes.judge_tool(answer).outcome is outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply("Purple"), SUPPORTED),
        (reply("It is violet."), SUPPORTED),
        (reply("Blue"), UNSUPPORTED),
        (reply("Green, yellow, orange or purple"), UNSUPPORTED),
        (reply("I cannot see pictures."), UNSUPPORTED),
        (reply(finish="length"), INCONCLUSIVE),
    ],
)
def test_only_the_name_of_the_colour_proves_sight(answer: ChatReply, outcome: ProbeOutcome) -> None:
    assert probes.judge_picture(answer, "purple").outcome is outcome


@pytest.mark.parametrize(
    ("vectors", "outcome"),
    [
        (((0.1, -0.2),), SUPPORTED),
        (((0.0, 0.0),), UNSUPPORTED),
        (((float("nan"), 1.0),), UNSUPPORTED),
        (((),), UNSUPPORTED),
        ((), UNSUPPORTED),
    ],
)
def test_only_a_vector_proves_embeddings(vectors: tuple[tuple[float, ...], ...], outcome: ProbeOutcome) -> None:
    assert probes.judge_embedding(EmbeddingReply(model="m", vectors=vectors)).outcome is outcome


def test_a_stream_must_bring_something_and_end() -> None:
    started, piece, finished = (
        ReplyStarted(id="1", model="m", created=1),
        TextDelta(text="a"),
        ReplyFinished(finish_reason="stop"),
    )
    assert probes.judge_stream([started, piece, finished]).outcome is SUPPORTED
    assert probes.judge_stream([started, finished]).outcome is INCONCLUSIVE
    assert probes.judge_stream([started, piece]).outcome is INCONCLUSIVE


def test_the_picture_is_a_png_of_one_colour() -> None:
    picture = probes.png((1, 2, 3), side=5)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    length = int.from_bytes(picture[33:37])
    header = struct.unpack(">IIBBBBB", picture[16:29])
    assert (picture[12:16], header) == (b"IHDR", (5, 5, 8, 2, 0, 0, 0))
    assert picture[37:41] == b"IDAT"
    data = picture[41 : 41 + length]
    assert zlib.decompress(data) == (b"\0" + b"\1\2\3" * 5) * 5
    assert int.from_bytes(picture[41 + length : 45 + length]) == zlib.crc32(b"IDAT" + data)
    assert picture.endswith(b"IEND" + zlib.crc32(b"IEND").to_bytes(4))


def test_every_request_is_bounded() -> None:
    requests = [probes.chat_request(), probes.schema_request(), probes.tool_request(), probes.picture_request("green")]
    assert {request.max_tokens for request in requests} == {probes.MAX_TOKENS}


def test_the_plan_of_all_probes_has_one_request_each_and_what_it_costs_at_most() -> None:
    plan = probes.plan("p:m", PRICE)
    assert set(plan.capabilities) == set(ModelCapability) - {ModelCapability.TEXT_GENERATION}
    assert plan.requests == 6
    assert plan.cost_usd == pytest.approx((plan.prompt_tokens * 1.0 + plan.completion_tokens * 2.0) / 1e6)


def test_an_unknown_price_makes_an_unknown_cost_and_free_is_free() -> None:
    half_known = Price(input=1.0, source=PriceSource.CATALOG)
    assert probes.plan("p:m", None).cost_usd is None
    assert probes.plan("p:m", half_known).cost_usd is None
    assert probes.plan("p:m", Price(input=0, output=0, source=PriceSource.LOCAL)).cost_usd == 0


def test_generating_text_is_probed_by_a_conversation() -> None:
    plan = probes.plan("p:m", None, [ModelCapability.TEXT_GENERATION])
    assert plan.capabilities == (ModelCapability.CHAT_COMPLETION,)
