"""The canonical conversation: what every dialect is read into and written from.

Values only. ``None`` means "not given" in a request and "not reported" in an answer.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Part(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A piece of a message."""


class TextPart(Part, frozen=True, kw_only=True, tag="text"):
    """Plain text."""

    text: str


class ImagePart(Part, frozen=True, kw_only=True, tag="image"):
    """An image, by ``url`` or as base64 ``data`` with its ``media_type``.

    ``detail`` asks for a resolution (``low``, ``high``) where a dialect has that.
    """

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None


class ThinkingPart(Part, frozen=True, kw_only=True, tag="thinking"):
    """Reasoning text that a model shows.

    ``signature`` is opaque and must travel back unchanged; so must ``redacted``, reasoning that the provider hides
    (then ``text`` is empty). Both mean something only to the provider that wrote them.
    """

    text: str
    signature: str | None = None
    redacted: str | None = None


class ToolCallPart(Part, frozen=True, kw_only=True, tag="tool_call"):
    """A call the assistant asks for. ``arguments`` is JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResultPart(Part, frozen=True, kw_only=True, tag="tool_result"):
    """What a call gave back: texts, and images for the models that take them."""

    tool_call_id: str
    parts: tuple[TextPart | ImagePart, ...]
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


AnyPart = TextPart | ImagePart | ThinkingPart | ToolCallPart | ToolResultPart


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. ``name`` tells apart several speakers of one role, where a dialect has that."""

    role: Role
    parts: tuple[AnyPart, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function the model may call; ``parameters`` is a JSON Schema, which ``strict`` makes binding."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = {}
    strict: bool | None = None


class JsonOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The answer must be JSON, of this ``schema`` if there is one. ``name`` and ``description`` tell what it is."""

    name: str = "answer"
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to continue.

    ``model`` is the name the caller asked for (``None`` means ``current``). ``tool_choice`` is ``auto``, ``none``,
    ``required`` or the name of a tool. Results of calls made at once stand in one message of role ``tool``.

    ``extra`` holds fields of the caller's dialect that have no canonical form. ``extra_dialect`` says which dialect
    that is; ``None`` means the provider's own, as when a program sets them. They are passed on where the provider
    speaks it, and refused where it doesn't, unless they change nothing.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    json_output: JsonOutput | None = None
    extra: dict[str, Any] = {}
    extra_dialect: Literal["openai", "anthropic"] | None = None

    @property
    def forces_tool(self) -> bool:
        """Whether the answer must be the call of a tool."""
        return self.tool_choice not in (None, "auto", "none")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them.

    ``prompt_tokens`` includes the cached ones; ``completion_tokens`` includes the reasoning ones (OpenAI's reading).
    Anthropic reports cached tokens apart: the codec adds them exactly once.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion together, if both are known."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


class ChatReply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. ``created`` is Unix time in seconds; ``model`` is what the provider says it served."""

    id: str
    model: str
    created: int
    parts: tuple[AnyPart, ...]
    finish_reason: FinishReason | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The calls the model asks for."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))


class ReplyStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The first event of a stream."""

    id: str
    model: str
    created: int


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):
    """More text."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, kw_only=True):
    """More reasoning, or its signature, or a piece of hidden reasoning (see ``ThinkingPart``)."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call begins (``id`` and ``name`` are set) or goes on (more ``arguments``). ``index`` tells calls apart."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ReplyFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The last event but usage: why the model stopped."""

    finish_reason: FinishReason | None


class UsageReported(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's count of tokens. A later one replaces an earlier one."""

    usage: Usage


ChatEvent = ReplyStarted | TextDelta | ThinkingDelta | ToolCallDelta | ReplyFinished | UsageReported


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed. ``extra`` as in ``ChatRequest``."""

    inputs: tuple[str, ...]
    model: str | None = None
    dimensions: int | None = None
    extra: dict[str, Any] = {}


class EmbeddingReply(msgspec.Struct, frozen=True, kw_only=True):
    """One vector for each input, in order."""

    model: str
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None = None
