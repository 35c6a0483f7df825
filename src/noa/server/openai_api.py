"""OpenAI's API: chats, completions and embeddings through the relay."""

from __future__ import annotations

from typing import Final

from noa.dialects import openai, sse
from noa.errors import AIProviderError
from noa.providers.protocol import Dialect
from noa.server.relay import Face


def error_event(error: AIProviderError) -> bytes:
    """The last event of a stream that failed; no ``[DONE]`` follows it."""
    return sse.encode(openai.encode_error(error)[1])


CHAT: Final = Face(
    dialect=Dialect.OPENAI,
    path="/chat/completions",
    operation="chat",
    encode_error=openai.encode_error,
    error_event=error_event,
    decode=openai.decode_request,
    encode=openai.encode_reply,
    encoder=openai.StreamEncoder,
)
COMPLETION: Final = Face(
    dialect=Dialect.OPENAI,
    path="/completions",
    operation="completion",
    encode_error=openai.encode_error,
    error_event=error_event,
)
EMBEDDINGS: Final = Face(
    dialect=Dialect.OPENAI,
    path="/embeddings",
    operation="embeddings",
    encode_error=openai.encode_error,
    error_event=error_event,
)
