"""What a wire can express, it keeps: canonical values written and read back are the same values."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from conversations import (
    messages,
    named_outputs,
    replies,
    reply_of,
    requests,
    schema_outputs,
    signed,
    strange_fields,
    stream_of,
    unsigned,
    usages,
)
from noa.chat import AnyPart, ChatEvent, ChatReply, ChatRequest, TextPart, ThinkingPart, Usage
from noa.dialects import anthropic, openai
from noa.dialects.sse import SseParser

openai_requests = requests(
    messages(unsigned, names=True),
    seed=st.none() | st.integers(-5, 2**40),
    parallel_tool_calls=st.none() | st.booleans(),
    json_output=named_outputs,
    extra=strange_fields,
    extra_dialect=st.just("openai"),
)
llama_requests = requests(messages(unsigned, pictures=True), extra_dialect=st.just("openai"))
anthropic_requests = requests(
    messages(signed, errors=True, pictures=True),
    json_output=schema_outputs,
    extra=strange_fields,
    extra_dialect=st.just("anthropic"),
)


def through_openai(events: list[ChatEvent], usage: bool = True) -> ChatReply:
    """The answer that a client of OpenAI's dialect makes of these events."""
    encoder, decoder, parser = openai.StreamEncoder(usage), openai.StreamDecoder("x"), SseParser()
    wire = b"".join(encoder.encode(event) for event in events) + encoder.close()
    read = [told for event in parser.feed(wire) for told in decoder.feed(event)]
    decoder.close()
    return reply_of(read)


def through_anthropic(events: list[ChatEvent], created: int) -> ChatReply:
    """The answer that a client of Anthropic's dialect makes of these events."""
    encoder, decoder, parser = anthropic.StreamEncoder(), anthropic.StreamDecoder("x", created=created), SseParser()
    wire = b"".join(encoder.encode(event) for event in events) + encoder.close()
    read = [told for event in parser.feed(wire) for told in decoder.feed(event)]
    decoder.close()
    return reply_of(read)


@given(openai_requests, st.booleans())
def test_openai_requests_keep_everything(request: ChatRequest, stream: bool) -> None:
    decoded = openai.decode_request(openai.encode_request(request, "m", stream=stream))
    assert decoded.request == msgspec.structs.replace(request, model="m")
    assert decoded.stream is stream
    assert decoded.include_usage is stream


@given(llama_requests)
def test_llama_cpp_is_sent_the_images_in_results_too(request: ChatRequest) -> None:
    wire = openai.encode_request(request, "m", stream=False, is_llama_cpp=True)
    assert openai.decode_request(wire).request == msgspec.structs.replace(request, model="m")


@given(anthropic_requests, st.booleans())
def test_anthropic_requests_keep_everything(request: ChatRequest, stream: bool) -> None:
    decoded = anthropic.decode_request(anthropic.encode_request(request, "m", stream=stream))
    assert decoded.request == msgspec.structs.replace(request, model="m")
    assert decoded.stream is stream


@given(replies(unsigned | signed, usage=st.none() | usages))
def test_openai_replies_keep_everything(reply: ChatReply) -> None:
    assert openai.decode_reply(openai.encode_reply(reply)) == reply


@given(replies(signed, created=st.just(7), usage=usages))
def test_anthropic_replies_keep_everything(reply: ChatReply) -> None:
    assert anthropic.decode_reply(anthropic.encode_reply(reply), created=7) == reply


@given(replies(unsigned | signed, usage=st.none() | usages))
def test_openai_streams_keep_everything(reply: ChatReply) -> None:
    assert through_openai(stream_of(reply)) == reply


@given(replies(signed, usage=usages.filter(lambda usage: None not in (usage.prompt_tokens, usage.completion_tokens))))
def test_anthropic_streams_keep_everything(reply: ChatReply) -> None:
    assert through_anthropic(stream_of(reply), reply.created) == reply


# From one dialect into the other, and back.


def unsign(request: ChatRequest) -> ChatRequest:
    """OpenAI's services have no use for signatures; the reasoning itself crosses."""
    return rewritten(
        request,
        lambda part: msgspec.structs.replace(part, signature=None) if isinstance(part, ThinkingPart) else part,
        lambda part: isinstance(part, ThinkingPart) and part.redacted is not None,
    )


def without_reasoning(request: ChatRequest) -> ChatRequest:
    """Anthropic takes back only what it signed."""
    return rewritten(request, lambda part: part, lambda part: isinstance(part, ThinkingPart))


def rewritten(
    request: ChatRequest, change: Callable[[AnyPart], AnyPart], leaves: Callable[[AnyPart], bool]
) -> ChatRequest:
    messages = tuple(
        msgspec.structs.replace(message, parts=tuple(change(part) for part in message.parts if not leaves(part)))
        for message in request.messages
    )
    return msgspec.structs.replace(request, messages=messages)


@given(requests(messages(signed), json_output=schema_outputs, extra_dialect=st.just("anthropic")))
def test_a_request_crosses_to_openai_and_back_with_all_but_signatures(request: ChatRequest) -> None:
    back = openai.decode_request(openai.encode_request(request, "m", stream=False)).request
    assert back == msgspec.structs.replace(unsign(request), model="m", extra_dialect="openai")


@given(requests(messages(unsigned), json_output=schema_outputs, extra_dialect=st.just("openai")))
def test_a_request_crosses_to_anthropic_and_back_with_all_but_unsigned_reasoning(request: ChatRequest) -> None:
    back = anthropic.decode_request(anthropic.encode_request(request, "m", stream=False)).request
    assert back == msgspec.structs.replace(without_reasoning(request), model="m", extra_dialect="anthropic")


@given(replies(signed, created=st.just(7), usage=usages))
def test_an_answer_crosses_over_openai_and_back_whole_and_streamed(reply: ChatReply) -> None:
    over_openai = openai.decode_reply(openai.encode_reply(reply))
    assert anthropic.decode_reply(anthropic.encode_reply(over_openai), created=7) == reply
    assert through_openai(stream_of(reply)) == reply


@given(replies(unsigned, usage=usages.filter(lambda usage: None not in (usage.prompt_tokens, usage.completion_tokens))))
def test_an_answer_of_openais_crosses_over_anthropic_and_back(reply: ChatReply) -> None:
    over_anthropic = anthropic.decode_reply(anthropic.encode_reply(reply), created=reply.created)
    assert openai.decode_reply(openai.encode_reply(over_anthropic)) == reply
    assert through_anthropic(stream_of(reply), reply.created) == reply


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_count_of_tokens_means_the_same_on_both_wires(fresh: int, read: int, wrote: int, out: int) -> None:
    usage = Usage(
        prompt_tokens=fresh + read + wrote, completion_tokens=out, cached_tokens=read, cache_write_tokens=wrote
    )
    reply = ChatReply(id="x", model="m", created=1, parts=(TextPart(text="a"),), usage=usage)
    over_anthropic = anthropic.decode_reply(anthropic.encode_reply(reply), created=1)
    assert openai.decode_reply(openai.encode_reply(over_anthropic)).usage == usage
