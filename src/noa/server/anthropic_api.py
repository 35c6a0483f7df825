"""Anthropic's API: messages, and the counting of their tokens, through the relay."""

from __future__ import annotations

from typing import Final

from noa.dialects import anthropic, sse
from noa.errors import AIProviderError
from noa.providers.protocol import Dialect
from noa.server.relay import EventEncoder, Face


def error_event(error: AIProviderError) -> bytes:
    """The last event of a stream that failed; no ``message_stop`` follows it."""
    return sse.encode(anthropic.encode_error(error)[1], event="error")


def _encoder(_include_usage: bool) -> EventEncoder:
    """This dialect always tells the usage."""
    return anthropic.StreamEncoder()


MESSAGES: Final = Face(
    dialect=Dialect.ANTHROPIC,
    path="/messages",
    operation="chat",
    encode_error=anthropic.encode_error,
    error_event=error_event,
    decode=anthropic.decode_request,
    encode=anthropic.encode_reply,
    encoder=_encoder,
)
#: Passed on where the upstream speaks Anthropic's dialect, asked of an engine that can count, and refused elsewhere.
COUNT_TOKENS: Final = Face(
    dialect=Dialect.ANTHROPIC,
    path="/messages/count_tokens",
    operation="count_tokens",
    encode_error=anthropic.encode_error,
    error_event=error_event,
)
