"""Embeddings, asked for and given."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec

from noa.chat import EmbeddingReply, EmbeddingRequest, Usage
from noa.dialects.field import Field, read_body
from noa.dialects.upstream import decode_answer, stream_error
from noa.errors import ProviderResponseError, UnsupportedError

_CANONICAL = frozenset({"input", "model", "dimensions"})


def decode_embedding_request(body: bytes) -> EmbeddingRequest:
    """Read a request: one text or a list of texts.

    Raises ``ValidationError`` for what is wrong and ``UnsupportedError`` for lists of token numbers, which mean
    something to one model only. ``encoding_format`` stays in ``extra`` for whoever writes the reply.
    """
    root = read_body(body)
    encoding_format = root.member("encoding_format")
    if encoding_format.given:
        encoding_format.choice(("float", "base64"))
    return EmbeddingRequest(
        inputs=_inputs(root.member("input")),
        model=root.member("model").optional_text(),
        dimensions=root.member("dimensions").optional_integer(minimum=1),
        extra={name: value for name, value in root.mapping().items() if name not in _CANONICAL},
    )


def encode_embedding_request(request: EmbeddingRequest, model: str) -> bytes:
    """Write a request for an upstream. Vectors always travel as numbers: every service can write those."""
    body: dict[str, Any] = {"model": model, "input": list(request.inputs)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    for name, value in request.extra.items():
        if name != "encoding_format":
            body.setdefault(name, value)
    return msgspec.json.encode(body)


class _Embedding(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Embedding] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_embeddings = msgspec.json.Decoder(_Embeddings)


def decode_embedding_reply(body: bytes, *, provider: str | None = None) -> EmbeddingReply:
    """Read an upstream's vectors, as numbers or base64, into the order of their inputs."""
    answer = decode_answer(_embeddings, body, "list of embeddings", provider)
    if answer.error:
        raise stream_error(answer.error, provider or "The provider")
    if answer.data is None:
        raise ProviderResponseError(f"{provider or 'The provider'} answered without embeddings.", provider=provider)
    numbered = enumerate(answer.data)
    rows = sorted(numbered, key=lambda row: row[1].index if row[1].index is not None else row[0])
    return EmbeddingReply(
        model=answer.model or "",
        vectors=tuple(_vector(row.embedding, provider) for _, row in rows),
        usage=None if answer.usage is None else Usage(prompt_tokens=answer.usage.prompt_tokens),
    )


def encode_embedding_reply(reply: EmbeddingReply, *, encoding_format: str = "float") -> bytes:
    """Write the vectors as the caller asked for them: ``float``, or ``base64`` of little-endian 32-bit floats."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if encoding_format == "base64" else vector,
        }
        for index, vector in enumerate(reply.vectors)
    ]
    tokens = None if reply.usage is None else reply.usage.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": reply.model, "usage": usage})


def _inputs(field: Field) -> tuple[str, ...]:
    if isinstance(field.value, str):
        return (field.value,)
    items = field.items("text or a list of texts")
    if not items:
        raise field.wrong("text or a list of at least one text")
    if any(isinstance(item.value, (int, list)) for item in items):
        raise UnsupportedError(
            "input is made of token numbers, which mean something to one model only; send the text itself.",
            details={"param": "input"},
        )
    return tuple(item.text() for item in items)


def _vector(embedding: list[float] | str, provider: str | None) -> tuple[float, ...]:
    if not isinstance(embedding, str):
        return tuple(embedding)
    try:
        raw = base64.b64decode(embedding, validate=True)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    except (ValueError, struct.error) as error:
        raise ProviderResponseError(
            f"{provider or 'The provider'} answered with an embedding that is neither numbers nor base64 of them.",
            provider=provider,
        ) from error


def _base64(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
