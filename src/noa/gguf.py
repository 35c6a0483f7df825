"""A bounded reader of GGUF headers: what a weights file says of itself, without reading its weights.

The layout is that of the GGUF specification (versions 2 and 3, little-endian): magic, version, two counts, key-value
pairs, tensor descriptions, padding, tensor data. Files come from anywhere, so nothing in one is believed: every length
is checked against the file's size, every count against a cap, and what is read or kept is bounded whatever the file
says. Arrays of numbers are seeked past, strings are hopped over by their lengths.

Everything that can be wrong with a file is a ``GgufError`` whose message is a sentence for a person.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO

import msgspec

from noa.errors import ValidationError

#: How many bytes of a header are read at most. The largest vocabularies in use take about 15 MiB.
READ_BUDGET = 64 * 1024 * 1024
MAX_STRING = 1024 * 1024
MAX_PAIRS = 10_000
MAX_TENSORS = 100_000
MAX_STRING_ELEMENTS = 4_000_000
MAX_ALIGNMENT = 1024 * 1024
#: Per-layer arrays are kept up to this many elements; no model has that many layers.
MAX_KEPT_ELEMENTS = 1024
MAX_KEPT_VALUES = 200

_WINDOW = 64 * 1024
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
#: The specification's numbers of scalar types, as struct formats.
_SCALARS: Mapping[int, struct.Struct] = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_INTEGER_TYPES = frozenset({0, 1, 2, 3, 4, 5, 7, 10, 11})
_U32, _U64 = _SCALARS[4], _SCALARS[10]

#: ggml's tensor types: number → (elements per block, bytes per block). Types missing here are newer than this table.
_BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip

#: Types whose matrices an x86-64 CPU copies into another order on loading: Q4_0, Q4_K, IQ4_NL, MXFP4. Measured.
_REPACKED = frozenset({2, 12, 20, 39})

#: ``general.file_type``, as people write it.
_FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
    39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
#: A bit of the file type that says it was guessed from the tensors.
_FILE_TYPE_GUESSED = 1024

_KEPT = frozenset({
    "general.architecture", "general.name", "general.type", "general.size_label", "general.file_type",
    "general.alignment", "tokenizer.chat_template", "tokenizer.chat_template.tool_use", "split.no", "split.count",
})  # fmt: skip
#: Numbers that size an engine's caches and buffers where a model is more than plain attention.
_DIMENSIONS = (
    "attention.key_length_mla", "attention.value_length_mla", "attention.key_length_swa", "attention.value_length_swa",
    "attention.shared_kv_layers", "full_attention_interval", "expert_used_count", "expert_feed_forward_length",
    "embedding_length_per_layer_input", "shortconv.l_cache", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
    "ssm.group_count", "wkv.head_size", "token_shift_count",
)  # fmt: skip
#: Kept for whatever architecture stands before the dot, because that is only known for sure at the end.
_KEPT_OF_ARCHITECTURE = frozenset({
    "context_length", "embedding_length", "block_count", "vocab_size", "pooling_type", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.sliding_window",
    "attention.sliding_window_pattern", "attention.recurrent_layers", "feed_forward_length", *_DIMENSIONS,
})  # fmt: skip
_TOKENS = "tokenizer.ggml.tokens"

#: What files that are no GGUF often are.
_MISTAKEN = {
    b"vers": "it is a Git LFS pointer, so fetch the file itself",
    b"<!DO": "it is a web page, so the download went wrong",
    b"<htm": "it is a web page, so the download went wrong",
    b"PK\x03\x04": "it is a zip archive (or a PyTorch checkpoint)",
}

_Value = str | int | float | bool | tuple[int, ...]


class GgufError(ValidationError):
    """The file is no GGUF file, is cut off, is corrupt, or asks for more than a sane one would."""


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a GGUF file says of itself; ``None`` where it says nothing.

    ``context_length`` is in tokens, ``head_count`` and ``head_count_kv`` are one number or one per layer,
    ``key_length`` and ``value_length`` are per head. ``sliding_window_pattern`` is a period or one flag per layer,
    ``dimensions`` are further numbers by their keys without the architecture. ``parameter_count`` counts the elements
    of all tensors and ``tensor_bytes`` what they take in this file, which begins its data at ``data_offset``;
    ``repacked_bytes`` of them an x86-64 CPU copies into another order when it loads. ``quantization`` is
    ``file_type`` by name. ``supports_tools`` says that the chat template speaks of tools. ``split_count`` is the number
    of files that the model was split into, and ``split_index`` says which of them (from 0) this one is.
    """

    version: int
    architecture: str | None = None
    name: str | None = None
    kind: str | None = None
    size_label: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    head_count: int | tuple[int, ...] | None = None
    head_count_kv: int | tuple[int, ...] | None = None
    key_length: int | None = None
    value_length: int | None = None
    sliding_window: int | None = None
    sliding_window_pattern: int | tuple[int, ...] | None = None
    recurrent_layers: int | tuple[int, ...] | None = None
    feed_forward_length: int | tuple[int, ...] | None = None
    dimensions: dict[str, int] = {}
    pooling_type: int | None = None
    vocab_size: int | None = None
    chat_template: str | None = None
    supports_tools: bool = False
    file_type: int | None = None
    quantization: str | None = None
    tensor_count: int = 0
    parameter_count: int = 0
    tensor_bytes: int = 0
    repacked_bytes: int = 0
    data_offset: int = 0
    split_count: int | None = None
    split_index: int | None = None


class _Tensors(msgspec.Struct, frozen=True):
    """The tensor descriptions summed up. ``end`` is relative to the data; ``size`` is ``None`` for unknown types."""

    parameters: int
    size: int | None
    repacked: int
    end: int


def read_header(stream: BinaryIO, size_bytes: int, name: str = "The file") -> GgufHeader:
    """Read the header of a GGUF file of ``size_bytes`` from its beginning, and check that its tensors fit the file.

    ``name`` is what messages call the file. Raises ``GgufError`` for every failure, one of reading included.
    """
    try:
        return _read(_Cursor(stream, size_bytes, name))
    except OSError as error:
        raise GgufError(f"{name} could not be read: {error.strerror or type(error).__name__}.") from error


def _read(cursor: _Cursor) -> GgufHeader:
    version = _read_version(cursor)
    tensor_count, pair_count = cursor.u64(), cursor.u64()
    if tensor_count > MAX_TENSORS or pair_count > MAX_PAIRS:
        raise cursor.corrupt(f"it claims {tensor_count} tensors and {pair_count} metadata entries")
    facts = _read_facts(cursor, pair_count)
    alignment = facts.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.corrupt(f"its alignment is {alignment!r:.40}")
    tensors = _read_tensors(cursor, tensor_count, alignment)
    data_offset = -(-cursor.position // alignment) * alignment
    if tensor_count and data_offset + tensors.end > cursor.size:
        raise GgufError(
            f"{cursor.name} is cut off: its tensors end at byte {data_offset + tensors.end}, "
            f"but the file has {cursor.size} bytes; fetch it again."
        )
    available = max(cursor.size - data_offset, 0)
    known = tensors.size is not None and tensors.size <= available
    described = _describe(facts)
    return msgspec.structs.replace(
        described,
        version=version,
        tensor_count=tensor_count,
        parameter_count=tensors.parameters,
        tensor_bytes=tensors.size if known and tensors.size is not None else available,
        repacked_bytes=tensors.repacked if known else 0,
        data_offset=data_offset,
    )


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.take(min(4, cursor.size))
    if magic != b"GGUF":
        guess = _MISTAKEN.get(magic, f"it starts with {magic!r}" if magic else "it is empty")
        raise GgufError(f"{cursor.name} is no GGUF file: {guess}.")
    version = cursor.u32()
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0:
        raise GgufError(f"{cursor.name} is a big-endian GGUF file, which the engine cannot run; convert it.")
    age = "older" if version < 2 else "newer"
    raise GgufError(f"{cursor.name} has GGUF version {version}, which is {age} than what Noa reads (2 and 3).")


def _read_facts(cursor: _Cursor, count: int) -> dict[str, _Value]:
    """The metadata worth keeping. The tokens are kept as their number."""
    facts: dict[str, _Value] = {}
    for _ in range(count):
        key = cursor.text()
        wanted = key in _KEPT or key == _TOKENS or key.partition(".")[2] in _KEPT_OF_ARCHITECTURE
        value = _read_value(cursor, key, wanted)
        if value is None:
            continue
        if key in facts:
            raise cursor.corrupt(f"it gives {key[:80]!r} twice")
        if len(facts) >= MAX_KEPT_VALUES:
            raise cursor.corrupt("it describes more than one architecture")
        facts[key] = value
    return facts


def _read_value(cursor: _Cursor, key: str, wanted: bool) -> _Value | None:
    """Read one value, or move past it. ``None`` is one that was not kept."""
    kind = cursor.u32()
    if kind == _STRING:
        if wanted:
            return cursor.text()
        cursor.skip_strings(1)
        return None
    if kind == _ARRAY:
        return _read_array(cursor, key, wanted)
    scalar = _SCALARS.get(kind)
    if scalar is None:
        raise cursor.corrupt(f"{key[:80]!r} has the unknown type {kind}")
    value: int | float | bool = scalar.unpack(cursor.take(scalar.size))[0]
    return value if wanted else None


def _read_array(cursor: _Cursor, key: str, wanted: bool) -> _Value | None:
    kind, length = cursor.u32(), cursor.u64()
    if kind == _STRING:
        cursor.skip_strings(length)
        return length if key == _TOKENS else None
    scalar = _SCALARS.get(kind)
    if scalar is None:
        raise cursor.corrupt(f"{key[:80]!r} is a list of {'lists' if kind == _ARRAY else f'the unknown type {kind}'}")
    if wanted and kind in _INTEGER_TYPES and length <= MAX_KEPT_ELEMENTS:
        block = cursor.take(length * scalar.size)
        return tuple(value for (value,) in scalar.iter_unpack(block))
    cursor.skip(length * scalar.size)
    return None


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> _Tensors:
    parameters, total, repacked, end = 0, 0, 0, 0
    all_known = True
    for _ in range(count):
        cursor.skip_strings(1)
        dimension_count = cursor.u32()
        if not 1 <= dimension_count <= 4:
            raise cursor.corrupt(f"one of its tensors has {dimension_count} dimensions")
        dimensions = [cursor.u64() for _ in range(dimension_count)]
        kind, offset = cursor.u32(), cursor.u64()
        elements = 1
        for dimension in dimensions:
            elements *= dimension
            if not 0 < elements < 1 << 62:
                raise cursor.corrupt("one of its tensors has an impossible shape")
        if offset % alignment:
            raise cursor.corrupt("one of its tensors is not aligned")
        block = _BLOCKS.get(kind)
        if block is not None and dimensions[0] % block[0]:
            raise cursor.corrupt("the shape of one of its tensors does not suit its type")
        size = elements // block[0] * block[1] if block is not None else 0
        all_known = all_known and block is not None
        parameters += elements
        total += size
        repacked += size if kind in _REPACKED else 0
        end = max(end, offset + size)
    return _Tensors(parameters, total if all_known else None, repacked, end)


def _describe(facts: Mapping[str, _Value]) -> GgufHeader:
    architecture = _text(facts, "general.architecture")
    own = f"{architecture}."
    template = _text(facts, "tokenizer.chat_template")
    tool_template = _text(facts, "tokenizer.chat_template.tool_use")
    file_type = _number(facts, "general.file_type")
    vocab_size = _number(facts, own + "vocab_size")
    return GgufHeader(
        version=0,
        architecture=architecture,
        name=_text(facts, "general.name"),
        kind=_text(facts, "general.type"),
        size_label=_text(facts, "general.size_label"),
        context_length=_number(facts, own + "context_length"),
        embedding_length=_number(facts, own + "embedding_length"),
        block_count=_number(facts, own + "block_count"),
        head_count=_per_layer(facts, own + "attention.head_count"),
        head_count_kv=_per_layer(facts, own + "attention.head_count_kv"),
        key_length=_number(facts, own + "attention.key_length"),
        value_length=_number(facts, own + "attention.value_length"),
        sliding_window=_number(facts, own + "attention.sliding_window"),
        sliding_window_pattern=_per_layer(facts, own + "attention.sliding_window_pattern"),
        recurrent_layers=_per_layer(facts, own + "attention.recurrent_layers"),
        feed_forward_length=_per_layer(facts, own + "feed_forward_length"),
        dimensions={key: number for key in _DIMENSIONS if (number := _number(facts, own + key)) is not None},
        pooling_type=_number(facts, own + "pooling_type"),
        vocab_size=_number(facts, _TOKENS) if vocab_size is None else vocab_size,
        chat_template=template,
        supports_tools=tool_template is not None or (template is not None and "tools" in template),
        file_type=file_type,
        quantization=None if file_type is None else _FILE_TYPES.get(file_type & ~_FILE_TYPE_GUESSED),
        split_count=_number(facts, "split.count"),
        split_index=_number(facts, "split.no"),
    )


def _text(facts: Mapping[str, _Value], key: str) -> str | None:
    value = facts.get(key)
    return value if isinstance(value, str) else None


def _number(facts: Mapping[str, _Value], key: str) -> int | None:
    value = facts.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _per_layer(facts: Mapping[str, _Value], key: str) -> int | tuple[int, ...] | None:
    value = facts.get(key)
    if isinstance(value, tuple):
        return value if min(value, default=-1) >= 0 else None
    return _number(facts, key)


class _Cursor:
    """Walks forward through a file, a window at a time, and never beyond its end or the budget."""

    def __init__(self, stream: BinaryIO, size: int, name: str) -> None:
        self.size = size
        self.name = name
        self._stream = stream
        self._window = b""
        self._start = 0
        self._at = 0
        self._budget = READ_BUDGET
        stream.seek(0)

    @property
    def position(self) -> int:
        """The offset in the file of what comes next."""
        return self._start + self._at

    def corrupt(self, what: str) -> GgufError:
        """The error for a header that no converter writes."""
        return GgufError(f"The header of {self.name} is corrupt: {what}; fetch it again.")

    def u32(self) -> int:
        """The next four bytes as a number."""
        number: int = _U32.unpack(self.take(4))[0]
        return number

    def u64(self) -> int:
        """The next eight bytes as a number."""
        number: int = _U64.unpack(self.take(8))[0]
        return number

    def text(self) -> str:
        """The next string."""
        return self.take(self._string_length()).decode("utf-8", "replace")

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if self._at + count > len(self._window):
            self._fill(count)
        taken = self._window[self._at : self._at + count]
        self._at += count
        return taken

    def skip(self, count: int) -> None:
        """Move on by ``count`` bytes without reading what lies beyond the window."""
        self._at += count
        if self._at > len(self._window):
            self._require(0)
            self._start, self._at, self._window = self.position, 0, b""
            self._stream.seek(self._start)

    def skip_strings(self, count: int) -> None:
        """Move past ``count`` strings."""
        if count > MAX_STRING_ELEMENTS:
            raise self.corrupt(f"it has a list of {count} strings")
        for _ in range(count):
            self.skip(self._string_length())

    def _string_length(self) -> int:
        # The vocabulary is most of a header, so the common case stays within this function.
        at = self._at
        if at + 8 > len(self._window):
            self._fill(8)
            at = 0
        length: int = _U64.unpack_from(self._window, at)[0]
        if length > MAX_STRING:
            raise self.corrupt(f"it has a text of {length} bytes")
        self._at = at + 8
        return length

    def _require(self, count: int) -> None:
        if self.position + count > self.size:
            raise GgufError(
                f"{self.name} is cut off within its header: it has {self.size} bytes and needs at least "
                f"{self.position + count}; fetch it again."
            )

    def _fill(self, count: int) -> None:
        """Move the window so that it starts here and holds at least ``count`` bytes."""
        self._require(count)
        rest = self._window[self._at :]
        wanted = min(max(_WINDOW, count), self.size - self.position) - len(rest)
        parts = [rest]
        missing = count - len(rest)
        while missing > 0:
            part = self._stream.read(wanted)
            if not part:
                raise GgufError(f"{self.name} is shorter than the {self.size} bytes it had a moment ago.")
            self._budget -= len(part)
            if self._budget < 0:
                raise self.corrupt(f"it is larger than {READ_BUDGET // 1024 // 1024} MiB")
            parts.append(part)
            missing -= len(part)
            wanted -= len(part)
        self._start, self._at, self._window = self.position, 0, b"".join(parts)
