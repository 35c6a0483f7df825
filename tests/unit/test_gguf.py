"""GGUF headers: what is read of a good one, and that a bad one is a sentence and costs nothing."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noa.errors import ValidationError
from noa.gguf import MAX_STRING, GgufError, GgufHeader, read_header

U8, I8, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 1, 4, 5, 6, 7, 8, 9, 10
_FORMATS = {U8: "<B", I8: "<b", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}
TYPE_F32, TYPE_F16, TYPE_Q4_K, TYPE_UNKNOWN = 0, 1, 12, 99


class Tensor(NamedTuple):
    """One tensor to write; the size in bytes is given so that the writer needs no table of its own."""

    name: str
    dimensions: Sequence[int]
    kind: int
    size: int


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def pair(key: str, kind: int, value: str | float) -> bytes:
    body = text(value) if isinstance(value, str) else struct.pack(_FORMATS[kind], value)
    return text(key) + struct.pack("<I", kind) + body


def array(key: str, kind: int, values: Sequence[str] | Sequence[int] | Sequence[float]) -> bytes:
    body = b"".join(text(one) if isinstance(one, str) else struct.pack(_FORMATS[kind], one) for one in values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + body


def gguf(
    pairs: Sequence[bytes] = (), tensors: Sequence[Tensor] = (), *, version: int = 3, alignment: int = 32
) -> bytes:
    """A whole file."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs))
    offset = 0
    data = bytearray()
    for tensor in tensors:
        out += text(tensor.name) + struct.pack("<I", len(tensor.dimensions))
        out += struct.pack(f"<{len(tensor.dimensions)}Q", *tensor.dimensions) + struct.pack("<IQ", tensor.kind, offset)
        data += bytes(tensor.size) + bytes(-tensor.size % alignment)
        offset = len(data)
    return bytes(out) + bytes(-len(out) % alignment) + bytes(data)


TENSORS = (Tensor("token_embd.weight", (256, 10), TYPE_Q4_K, 1440), Tensor("norm.weight", (5,), TYPE_F32, 20))
PAIRS = (
    pair("general.architecture", STRING, "llama"),
    pair("general.name", STRING, "Tiny"),
    pair("general.type", STRING, "model"),
    pair("general.size_label", STRING, "2K"),
    pair("general.file_type", U32, 15),
    pair("llama.context_length", U32, 8192),
    pair("llama.embedding_length", U32, 256),
    pair("llama.block_count", U32, 2),
    pair("llama.attention.head_count", U32, 8),
    array("llama.attention.head_count_kv", I32, [4, 2]),
    pair("llama.attention.key_length", U32, 64),
    pair("llama.attention.value_length", U32, 32),
    pair("llama.attention.sliding_window", U32, 512),
    pair("llama.pooling_type", U32, 1),
    pair("llama.rope.freq_base", F32, 10000.0),
    pair("other.context_length", U32, 1),
    array("tokenizer.ggml.tokens", STRING, ["<s>", "a", "€"]),
    array("tokenizer.ggml.scores", F32, [0.5] * 3000),
    pair("tokenizer.ggml.add_bos_token", BOOL, True),
    pair("tokenizer.chat_template", STRING, "{% if tools %}…{% endif %}"),
)
GOOD = gguf(PAIRS, TENSORS)


def read(content: bytes, size: int | None = None) -> GgufHeader:
    return read_header(io.BytesIO(content), len(content) if size is None else size, "tiny.gguf")


def refusal(content: bytes, size: int | None = None) -> str:
    with pytest.raises(GgufError) as raised:
        read(content, size)
    assert isinstance(raised.value, ValidationError)
    return raised.value.message


def test_a_header_says_what_the_file_says() -> None:
    header = read(GOOD)
    assert header == GgufHeader(
        version=3,
        architecture="llama",
        name="Tiny",
        kind="model",
        size_label="2K",
        context_length=8192,
        embedding_length=256,
        block_count=2,
        head_count=8,
        head_count_kv=(4, 2),
        key_length=64,
        value_length=32,
        sliding_window=512,
        pooling_type=1,
        vocab_size=3,
        chat_template="{% if tools %}…{% endif %}",
        supports_tools=True,
        file_type=15,
        quantization="Q4_K_M",
        tensor_count=2,
        parameter_count=2565,
        tensor_bytes=1460,
        repacked_bytes=1440,
        data_offset=len(GOOD) - 1440 - 32,
    )


def test_what_a_file_does_not_say_is_unknown() -> None:
    assert read(gguf(version=2)) == GgufHeader(version=2, data_offset=32)


def test_the_order_of_the_entries_does_not_matter() -> None:
    assert read(gguf(PAIRS[::-1], TENSORS)) == read(GOOD)


def test_a_value_of_the_wrong_kind_is_unknown() -> None:
    header = read(
        gguf(
            [
                pair("general.architecture", STRING, "llama"),
                pair("general.name", U32, 3),
                pair("llama.context_length", STRING, "many"),
                pair("llama.block_count", I32, -1),
                pair("llama.embedding_length", BOOL, True),
                array("llama.attention.head_count", I32, [1, -1]),
                array("llama.attention.head_count_kv", I32, [1] * 5000),
            ]
        )
    )
    assert header == GgufHeader(version=3, architecture="llama", data_offset=header.data_offset)


def test_the_vocabulary_an_architecture_names_comes_before_its_tokens() -> None:
    assert read(gguf([*PAIRS, pair("llama.vocab_size", U32, 32000)])).vocab_size == 32000


@pytest.mark.parametrize(
    ("key", "template", "tools"),
    [
        ("tokenizer.chat_template", "{{ messages }}", False),
        ("tokenizer.chat_template", "{{ tools }}", True),
        ("tokenizer.chat_template.tool_use", "{{ messages }}", True),
    ],
)
def test_tools_are_known_by_the_chat_template(key: str, template: str, tools: bool) -> None:
    assert read(gguf([pair(key, STRING, template)])).supports_tools is tools


def test_a_guessed_file_type_is_called_by_its_name_and_a_new_one_by_none() -> None:
    assert read(gguf([pair("general.file_type", U32, 1024 + 7)])).quantization == "Q8_0"
    assert read(gguf([pair("general.file_type", U32, 900)])).quantization is None


def test_shards_say_which_they_are() -> None:
    header = read(gguf([pair("split.no", U32, 1), pair("split.count", U32, 3)]))
    assert (header.split_index, header.split_count) == (1, 3)


def test_a_tensor_type_newer_than_the_table_counts_as_the_rest_of_the_file() -> None:
    content = gguf((), (Tensor("a", (100,), TYPE_UNKNOWN, 77), Tensor("b", (2,), TYPE_F16, 4)))
    header = read(content)
    assert header.parameter_count == 102
    assert header.tensor_bytes == len(content) - header.data_offset


def test_the_alignment_of_the_file_is_kept() -> None:
    content = gguf([pair("general.alignment", U32, 128)], TENSORS, alignment=128)
    assert read(content).data_offset % 128 == 0
    assert "is cut off" in refusal(content[:-120])


def test_only_the_header_is_read() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            part = super().read(size)
            self.taken += len(part)
            return part

    numbers = array("tokenizer.ggml.scores", F32, [0.0] * 1_000_000)
    weights = Tensor("a", (1_000_000,), TYPE_F32, 4_000_000)
    stream = Counting(gguf([numbers, PAIRS[0]], [weights]))
    assert read_header(stream, len(stream.getvalue())).architecture == "llama"
    assert stream.taken < 300_000


def test_a_reader_that_gives_little_at_a_time_is_no_trouble() -> None:
    class Dribbling(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    assert read_header(Dribbling(GOOD), len(GOOD)) == read(GOOD)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "tiny.gguf is no GGUF file: it is empty."),
        (b"GG", "it starts with b'GG'"),
        (b"ggml" * 20, "it starts with b'ggml'"),
        (b"version https://git-lfs", "a Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        (gguf(version=1), "GGUF version 1, which is older"),
        (gguf(version=4), "GGUF version 4, which is newer"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    ],
)
def test_what_is_no_gguf_file_is_said_to_be_none(content: bytes, words: str) -> None:
    assert words in refusal(content)


def test_a_file_whose_tensors_are_missing_is_cut_off() -> None:
    end = len(GOOD) - (-20 % 32)
    assert read(GOOD[:end]).tensor_count == 2
    message = refusal(GOOD[: end - 1])
    assert message == (
        f"tiny.gguf is cut off: its tensors end at byte {end}, but the file has {end - 1} bytes; fetch it again."
    )


def test_a_header_that_stops_anywhere_is_cut_off() -> None:
    for end in range(4, read(GOOD).data_offset - 32):
        assert "tiny.gguf is cut off" in refusal(GOOD[:end]), f"at byte {end}"


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    assert "a moment ago" in refusal(GOOD[:100], len(GOOD))


def test_a_reading_error_is_a_sentence_too() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(GgufError, match=r"tiny.gguf could not be read: Input/output error\."):
        read_header(Broken(), 100, "tiny.gguf")


def header_of(*parts: bytes, tensors: int = 0, pairs: int = 0) -> bytes:
    """A file of these parts with any claims, and room enough for its lengths to look right."""
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + b"".join(parts) + bytes(4096)


def tensor_row(dimensions: Sequence[int], kind: int = TYPE_F32, offset: int = 0, count: int | None = None) -> bytes:
    claimed = len(dimensions) if count is None else count
    shape = struct.pack(f"<{len(dimensions)}Q", *dimensions)
    return text("t") + struct.pack("<I", claimed) + shape + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header_of(pairs=2**63), "metadata entries"),
        (header_of(tensors=2**40), "tensors and 0 metadata"),
        (header_of(struct.pack("<Q", 2**62), pairs=1), f"a text of {2**62} bytes"),
        (header_of(struct.pack("<Q", MAX_STRING + 1), pairs=1), "a text of"),
        (header_of(text("k") + struct.pack("<I", 13), pairs=1), "'k' has the unknown type 13"),
        (header_of(text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1), pairs=1), "'k' is a list of lists"),
        (header_of(text("k") + struct.pack("<IIQ", ARRAY, 13, 1), pairs=1), "a list of the unknown type 13"),
        (header_of(text("k") + struct.pack("<IIQ", ARRAY, F32, 2**62), pairs=1), "is cut off within its header"),
        (header_of(text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**40), pairs=1), f"a list of {2**40} strings"),
        (gguf([PAIRS[0], PAIRS[0]]), "'general.architecture' twice"),
        (gguf([pair(f"a{n}.context_length", U32, 1) for n in range(300)]), "more than one architecture"),
        (gguf([pair("general.alignment", U32, 0)]), "its alignment is 0"),
        (gguf([pair("general.alignment", U32, 33)]), "its alignment is 33"),
        (gguf([pair("general.alignment", STRING, "x" * 5000)]), "its alignment is 'xxx"),
        (gguf([pair("general.alignment", U32, 2**31)]), "its alignment is"),
        (header_of(tensor_row([], count=0), tensors=1), "0 dimensions"),
        (header_of(tensor_row([1] * 5), tensors=1), "5 dimensions"),
        (header_of(tensor_row([0]), tensors=1), "impossible shape"),
        (header_of(tensor_row([2**40, 2**40]), tensors=1), "impossible shape"),
        (header_of(tensor_row([8], offset=7), tensors=1), "not aligned"),
        (header_of(tensor_row([100], TYPE_Q4_K), tensors=1), "does not suit its type"),
        (header_of(tensor_row([8], offset=2**63), tensors=1), "is cut off"),
        (header_of(tensor_row([8], TYPE_UNKNOWN, offset=2**40), tensors=1), "is cut off"),
    ],
)
def test_a_hostile_header_is_refused(content: bytes, words: str) -> None:
    message = refusal(content)
    assert words in message
    assert len(message) < 300


def test_a_vocabulary_beyond_the_budget_is_refused() -> None:
    huge = array("x", STRING, ["y" * 1000] * 70_000)
    assert "larger than 64 MiB" in refusal(gguf([huge]))


HEADER = GOOD[: read(GOOD).data_offset]
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good header with bytes changed, put in, taken out, or a length replaced by a wild one."""
    content = bytearray(HEADER[:3000] + bytes(64)) if draw(st.booleans()) else bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(4, len(content) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                content[at] = draw(st.one_of(st.sampled_from(INTERESTING), st.integers(0, 255)))
            case 1:
                content[at:at] = draw(st.binary(min_size=1, max_size=12))
            case 2:
                del content[at : at + draw(st.integers(1, 40))]
                content += bytes(8)
            case _:
                wild = draw(st.sampled_from([0, 1, 255, 2**16, 2**20, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]))
                content[at : at + 8] = struct.pack("<Q", wild)
    return bytes(content)


@given(content=mutated(), claimed=st.one_of(st.none(), st.integers(0, 2**63)))
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_header_crashes_hangs_or_allocates_much(content: bytes, claimed: int | None) -> None:
    stream = io.BytesIO(content)
    size = len(content) if claimed is None else claimed
    outcome: GgufHeader | GgufError
    tracemalloc.start()
    try:
        outcome = read_header(stream, size)
    except GgufError as error:
        outcome = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
    if isinstance(outcome, GgufError):
        assert len(outcome.message) < 400
        assert outcome.message.isprintable()
    else:
        assert 0 <= outcome.tensor_bytes <= size
        assert outcome.tensor_count <= len(content)
