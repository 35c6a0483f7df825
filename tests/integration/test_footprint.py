"""What a model was said to need, against what the real engine says it allocated, for models of several kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from gguf_writer import MIN_VOCABULARY, Q4_0, Fact, Tensor, write_model
from noa.gguf import GgufHeader, read_header
from noa.lifecycle import footprint as needs
from noa.lifecycle.footprint import Basis, EngineShape, Footprint, footprint
from noa.models import LoadOptions, ModelCapability, ModelInfo
from noa.providers.protocol import Offer
from noa.runtime.allocation import LOADED, Allocation, read_allocation
from noa.runtime.child import ChildRuntime
from noa.runtime.llama_server import CACHE_TYPES, CHECKPOINTS, CPU_BATCH
from noa.runtime.protocol import EngineSpec
from noa.shape import Shape
from noa.state import ProcessGone, ProcessIntended, ProcessStarted

pytestmark = pytest.mark.engine

WIDTH, HEADS, KV_HEADS, LENGTH, FORWARD = 256, 4, 2, 64, 512
#: The engine reports each buffer to a hundredth of a MiB, so a small one is known no better than this.
ROUNDING = 16 * 1024

HEAD: list[Tensor] = [
    ("token_embd.weight", (WIDTH, MIN_VOCABULARY)),
    ("output_norm.weight", (WIDTH,)),
    ("output.weight", (WIDTH, MIN_VOCABULARY)),
]


@pytest.fixture
async def runtime() -> AsyncIterator[ChildRuntime]:
    runtime = ChildRuntime()
    yield runtime
    await runtime.aclose()


async def allocated(runtime: ChildRuntime, path: Path, shape: EngineShape, *, last_token: bool = False) -> Allocation:
    """Load it, and read what the engine says of its memory."""
    spec = EngineSpec(
        key="llama.cpp:m", generation=1, path=str(path), alias="m", context_size=shape.context_size, slots=shape.slots,
        cache_type=shape.cache_type_k, embedding=shape.embedding, last_token=last_token, maps=shape.repacks,
    )  # fmt: skip

    async def forget(_entry: ProcessIntended | ProcessStarted | ProcessGone) -> None:
        pass

    process = await runtime.start(spec, forget, lambda _phase: None)
    lines = process.log_lines()
    await process.stop()
    assert any(LOADED in line for line in lines), "the end of the load is told in other words: each start waits in vain"
    found = read_allocation(lines)
    assert found is not None, "the engine said nothing of its memory"
    return found


def header_of(path: Path) -> GgufHeader:
    with path.open("rb") as file:
        return read_header(file, path.stat().st_size, path.name)


def shape_of(context_size: int, slots: int = 1, cache_type: str = "f16") -> EngineShape:
    return EngineShape(
        context_size=context_size, slots=slots, cache_type_k=cache_type, cache_type_v=cache_type, batch_size=CPU_BATCH
    )


def assert_meant(need: Footprint, real: Allocation) -> None:
    """The weights and the cache to the point, everything else on the safe side."""
    assert need.basis is Basis.FORMULA
    assert need.weights_bytes == pytest.approx(real.model_bytes, rel=0.02)
    assert need.kv_bytes == pytest.approx(real.kv_bytes + real.state_bytes, rel=0.02, abs=ROUNDING)
    assert need.compute_bytes >= real.compute_bytes + real.output_bytes
    assert need.total_bytes >= real.total_bytes


@pytest.mark.parametrize("cache_type", ["f16", "q8_0"])
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("context_size", [512, 1024, 2048, 4096, 8192])
async def test_the_demo_model_needs_what_was_said(
    runtime: ChildRuntime, demo_model: Path, context_size: int, slots: int, cache_type: str
) -> None:
    shape = shape_of(context_size, slots, cache_type)
    need = footprint(header_of(demo_model), shape)
    real = await allocated(runtime, demo_model, shape)
    assert_meant(need, real)
    assert need.total_bytes <= 1.5 * real.total_bytes


def facts(layers: int, **more: Fact) -> dict[str, Fact]:
    return {
        "context_length": 8192, "embedding_length": WIDTH, "block_count": layers, "feed_forward_length": FORWARD,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": LENGTH,
        "attention.value_length": LENGTH, "attention.layer_norm_rms_epsilon": 1e-5, **more,
    }  # fmt: skip


def attention(block: str) -> list[Tensor]:
    return [
        (block + "attn_norm.weight", (WIDTH,)),
        (block + "attn_q.weight", (WIDTH, HEADS * LENGTH)),
        (block + "attn_k.weight", (WIDTH, KV_HEADS * LENGTH)),
        (block + "attn_v.weight", (WIDTH, KV_HEADS * LENGTH)),
        (block + "attn_output.weight", (HEADS * LENGTH, WIDTH)),
    ]


def norms(block: str) -> list[Tensor]:
    return [(block + "attn_q_norm.weight", (LENGTH,)), (block + "attn_k_norm.weight", (LENGTH,))]


def forward(block: str) -> list[Tensor]:
    return [
        (block + "ffn_norm.weight", (WIDTH,)),
        (block + "ffn_gate.weight", (WIDTH, FORWARD)),
        (block + "ffn_up.weight", (WIDTH, FORWARD)),
        (block + "ffn_down.weight", (FORWARD, WIDTH)),
    ]


def windowed() -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    tensors = HEAD[:2]
    for block in (f"blk.{layer}." for layer in range(7)):
        after = [(block + "post_attention_norm.weight", (WIDTH,)), (block + "post_ffw_norm.weight", (WIDTH,))]
        tensors = [*tensors, *attention(block), *norms(block), *forward(block), *after]
    return facts(7, **{"attention.sliding_window": 512}), tensors


def experts() -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    tensors = HEAD
    for block in (f"blk.{layer}." for layer in range(2)):
        of_experts: list[Tensor] = [
            (block + "ffn_norm.weight", (WIDTH,)),
            (block + "ffn_gate_inp.weight", (WIDTH, 8)),
            (block + "ffn_gate_exps.weight", (WIDTH, FORWARD, 8)),
            (block + "ffn_up_exps.weight", (WIDTH, FORWARD, 8)),
            (block + "ffn_down_exps.weight", (FORWARD, WIDTH, 8)),
        ]
        tensors = [*tensors, *attention(block), *of_experts]
    counts: dict[str, Fact] = {"expert_count": 8, "expert_used_count": 4, "rope.dimension_count": LENGTH}
    return facts(2, **counts), tensors


def latent() -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    rank, rotated, plain = 128, 32, 64
    tensors = HEAD
    for block in (f"blk.{layer}." for layer in range(2)):
        own: list[Tensor] = [
            (block + "attn_norm.weight", (WIDTH,)),
            (block + "attn_q_a_norm.weight", (96,)),
            (block + "attn_q_a.weight", (WIDTH, 96)),
            (block + "attn_q_b.weight", (96, HEADS * (plain + rotated))),
            (block + "attn_kv_a_mqa.weight", (WIDTH, rank + rotated)),
            (block + "attn_kv_a_norm.weight", (rank,)),
            (block + "attn_k_b.weight", (plain, rank, HEADS)),
            (block + "attn_v_b.weight", (rank, LENGTH, HEADS)),
            (block + "attn_output.weight", (HEADS * LENGTH, WIDTH)),
        ]
        tensors = [*tensors, *own, *forward(block)]
    ranks: dict[str, Fact] = {
        "attention.head_count_kv": 1, "attention.key_length": rank + rotated, "attention.value_length": rank,
        "attention.key_length_mla": plain + rotated, "attention.value_length_mla": LENGTH,
        "attention.kv_lora_rank": rank, "attention.q_lora_rank": 96, "rope.dimension_count": rotated,
        "leading_dense_block_count": 2, "expert_count": 4, "expert_used_count": 2, "expert_shared_count": 1,
        "expert_feed_forward_length": FORWARD, "expert_weights_scale": 1.0, "expert_gating_func": 2,
        "vocab_size": MIN_VOCABULARY,
    }  # fmt: skip
    return facts(2, **ranks), tensors


def recurrent() -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    inner, state, kernel, rank = 512, 16, 4, 16
    tensors = HEAD[:2]
    for block in (f"blk.{layer}." for layer in range(4)):
        own: list[Tensor] = [
            (block + "attn_norm.weight", (WIDTH,)),
            (block + "ssm_in.weight", (WIDTH, 2 * inner)),
            (block + "ssm_conv1d.weight", (kernel, inner)),
            (block + "ssm_conv1d.bias", (inner,)),
            (block + "ssm_x.weight", (inner, rank + 2 * state)),
            (block + "ssm_dt.weight", (rank, inner)),
            (block + "ssm_dt.bias", (inner,)),
            (block + "ssm_a", (state, inner)),
            (block + "ssm_d", (inner,)),
            (block + "ssm_out.weight", (inner, WIDTH)),
        ]
        tensors = [*tensors, *own]
    sizes: dict[str, Fact] = {
        "attention.head_count": 0, "attention.head_count_kv": 0, "feed_forward_length": 0, "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": rank,
    }  # fmt: skip
    return facts(4, **sizes), tensors


def hybrid() -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    heads = [0, 0, KV_HEADS, 0]
    tensors = [*HEAD[:1], ("token_embd_norm.weight", (WIDTH,))]
    for layer, count in enumerate(heads):
        block = f"blk.{layer}."
        convolution: list[Tensor] = [
            (block + "attn_norm.weight", (WIDTH,)),
            (block + "shortconv.conv.weight", (3, WIDTH)),
            (block + "shortconv.in_proj.weight", (WIDTH, 3 * WIDTH)),
            (block + "shortconv.out_proj.weight", (WIDTH, WIDTH)),
        ]
        own = [*attention(block), *norms(block)] if count else convolution
        tensors = [*tensors, *own, *forward(block)]
    changes: dict[str, Fact] = {"attention.head_count_kv": heads, "shortconv.l_cache": 3}
    return facts(4, **changes), tensors


MODELS = {"gemma3": windowed, "llama": experts, "deepseek2": latent, "mamba": recurrent, "lfm2": hybrid}


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("architecture", MODELS)
async def test_models_of_other_kinds_need_what_was_said(
    runtime: ChildRuntime, tmp_path: Path, architecture: str, slots: int
) -> None:
    described, tensors = MODELS[architecture]()
    path = write_model(tmp_path / "model.gguf", architecture, described, tensors)
    shape = shape_of(2048, slots)
    assert_meant(footprint(header_of(path), shape), await allocated(runtime, path, shape))


def test_the_engine_takes_the_cache_types_that_are_reckoned_with() -> None:
    assert set(CACHE_TYPES) == set(needs.CACHE_TYPES)


@pytest.mark.parametrize("cache_type", ["bf16", "q4_0", "iq4_nl"])
async def test_every_kind_of_block_takes_what_was_said(runtime: ChildRuntime, tmp_path: Path, cache_type: str) -> None:
    path = write_model(tmp_path / "model.gguf", "llama", *experts())
    shape = shape_of(2048, cache_type=cache_type)
    assert_meant(footprint(header_of(path), shape), await allocated(runtime, path, shape))


def dense(**more: Fact) -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    tensors = HEAD
    for block in (f"blk.{layer}." for layer in range(8)):
        tensors = [*tensors, *attention(block), *forward(block)]
    return facts(8, **{"rope.dimension_count": LENGTH, **more}), tensors


async def test_weights_in_an_order_of_the_processors_own_are_held_once(runtime: ChildRuntime, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "llama", *dense(), Q4_0)
    described = header_of(path)
    offer = Offer(model=ModelInfo(id="model", name="model", provider="llama.cpp"), path=str(path), header=described)
    assert not Shape().spec(offer, LoadOptions()).maps
    assert Shape().spec(offer, LoadOptions(gpu_layers=99)).maps
    read = msgspec.structs.replace(shape_of(512), repacks=False)
    assert_meant(footprint(described, read), await allocated(runtime, path, read))
    mapped = await allocated(runtime, path, shape_of(512))
    assert mapped.model_bytes > 1.5 * footprint(described, read).weights_bytes, "this is what reading it is better than"


async def test_an_encoder_computes_no_logits(runtime: ChildRuntime, tmp_path: Path) -> None:
    described, tensors = windowed()
    path = write_model(tmp_path / "model.gguf", "gemma-embedding", {**described, "pooling_type": 1}, tensors)
    shape = msgspec.structs.replace(shape_of(1024), batch_size=1024, embedding=True)
    need, real = footprint(header_of(path), shape), await allocated(runtime, path, shape)
    assert need.kv_bytes == real.kv_bytes == 0
    assert real.compute_bytes <= need.compute_bytes


async def test_texts_whose_vector_is_that_of_their_last_token_need_no_batch_of_their_size(
    runtime: ChildRuntime, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.gguf", "qwen3", *with_norms(dense(pooling_type=3)))
    whole = msgspec.structs.replace(shape_of(4096), batch_size=4096, embedding=True)
    parts = msgspec.structs.replace(whole, batch_size=CPU_BATCH)
    model = ModelInfo(id="model", name="model", provider="llama.cpp", capabilities=(ModelCapability.EMBEDDINGS,))
    spec = Shape().spec(Offer(model=model, path=str(path), header=header_of(path)), LoadOptions())
    assert (spec.embedding, spec.last_token) == (True, True)
    in_whole = await allocated(runtime, path, whole)
    in_parts = await allocated(runtime, path, parts, last_token=True)
    assert in_parts.compute_bytes * 10 < in_whole.compute_bytes
    assert_meant(footprint(header_of(path), whole), in_whole)
    assert_meant(footprint(header_of(path), parts), in_parts)


def with_norms(
    described: tuple[Mapping[str, Fact], Sequence[Tensor]],
) -> tuple[Mapping[str, Fact], Sequence[Tensor]]:
    named, tensors = described
    return named, [*tensors, *(tensor for layer in range(8) for tensor in norms(f"blk.{layer}."))]


@pytest.mark.parametrize(("architecture", "kept"), [("gemma3", True), ("mamba", True), ("llama", False)])
def test_what_cannot_be_rewound_is_kept_a_few_times_over(tmp_path: Path, architecture: str, kept: bool) -> None:
    described, tensors = MODELS[architecture]()
    header = header_of(write_model(tmp_path / "model.gguf", architecture, described, tensors))
    once = footprint(header, msgspec.structs.replace(shape_of(8192, slots=2), checkpoints=1))
    assert bool(once.checkpoint_bytes) is kept
    assert once.checkpoint_bytes <= once.kv_bytes
    often = footprint(header, msgspec.structs.replace(shape_of(8192, slots=2), checkpoints=CHECKPOINTS))
    assert often.checkpoint_bytes == CHECKPOINTS * once.checkpoint_bytes
    assert often.total_bytes - once.total_bytes == often.checkpoint_bytes - once.checkpoint_bytes
