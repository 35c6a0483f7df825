"""OpenAI's dialect: chat completions, completions, embeddings, models and errors, read and written.

The wire is that of OpenAI's API reference, with the extensions that compatible services share: ``reasoning_content``
(DeepSeek, llama.cpp, vLLM), ``top_k``, and llama.cpp's ``timings`` and ``prompt_progress``.
"""

from noa.dialects.envelope import DecodedRequest
from noa.dialects.openai.assembler import StreamAssembler
from noa.dialects.openai.embeddings import (
    decode_embedding_reply,
    decode_embedding_request,
    encode_embedding_reply,
    encode_embedding_request,
)
from noa.dialects.openai.errors import encode_error
from noa.dialects.openai.models import ModelRow, decode_models, encode_model, encode_models
from noa.dialects.openai.reply import decode_reply, encode_reply
from noa.dialects.openai.request import decode_request
from noa.dialects.openai.stream import StreamDecoder, StreamEncoder
from noa.dialects.openai.upstream_request import encode_request
from noa.dialects.upstream import decode_error

__all__ = [
    "DecodedRequest",
    "ModelRow",
    "StreamAssembler",
    "StreamDecoder",
    "StreamEncoder",
    "decode_embedding_reply",
    "decode_embedding_request",
    "decode_error",
    "decode_models",
    "decode_reply",
    "decode_request",
    "encode_embedding_reply",
    "encode_embedding_request",
    "encode_error",
    "encode_model",
    "encode_models",
    "encode_reply",
    "encode_request",
]
