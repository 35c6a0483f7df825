"""Anthropic's dialect: messages, counting tokens, models and errors, read and written.

The wire is that of Anthropic's API reference, version 2023-06-01. Hints that change the cost of an answer and not the
answer (``cache_control``) have no canonical form and stay behind when a request crosses into another dialect.
"""

from noa.dialects.anthropic.errors import encode_error
from noa.dialects.anthropic.models import ModelRow, decode_models, encode_model, encode_models, next_page, page_of
from noa.dialects.anthropic.reply import decode_reply, encode_reply
from noa.dialects.anthropic.request import decode_request
from noa.dialects.anthropic.stream import StreamDecoder, StreamEncoder
from noa.dialects.anthropic.token_count import decode_count, encode_count, encode_count_request
from noa.dialects.anthropic.upstream_request import encode_request
from noa.dialects.envelope import DecodedRequest
from noa.dialects.upstream import decode_error

__all__ = [
    "DecodedRequest",
    "ModelRow",
    "StreamDecoder",
    "StreamEncoder",
    "decode_count",
    "decode_error",
    "decode_models",
    "decode_reply",
    "decode_request",
    "encode_count",
    "encode_count_request",
    "encode_error",
    "encode_model",
    "encode_models",
    "encode_reply",
    "encode_request",
    "next_page",
    "page_of",
]
