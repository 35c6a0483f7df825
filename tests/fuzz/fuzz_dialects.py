"""Both codecs and the parser of event streams, given what no honest peer sends.

    PYTHONPATH=tests python tests/fuzz/fuzz_dialects.py --seconds 60

Whatever comes is read, or refused by an error of ours; what was read can be written, or is refused; and a stream means
the same however its bytes are cut. ``--seed N`` runs the case of that number alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.junk import damaged, encoded, pieces, torn
from noa.chat import ChatEvent
from noa.dialects import anthropic, openai
from noa.dialects.envelope import peek, retarget
from noa.dialects.sse import SseEvent, SseParser, encode
from noa.errors import AIProviderError, ProviderResponseError, ValidationError
from noa.providers.stream_filter import StreamFilter
from noa.providers.wire import ANTHROPIC, OPENAI
from said import Said, frames

SAID: Final = Said(
    text="Ålesund ☔", thinking="Hm.", signature="s", redacted="r", calls=[("c", "f", {"a": 1}), ("d", "f", {})]
)
_PICTURE: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}}
_CALL: Final = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
OPENAI_REQUEST: Final[dict[str, Any]] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, _PICTURE], "name": "ada"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [_CALL],
            "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "rain"}]},
    ],
    "max_tokens": 9,
    "temperature": 0.5,
    "stop": ["END"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "reasoning_effort": "low",
    "n": 1,
    "logit_bias": {},
}
ANTHROPIC_REQUEST: Final[dict[str, Any]] = {
    "model": "m",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            ],
        },
        {"role": "assistant", "content": SAID.blocks()},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "content": [{"type": "text", "text": "x"}],
                    "is_error": True,
                }
            ],
        },
    ],
    "max_tokens": 9,
    "stop_sequences": ["END"],
    "stream": False,
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": False}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}
REQUESTS: Final = ((OPENAI_REQUEST, openai.decode_request), (ANTHROPIC_REQUEST, anthropic.decode_request))
STREAMS: Final = {name: b"".join(frames(SAID, name)) for name in ("openai", "anthropic")}
WIRES: Final = {"openai": OPENAI, "anthropic": ANTHROPIC}


def requests(rng: Random) -> None:
    """A damaged request is refused as the caller's mistake, or is one that can be written in both dialects."""
    document, decode = rng.choice(REQUESTS)
    body = encoded(damaged(rng, document))
    if rng.random() < 0.2:
        body = torn(rng, body)
    try:
        peek(body)
        retarget(body, model="n", stream=True, add={"stream_options": {"include_usage": True}})
    except ValidationError:
        pass
    try:
        request = decode(body).request
    except ValidationError:
        return
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: openai.encode_request(request, "m", stream=True),
        lambda: openai.encode_request(request, "m", stream=False, is_llama_cpp=True),
        lambda: anthropic.encode_request(request, "m", stream=True),
        lambda: anthropic.encode_count_request(request, "m"),
    )
    for write in ways:
        try:
            json.loads(write())
        except ValidationError:
            continue


def replies(rng: Random) -> None:
    """A damaged answer is an error of the upstream, or one that can be written in both dialects."""
    document: Any = SAID.completion() if rng.random() < 0.5 else SAID.message()
    decode: Callable[..., Any] = openai.decode_reply if "choices" in document else anthropic.decode_reply
    body = encoded(damaged(rng, document))
    if rng.random() < 0.2:
        body = torn(rng, body)
    openai.decode_error(rng.choice((200, 302, 400, 401, 429, 500, 529)), body, provider="p")
    try:
        reply = decode(body, provider="p")
        written = (openai.encode_reply(reply), anthropic.encode_reply(reply))
    except AIProviderError:
        return
    for each in written:
        json.loads(each)


def streams(rng: Random) -> None:
    """A damaged stream ends in an error of the upstream, or can be written in both dialects."""
    name = rng.choice(tuple(STREAMS))
    body = _damaged_stream(rng, name)
    decoder, told = WIRES[name].stream_decoder("p"), list[ChatEvent]()
    try:
        for event in _parsed(pieces(rng, body)):
            told += decoder.feed(event)
        decoder.close()
    except AIProviderError:
        pass
    for encoder in (openai.StreamEncoder(True), anthropic.StreamEncoder()):
        try:
            written = b"".join(encoder.encode(event) for event in told) + encoder.close()
        except AIProviderError:
            continue
        for event in SseParser().feed(written):
            assert event.data == "[DONE]" or json.loads(event.data)


def filters(rng: Random) -> None:
    """What passes is whole events of what came, and the same however it came."""
    name = rng.choice(tuple(STREAMS))
    body = _damaged_stream(rng, name)
    drop = rng.random() < 0.5
    passed = set[tuple[bytes, bool]]()
    for cut in ([body], pieces(rng, body)):
        events = StreamFilter(WIRES[name], "p", drop_usage=drop)
        out = bytearray()
        for piece in cut:
            out += events.feed(piece)
            if events.failure or events.ended:
                break
        else:
            out += events.close()
        passed.add((bytes(out).rstrip(), events.failure is None))
    assert len(passed) == 1, passed


def assemblies(rng: Random) -> None:
    """Chunks put together are an answer, or an error of the upstream."""
    assembler = openai.StreamAssembler("p")
    try:
        for event in _parsed([_damaged_stream(rng, "openai")]):
            assembler.feed(event)
        whole = assembler.body()
    except AIProviderError:
        return
    json.loads(whole)


def parsing(rng: Random) -> None:
    """Bytes mean the same events however they are cut, and events survive being written."""
    body = torn(rng, b"".join(rng.choices(list(frames(SAID, "anthropic")), k=3)))
    read = [_events_or_none(cut) for cut in ([body], pieces(rng, body), pieces(rng, body))]
    assert read[0] == read[1] == read[2], read
    for event in read[0] or ():
        if event.event is not None and "\0" in event.event:
            continue
        [again] = SseParser().feed(encode(event.data, event.event))
        assert (again.data, again.event) == (event.data, event.event)


def embeddings(rng: Random) -> None:
    """Vectors, asked for and given."""
    asked = {"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"}
    given = {"data": [{"index": 0, "embedding": [0.5, 1]}, {"index": 1, "embedding": "AAAAAA=="}], "model": "m"}
    with suppress(ValidationError):
        openai.decode_embedding_request(encoded(damaged(rng, asked)))
    with suppress(AIProviderError):
        openai.decode_embedding_reply(encoded(damaged(rng, given)), provider="p")


TARGETS: Final = (requests, replies, streams, filters, assemblies, parsing, embeddings)


def run(seed: int) -> None:
    """One case of everything, by its number. Raises what was found."""
    for number, target in enumerate(TARGETS):
        target(Random(seed * len(TARGETS) + number))


def _damaged_stream(rng: Random, name: str) -> bytes:
    """A stream whose events, or whose bytes, are damaged."""
    if rng.random() < 0.4:
        return torn(rng, STREAMS[name])
    events = SseParser().feed(STREAMS[name])
    hit = rng.randrange(len(events))
    out = b""
    for index, event in enumerate(events):
        data: bytes | str = event.data
        if index == hit and event.data != "[DONE]":
            data = encoded(damaged(rng, json.loads(event.data)))
        out += encode(data, event.event)
    return out if rng.random() < 0.8 else out[: rng.randrange(len(out))]


def _parsed(cut: Sequence[bytes]) -> list[SseEvent]:
    parser = SseParser()
    return [event for piece in cut for event in parser.feed(piece)]


def _events_or_none(cut: Sequence[bytes]) -> list[SseEvent] | None:
    try:
        return _parsed(cut)
    except ProviderResponseError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first case")
    parser.add_argument("--seed", type=int, help="run this case alone")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        run(arguments.seed)
        return 0
    until = time.monotonic() + arguments.seconds
    for seed in itertools.count(arguments.first):
        if time.monotonic() > until:
            print(f"{seed - arguments.first} cases of {len(TARGETS)} kinds, and nothing was found.")
            return 0
        try:
            run(seed)
        except Exception:
            print(f"See it with: python tests/fuzz/fuzz_dialects.py --seed {seed}", file=sys.stderr)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
