"""Counting the tokens of a prompt, asked for and given."""

from __future__ import annotations

import msgspec

from noa.chat import ChatRequest
from noa.dialects.anthropic.upstream_request import encode_conversation
from noa.dialects.upstream import decode_answer


class _Count(msgspec.Struct):
    input_tokens: int


_count = msgspec.json.Decoder(_Count)


def encode_count_request(request: ChatRequest, model: str) -> bytes:
    """Write a request to count the tokens of a conversation with its tools."""
    return msgspec.json.encode(encode_conversation(request, model))


def decode_count(body: bytes, *, provider: str | None = None) -> int:
    """Read the count. Raises ``ProviderResponseError`` for anything else."""
    return decode_answer(_count, body, "count of tokens", provider).input_tokens


def encode_count(tokens: int) -> bytes:
    """Write the count."""
    return msgspec.json.encode(_Count(input_tokens=tokens))
