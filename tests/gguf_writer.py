"""Writes GGUF files for tests: headers of any kind, and whole models whose weights are all zero and take no disk."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

Fact = bool | int | float | str | Sequence[bool] | Sequence[int] | Sequence[float] | Sequence[str]
#: A tensor is its name and dimensions. Matrices are of 16 bits an element unless said otherwise, all else of 32.
Tensor = tuple[str, Sequence[int]]
#: A type of matrices: its number, how many elements a block has, and of how many bytes it is.
Kind = tuple[int, int, int]
F16: Kind = (1, 1, 2)
Q4_0: Kind = (2, 32, 18)

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_FORMATS = {_U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<?"}
_ALIGNMENT = 32
#: The smallest vocabulary of the engine's first kind of tokenizer: three marks, every byte, a space.
MIN_VOCABULARY = 260


def header(architecture: str, facts: Mapping[str, Fact], tensors: Sequence[Tensor], kind: Kind = F16) -> bytes:
    """A header up to where the data begins. Keys without a known first part get the architecture's."""
    pairs = [_pair("general.architecture", architecture)]
    pairs += [_pair(key if _is_whole(key) else f"{architecture}.{key}", value) for key, value in facts.items()]
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs))
    offset = 0
    for name, dimensions in tensors:
        out += _text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        out += struct.pack("<IQ", kind[0] if _is_narrow(name, dimensions) else 0, offset)
        offset += _size(name, dimensions, kind)
    return bytes(out) + bytes(-len(out) % _ALIGNMENT)


def write_model(
    path: Path, architecture: str, facts: Mapping[str, Fact], tensors: Sequence[Tensor], kind: Kind = F16
) -> Path:
    """A model that the engine loads: its header, a vocabulary, and a hole of zeros where the weights are."""
    begin = header(architecture, {**facts, **_vocabulary()}, tensors, kind)
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(len(begin) + sum(_size(name, dimensions, kind) for name, dimensions in tensors))
    return path


def _vocabulary() -> dict[str, Fact]:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [0.0] * len(pieces),
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, 1],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _is_whole(key: str) -> bool:
    return key.startswith(("general.", "tokenizer.", "split."))


def _is_narrow(name: str, dimensions: Sequence[int]) -> bool:
    # The engine insists on 32 bits for the weights of convolutions and for the decay of states.
    return len(dimensions) > 1 and not name.endswith(("conv1d.weight", "conv.weight", "ssm_a"))


def _size(name: str, dimensions: Sequence[int], kind: Kind) -> int:
    _, elements, size = kind if _is_narrow(name, dimensions) else (0, 1, 4)
    for dimension in dimensions:
        size *= dimension
    size //= elements
    return size + -size % _ALIGNMENT


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _pair(key: str, value: Fact) -> bytes:
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, Sequence):
        kind = _STRING if isinstance(value[0], str) else _kind(value[0])
        body = b"".join(_text(one) if isinstance(one, str) else struct.pack(_FORMATS[kind], one) for one in value)
        return _text(key) + struct.pack("<IIQ", _ARRAY, kind, len(value)) + body
    # The engine takes single numbers without a sign, and lists of them with one.
    kind = _U32 if _kind(value) == _I32 else _kind(value)
    return _text(key) + struct.pack("<I", kind) + struct.pack(_FORMATS[kind], value)


def _kind(value: float) -> int:
    if isinstance(value, bool):
        return _BOOL
    return _I32 if isinstance(value, int) else _F32
