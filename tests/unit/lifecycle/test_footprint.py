"""The memory a model needs: the engine's own figures for models of many kinds, and care where little is known."""

from __future__ import annotations

import io

import msgspec
import pytest

from gguf_writer import header as header_bytes
from noa.errors import ValidationError
from noa.gguf import GgufHeader, read_header
from noa.lifecycle.footprint import CACHE_TYPES, Basis, EngineShape, footprint
from simulation.gguf_mutations import run

MIB = 1024 * 1024

#: SmolLM2 135M, of which the engine reported the figures below.
SMOL = GgufHeader(
    version=3,
    architecture="llama",
    context_length=8192,
    embedding_length=576,
    block_count=30,
    head_count=9,
    head_count_kv=3,
    feed_forward_length=1536,
    vocab_size=49152,
    parameter_count=134_515_008,
    tensor_bytes=96_576_768,
)
BLOCK = GgufHeader(
    version=3,
    embedding_length=512,
    block_count=4,
    head_count=8,
    head_count_kv=4,
    key_length=64,
    value_length=64,
    feed_forward_length=1024,
    vocab_size=1000,
)


def kind(architecture: str, **fields: object) -> GgufHeader:
    return msgspec.structs.replace(BLOCK, architecture=architecture, **fields)


def kv_mib(header: GgufHeader, context_size: int = 4096, slots: int = 1, batch_size: int = 64) -> float:
    return footprint(header, EngineShape(context_size=context_size, slots=slots, batch_size=batch_size)).kv_bytes / MIB


@pytest.mark.parametrize(
    ("context_size", "slots", "cache_type", "reported_mib"),
    [
        (512, 1, "f16", 11.25),
        (512, 4, "f16", 45.00),
        (4096, 4, "f16", 360.00),
        (512, 1, "q8_0", 5.98),
        (1000, 4, "q8_0", 47.81),
        (8192, 4, "q8_0", 382.50),
    ],
)
def test_the_cache_is_what_the_engine_reports(
    context_size: int, slots: int, cache_type: str, reported_mib: float
) -> None:
    shape = EngineShape(context_size=context_size, slots=slots, cache_type_k=cache_type, cache_type_v=cache_type)
    need = footprint(SMOL, shape)
    assert need.kv_bytes / MIB == pytest.approx(reported_mib, abs=0.01)
    assert need.weights_bytes == SMOL.tensor_bytes
    assert need.basis is Basis.FORMULA


@pytest.mark.parametrize(
    ("header", "batch_size", "slots", "reported_mib"),
    [
        (kind("llama"), 64, 1, 16.00),
        (kind("gemma3", block_count=12, sliding_window=512), 64, 1, 8.00 + 7.50),
        (kind("gemma3", block_count=12, sliding_window=512), 512, 4, 32.00 + 40.00),
        (kind("gpt-oss", block_count=6, sliding_window=128), 512, 4, 48.00 + 9.00),
        (kind("mamba", head_count=0, dimensions={
            "ssm.inner_size": 1024, "ssm.state_size": 16, "ssm.conv_kernel": 4}), 64, 4, 1.19),
        (kind("mamba2", head_count=0, dimensions={
            "ssm.inner_size": 1024, "ssm.state_size": 128, "ssm.conv_kernel": 4, "ssm.group_count": 2}), 64, 4, 8.28),
        (kind("lfm2", block_count=6, head_count_kv=(4, 0, 0, 4, 0, 0), dimensions={"shortconv.l_cache": 3}),
         64, 4, 32.00 + 0.06),
        (kind("qwen3next", block_count=8, head_count_kv=2, dimensions={
            "ssm.inner_size": 1024, "ssm.state_size": 128, "ssm.conv_kernel": 4, "ssm.group_count": 4}),
         512, 4, 16.00 + 12.56),
        (kind("bert", head_count_kv=None), 512, 1, 0.00),
    ],
)  # fmt: skip
def test_each_kind_of_memory_is_what_the_engine_reports(
    header: GgufHeader, batch_size: int, slots: int, reported_mib: float
) -> None:
    assert kv_mib(header, slots=slots, batch_size=batch_size) == pytest.approx(reported_mib, abs=0.02)
    assert footprint(header, EngineShape(context_size=4096)).basis is Basis.FORMULA


def test_latent_attention_keeps_keys_alone() -> None:
    latent = {"attention.key_length_mla": 128, "attention.value_length_mla": 64}
    header = kind("deepseek2", head_count_kv=1, key_length=320, value_length=256, dimensions=latent)
    assert kv_mib(header) == 10.00
    without = msgspec.structs.replace(header, dimensions={})
    assert kv_mib(without) == 18.00


def test_layers_that_share_a_cache_or_have_narrower_windows_are_told_apart() -> None:
    flags = (1, 1, 0, 1)
    header = kind("gemma4", sliding_window=512, sliding_window_pattern=flags)
    assert kv_mib(header) == pytest.approx(4.00 + 3 * 0.75)
    narrow = {"attention.key_length_swa": 32, "attention.value_length_swa": 32}
    assert kv_mib(msgspec.structs.replace(header, dimensions=narrow)) == pytest.approx(4.00 + 3 * 0.375)
    shared = {"attention.shared_kv_layers": 1}
    assert kv_mib(msgspec.structs.replace(header, dimensions=shared)) == pytest.approx(4.00 + 2 * 0.75)


def test_a_period_in_the_header_goes_before_the_usual_one() -> None:
    header = kind("gemma3", sliding_window=512, sliding_window_pattern=2)
    assert kv_mib(header) == pytest.approx(2 * 4.00 + 2 * 0.75)


def test_every_layer_is_counted_with_its_own_heads() -> None:
    assert kv_mib(kind("deci", head_count_kv=(4, 2, 0, 8))) == pytest.approx(14 / 4 * 4.00)


def test_the_full_layer_is_the_last_of_its_group_or_the_first() -> None:
    assert kv_mib(kind("cohere2", block_count=5, sliding_window=512)) == pytest.approx(4.00 + 4 * 0.75)
    assert kv_mib(kind("smallthinker", block_count=5, sliding_window=512)) == pytest.approx(2 * 4.00 + 3 * 0.75)


def test_recurrent_layers_are_those_of_the_interval_or_of_the_flags() -> None:
    sizes = {"ssm.inner_size": 1024, "ssm.state_size": 256, "ssm.conv_kernel": 1}
    by_interval = kind("qwen35", block_count=6, dimensions=sizes)
    assert kv_mib(by_interval) == pytest.approx(4.00 + 5 * 1.00)
    every_third = {**sizes, "full_attention_interval": 3}
    assert kv_mib(msgspec.structs.replace(by_interval, dimensions=every_third)) == pytest.approx(2 * 4.00 + 4 * 1.00)
    flagged = msgspec.structs.replace(by_interval, recurrent_layers=(1, 0, 0, 0, 1, 0))
    assert kv_mib(flagged) == pytest.approx(4 * 4.00 + 2 * 1.00)


def test_a_model_without_attention_keeps_its_shifts_and_its_state() -> None:
    header = kind("rwkv7", head_count=0, dimensions={"wkv.head_size": 64, "token_shift_count": 2})
    assert kv_mib(header, slots=2) == pytest.approx(2 * 4 * 512 * (2 + 64) * 4 / MIB)
    assert kv_mib(header, 8192) == kv_mib(header, 512)


def test_what_is_read_of_a_file_is_what_is_reckoned_with() -> None:
    content = header_bytes("gemma4", {
        "block_count": 4, "attention.head_count": 8, "attention.head_count_kv": [4, 2, 4, 2], "embedding_length": 512,
        "attention.key_length": 64, "attention.value_length": 64, "attention.sliding_window": 512,
        "attention.sliding_window_pattern": [True, True, False, True], "attention.key_length_swa": 32,
        "attention.value_length_swa": 32, "attention.shared_kv_layers": 1, "feed_forward_length": [1024, 2048, 64, 64],
    }, [])  # fmt: skip
    read = read_header(io.BytesIO(content), len(content))
    assert kv_mib(read) == pytest.approx(4.00 + 0.375 + 0.1875)
    assert read.feed_forward_length == (1024, 2048, 64, 64)


def test_a_window_whose_pattern_is_not_known_is_counted_in_full() -> None:
    assert kv_mib(kind("phi3", sliding_window=512)) == 16.00


def test_an_architecture_that_is_not_known_is_counted_in_full_and_says_so() -> None:
    tricks = {
        "attention.shared_kv_layers": 3, "attention.key_length_mla": 128, "attention.value_length_mla": 64,
        "ssm.inner_size": 1024, "ssm.state_size": 16, "ssm.conv_kernel": 4,
    }  # fmt: skip
    header = kind("unheard-of", sliding_window=512, sliding_window_pattern=6, dimensions=tricks)
    need = footprint(header, EngineShape(context_size=4096))
    assert need.basis is Basis.BOUND
    assert need.kv_bytes / MIB == pytest.approx(16.00 + 1.19 / 4, abs=0.01)


@pytest.mark.parametrize("gap", ["block_count", "head_count", "wild"])
def test_a_header_that_tells_too_little_is_guessed_at_from_its_parameters(gap: str) -> None:
    llama_2_7b = msgspec.structs.replace(
        SMOL, embedding_length=4096, block_count=32, head_count=32, head_count_kv=32, parameter_count=6_738_415_616
    )
    known = footprint(llama_2_7b, EngineShape(context_size=4096))
    changes = {"block_count": 2**32 - 1} if gap == "wild" else {gap: None, "head_count_kv": None}
    guessed = footprint(msgspec.structs.replace(llama_2_7b, **changes), EngineShape(context_size=4096))
    assert (known.basis, guessed.basis) == (Basis.FORMULA, Basis.FILE_SIZE)
    assert known.kv_bytes < guessed.kv_bytes < 1.2 * known.kv_bytes


@pytest.mark.parametrize(
    ("header", "batch_size", "slots", "embedding", "reported_mib"),
    [
        (SMOL, 64, 1, False, 2.33 + 0.19),
        (SMOL, 512, 4, False, 18.64 + 0.75),
        (SMOL, 512, 1, True, 106.77 + 0.19),
        (kind("llama", feed_forward_length=4096), 512, 4, False, 33.02 + 0.02),
        (kind("llama", embedding_length=256, head_count=32, head_count_kv=32, key_length=128, value_length=128,
              feed_forward_length=512), 512, 4, False, 38.52 + 0.02),
        (kind("llama", dimensions={"expert_used_count": 4}), 512, 4, False, 33.02 + 0.02),
        (kind("llama", embedding_length=1024, key_length=128, value_length=128, feed_forward_length=256,
              dimensions={"expert_used_count": 8}), 512, 4, False, 42.02 + 0.02),
        (kind("gemma3", block_count=12, feed_forward_length=2048, sliding_window=512), 512, 4, False, 22.03 + 0.02),
        (kind("deepseek2", head_count_kv=1, key_length=320, value_length=256, dimensions={
            "attention.key_length_mla": 128, "attention.value_length_mla": 64}), 512, 4, False, 20.01 + 0.02),
        (kind("mamba", head_count=0, feed_forward_length=0, dimensions={
            "ssm.inner_size": 1024, "ssm.state_size": 16, "ssm.conv_kernel": 4}), 64, 1, False, 1.95),
        (kind("mamba2", head_count=0, feed_forward_length=0, dimensions={
            "ssm.inner_size": 1024, "ssm.state_size": 128, "ssm.conv_kernel": 4, "ssm.group_count": 2}),
         64, 1, False, 2.77),
        (kind("qwen3next", block_count=8, head_count_kv=2, feed_forward_length=128, dimensions={
            "ssm.inner_size": 1024, "ssm.state_size": 128, "ssm.conv_kernel": 4, "ssm.group_count": 4,
            "expert_used_count": 2}), 512, 4, False, 25.11 + 0.02),
        (kind("bert", embedding_length=384, head_count=12, head_count_kv=None, key_length=None,
              feed_forward_length=1536, vocab_size=2000), 4096, 1, True, 86.11 + 0.01),
    ],
)  # fmt: skip
def test_buffers_are_never_under_what_the_engine_reports_nor_far_above(
    header: GgufHeader, batch_size: int, slots: int, embedding: bool, reported_mib: float
) -> None:
    shape = EngineShape(context_size=4096, slots=slots, batch_size=batch_size, embedding=embedding)
    assert reported_mib <= footprint(header, shape).compute_bytes / MIB <= 2.1 * reported_mib + 0.5


def test_a_window_has_a_mask_of_its_own_and_inputs_of_layers_are_held_throughout() -> None:
    shape = EngineShape(context_size=4096)
    plain = kind("gemma4", sliding_window_pattern=(1, 1, 0, 1))
    windowed = msgspec.structs.replace(plain, sliding_window=512)
    fed = msgspec.structs.replace(plain, dimensions={"embedding_length_per_layer_input": 256})
    more, most = (footprint(model, shape).compute_bytes - footprint(plain, shape).compute_bytes
                  for model in (windowed, fed))  # fmt: skip
    assert more == pytest.approx(1.05 * 64 * 768 * 2, abs=1)
    assert most == pytest.approx(1.05 * 64 * 2 * 4 * 256 * 4, abs=1)


def test_weights_that_a_processor_repacks_are_there_twice() -> None:
    header = msgspec.structs.replace(SMOL, tensor_bytes=100, repacked_bytes=80)
    shape = EngineShape(context_size=512)
    assert footprint(header, shape).weights_bytes == 180
    assert footprint(header, msgspec.structs.replace(shape, repacks=False)).weights_bytes == 100


def test_all_files_of_a_split_model_are_counted() -> None:
    first = msgspec.structs.replace(SMOL, tensor_bytes=100, repacked_bytes=50, split_count=3, split_index=0)
    shape = EngineShape(context_size=512)
    assert footprint(first, shape, files_bytes=1000).weights_bytes == 1500
    empty = msgspec.structs.replace(first, tensor_bytes=0, repacked_bytes=0)
    assert footprint(empty, shape, files_bytes=1000).weights_bytes == 2000
    assert footprint(SMOL, shape, files_bytes=SMOL.tensor_bytes + 4096).weights_bytes == SMOL.tensor_bytes


def test_the_process_itself_grows_with_the_vocabulary() -> None:
    shape = EngineShape(context_size=512)
    small = footprint(SMOL, shape).overhead_bytes
    large = footprint(msgspec.structs.replace(SMOL, vocab_size=260_000), shape).overhead_bytes
    assert small / MIB == pytest.approx(44, abs=1)
    assert large / MIB == pytest.approx(147, abs=1)


def test_the_total_is_the_sum() -> None:
    need = footprint(SMOL, EngineShape(context_size=512))
    parts = (need.weights_bytes, need.kv_bytes, need.compute_bytes, need.overhead_bytes)
    assert need.total_bytes == sum(parts)


def test_a_cache_type_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match=r"“q3_k” is no type of cache; the types are f32, f16, .*iq4_nl\.$"):
        footprint(SMOL, EngineShape(context_size=512, cache_type_v="q3_k"))


def test_cache_types_keep_whole_blocks() -> None:
    sizes = {name: footprint(SMOL, EngineShape(context_size=256, cache_type_k=name, cache_type_v=name)).kv_bytes
             for name in CACHE_TYPES}  # fmt: skip
    assert sizes["q4_0"] == sizes["f16"] * 18 // 64
    assert sizes["f32"] == 2 * sizes["bf16"] == 2 * sizes["f16"]
    odd = kind("llama", head_count_kv=1, key_length=40, value_length=40)
    shape = EngineShape(context_size=256, cache_type_k="q8_0", cache_type_v="q8_0")
    assert footprint(odd, shape).kv_bytes == 4 * 256 * 2 * (2 * 34)


def test_broken_headers_are_read_or_refused_and_never_more() -> None:
    tally = run(3000, seed=20261123)
    assert tally.read > 300
    assert tally.refused > 300
