"""The probes: what each asks of a model, what it may take, and what its answer proves. Pure.

A probe is one small request. What it asks for must be hard to give by luck: a call that was forced, an answer in a
schema that the prompt does not mention, the name of a colour that nobody guesses first.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from noa.chat import (
    ChatEvent,
    ChatReply,
    ChatRequest,
    EmbeddingReply,
    EmbeddingRequest,
    ImagePart,
    JsonOutput,
    Message,
    ReplyFinished,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    Tool,
)
from noa.models import ModelCapability, Price, ProbeOutcome, ProbePlan

#: How long an answer may become, in tokens. Enough for a model that reasons a little before it says a word.
MAX_TOKENS: Final = 256
#: The sides of the picture, in pixels; some services refuse smaller ones.
PICTURE_SIDE: Final = 64
#: What the picture may be filled with, and the words for it. Who sees nothing guesses blue, red, white or black.
COLOURS: Final[Mapping[str, tuple[tuple[int, int, int], tuple[str, ...]]]] = {
    "green": ((0, 160, 0), ("green",)),
    "yellow": ((255, 230, 0), ("yellow",)),
    "orange": ((255, 140, 0), ("orange",)),
    "purple": ((128, 0, 160), ("purple", "violet")),
}

#: How much of an answer is quoted, in characters.
_QUOTED: Final = 60
_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}, "warm": {"type": "boolean"}},
    "required": ["colour", "warm"],
    "additionalProperties": False,
}
_TOOL: Final = Tool(
    name="report_weather",
    description="Report the weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


class Verdict(NamedTuple):
    """What an answer proves, and what was seen."""

    outcome: ProbeOutcome
    detail: str


class _Schema(msgspec.Struct, forbid_unknown_fields=True):
    """An answer that satisfies ``_SCHEMA``."""

    colour: str
    warm: bool


class _Arguments(msgspec.Struct):
    """Arguments that satisfy ``_TOOL``."""

    city: str


class Cost(NamedTuple):
    """What a probe may take at most, in tokens. A picture alone counts thousands with some services."""

    prompt_tokens: int
    completion_tokens: int = MAX_TOKENS


#: Every probe. Generating text has none of its own: who chats can.
PROBES: Final[Mapping[ModelCapability, Cost]] = {
    ModelCapability.CHAT_COMPLETION: Cost(50),
    ModelCapability.STREAMING: Cost(50),
    ModelCapability.JSON_MODE: Cost(200),
    ModelCapability.FUNCTION_CALLING: Cost(500),
    ModelCapability.VISION: Cost(3000),
    ModelCapability.EMBEDDINGS: Cost(10, 0),
}


def chosen(capabilities: Iterable[ModelCapability] | None) -> tuple[ModelCapability, ...]:
    """The probes to run for these capabilities (``None``: for all), in their order."""
    wanted = set(ModelCapability if capabilities is None else capabilities)
    if ModelCapability.TEXT_GENERATION in wanted:
        wanted.add(ModelCapability.CHAT_COMPLETION)
    return tuple(each for each in PROBES if each in wanted)


def plan(key: str, price: Price | None, capabilities: Iterable[ModelCapability] | None = None) -> ProbePlan:
    """What probing would take at most."""
    probes = chosen(capabilities)
    prompt_tokens = sum(PROBES[each].prompt_tokens for each in probes)
    completion_tokens = sum(PROBES[each].completion_tokens for each in probes)
    return ProbePlan(
        key=key,
        capabilities=probes,
        requests=len(probes),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=_cost_usd(price, prompt_tokens, completion_tokens),
        price=price,
    )


def _cost_usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    if price is None or price.input is None or price.output is None:
        return None
    dearest = max(price.output, price.reasoning or 0)
    return (prompt_tokens * price.input + completion_tokens * dearest) / 1_000_000


# What is asked.


def chat_request() -> ChatRequest:
    """A word."""
    return _asking("Reply with one word: ready.")


def schema_request() -> ChatRequest:
    """An answer in a schema, which the words do not speak of."""
    output = JsonOutput(name="description", schema=dict(_SCHEMA), strict=True)
    return _asking("Describe the colour of a ripe tomato.", json_output=output)


def tool_request() -> ChatRequest:
    """A call that is forced."""
    return _asking("What is the weather in Paris?", tools=(_TOOL,), tool_choice=_TOOL.name)


def picture_request(colour: str) -> ChatRequest:
    """The colour of a picture."""
    picture = base64.b64encode(png(COLOURS[colour][0])).decode()
    question = TextPart(text="Which single colour fills this picture? Reply with one word.")
    return ChatRequest(
        messages=(Message(role="user", parts=(ImagePart(data=picture, media_type="image/png"), question)),),
        max_tokens=MAX_TOKENS,
    )


def embedding_request() -> EmbeddingRequest:
    """A vector."""
    return EmbeddingRequest(inputs=("ready",))


def png(colour: tuple[int, int, int], side: int = PICTURE_SIDE) -> bytes:
    """A square picture of one colour (red, green and blue of 255), as PNG of eight bits per channel."""
    rows = (b"\0" + bytes(colour) * side) * side
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _asking(question: str, **more: Any) -> ChatRequest:
    message = Message(role="user", parts=(TextPart(text=question),))
    return ChatRequest(messages=(message,), max_tokens=MAX_TOKENS, **more)


# What the answers prove.


def judge_chat(reply: ChatReply) -> Verdict:
    """Any answer will do."""
    if reply.text.strip():
        return _supported(f"it answered {_quote(reply.text)}")
    if any(isinstance(part, ThinkingPart) for part in reply.parts):
        return _supported("it reasoned, to the end of what it was allowed")
    return _inconclusive("its answer was empty")


def judge_stream(events: Sequence[ChatEvent]) -> Verdict:
    """An answer that came in pieces and ended as it should."""
    pieces = sum(isinstance(event, TextDelta | ThinkingDelta) for event in events)
    if not any(isinstance(event, ReplyFinished) for event in events):
        return _inconclusive("its stream did not say how it ended")
    return _supported(f"it streamed {pieces} pieces") if pieces else _inconclusive("its stream was empty")


def judge_schema(reply: ChatReply) -> Verdict:
    """An answer that is of the schema."""
    try:
        answer = msgspec.json.decode(reply.text, type=_Schema)
    except msgspec.DecodeError as error:
        if _was_cut(reply):
            return _inconclusive("its answer was cut off before its end")
        what = "is no JSON" if not isinstance(error, msgspec.ValidationError) else "does not satisfy the schema"
        return _unsupported(f"its answer {what}: {_quote(reply.text)}")
    if answer.colour not in _SCHEMA["properties"]["colour"]["enum"]:
        return _unsupported(f"its answer does not satisfy the schema: {_quote(reply.text)}")
    return _supported("its answer satisfies the schema")


def judge_tool(reply: ChatReply) -> Verdict:
    """The call that was forced, with arguments of its schema."""
    call = next(iter(reply.tool_calls), None)
    if call is None:
        if _was_cut(reply):
            return _inconclusive("it was cut off before it called anything")
        return _unsupported(f"it made no call, although it was told to: {_quote(reply.text)}")
    if call.name != _TOOL.name:
        return _unsupported(f"it called {_quote(call.name)}, not what it was told to")
    try:
        arguments = msgspec.json.decode(call.arguments, type=_Arguments)
    except msgspec.DecodeError:
        if reply.finish_reason == "length":
            return _inconclusive("it was cut off within its call")
        return _unsupported(f"the arguments of its call are not of the schema: {_quote(call.arguments)}")
    return _supported(f"it called {call.name} with {_quote(arguments.city)}")


def judge_picture(reply: ChatReply, colour: str) -> Verdict:
    """The name of the colour, and of no other."""
    said = reply.text.lower()
    named = {name for name, (_, words) in COLOURS.items() if any(word in said for word in words)}
    if named == {colour}:
        return _supported(f"it saw that a picture was {colour}")
    if _was_cut(reply):
        return _inconclusive("it was cut off before it named a colour")
    return _unsupported(f"of a picture that was {colour} it said {_quote(reply.text)}")


def judge_embedding(reply: EmbeddingReply) -> Verdict:
    """One vector of finite numbers that are not all zero."""
    if len(reply.vectors) != 1:
        return _unsupported(f"for one text it gave {len(reply.vectors)} vectors")
    (vector,) = reply.vectors
    if not any(vector) or not all(map(math.isfinite, vector)):
        return _unsupported("its vector is empty, zero or not finite")
    return _supported(f"it gave a vector of {len(vector)} numbers")


#: How the answer to each of the conversations is judged that need nothing but their answer.
JUDGES: Final[Mapping[ModelCapability, tuple[Callable[[], ChatRequest], Callable[[ChatReply], Verdict]]]] = {
    ModelCapability.CHAT_COMPLETION: (chat_request, judge_chat),
    ModelCapability.JSON_MODE: (schema_request, judge_schema),
    ModelCapability.FUNCTION_CALLING: (tool_request, judge_tool),
}


def _was_cut(reply: ChatReply) -> bool:
    """Whether it may have been about to answer: it began to, or still reasoned, when it was cut off."""
    text = reply.text.lstrip()
    return reply.finish_reason == "length" and (not text or text.startswith("{"))


def _supported(detail: str) -> Verdict:
    return Verdict(ProbeOutcome.SUPPORTED, detail)


def _unsupported(detail: str) -> Verdict:
    return Verdict(ProbeOutcome.UNSUPPORTED, detail)


def _inconclusive(detail: str) -> Verdict:
    return Verdict(ProbeOutcome.INCONCLUSIVE, detail)


def _quote(text: str) -> str:
    said = " ".join(text.split())
    return f"“{said[:_QUOTED]}…”" if len(said) > _QUOTED else f"“{said}”"
