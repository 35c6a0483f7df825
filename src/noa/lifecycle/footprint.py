"""How many bytes of memory a local model needs, from the header of its file and the way it will be run.

The weights and the cache are llama.cpp's own arithmetic (``src/llama-kv-cache.cpp``, ``src/llama-kv-cache-iswa.cpp``,
``src/llama-memory-recurrent.cpp``, ``src/llama-hparams.cpp``, and the loaders in ``src/models/``). The buffers of its
computation are bounded from above by what its allocator was seen to keep at once, over models of many shapes; the rest
of its process was measured. Where a model is of an architecture that is not listed here, every layer is counted in
full, and the answer says so.

These are the needs of an engine on a CPU with flash attention, which it uses by itself wherever it can. On a GPU the
same bytes are divided between the two memories, and the driver takes some of its own that nothing here knows of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from noa.errors import ValidationError
from noa.gguf import GgufHeader

#: Types of the cache: name → (elements per block, bytes per block).
CACHE_TYPES: Mapping[str, tuple[int, int]] = {
    "f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q5_1": (32, 24), "q5_0": (32, 22),
    "q4_1": (32, 20), "q4_0": (32, 18), "iq4_nl": (32, 18),
}  # fmt: skip

#: A slot's context is rounded up to a multiple of this many cells.
_CELLS = 256
_F32 = 4
_MASK_ELEMENT = 2
#: More layers than any model has: beyond it a header is not to be computed with.
_MAX_LAYERS = 1024

#: What the process takes beside its buffers, without the pages of its libraries that engines share; measured.
_PROCESS_BYTES = 20 * 1024 * 1024
#: What a token of the vocabulary takes in the tokenizer's maps, with its merges; measured.
_TOKEN_BYTES = 512
_ASSUMED_VOCABULARY = 128_000

#: Attention in every layer, or latent attention (MLA) where the header gives its dimensions. Windows that some of them
#: have, but whose pattern is not known for sure, are counted in full.
_ATTENTION = frozenset({
    "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "bloom", "chatglm", "codeshell",
    "command-r", "dbrx", "deci", "deepseek", "deepseek2", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "exaone4",
    "falcon", "gemma", "glm4", "glm4moe", "gpt2", "gptneox", "granite", "granitemoe", "grok", "hunyuan-dense",
    "hunyuan-moe", "internlm2", "jais", "llama", "llama4", "minicpm", "minimax-m2", "mistral3", "mpt", "nemotron",
    "olmo", "olmoe", "openelm", "orion", "phi2", "phi3", "phimoe", "plamo", "qwen", "qwen2", "qwen2moe", "qwen2vl",
    "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "refact", "seed_oss", "smollm3", "stablelm", "starcoder",
    "starcoder2", "xverse",
})  # fmt: skip
#: Attention through a sliding window but for every n-th layer: (n, whether the first of n is the full one). The header
#: may give another n, or flags per layer; where n is 1, flags are all there is.
_WINDOWED: Mapping[str, tuple[int, bool]] = {
    "afmoe": (4, False), "cohere2": (4, False), "gemma2": (2, False), "gemma3": (6, False), "gemma4": (1, False),
    "gpt-oss": (2, False), "olmo2": (4, False), "smallthinker": (4, True),
}  # fmt: skip
#: A state of constant size instead of a cache, in every layer.
_RECURRENT = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})
#: Recurrent wherever a layer has no heads of keys and values.
_RECURRENT_BY_HEADS = frozenset({
    "granitehybrid", "jamba", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "plamo2"
})  # fmt: skip
#: Recurrent but for every n-th layer, or as flags per layer say.
_RECURRENT_BY_INTERVAL = frozenset({"qwen35", "qwen35moe", "qwen3next"})
_ASSUMED_INTERVAL = 4
#: Attention and a recurrent state side by side in every layer.
_BOTH = frozenset({"falcon-h1"})
#: Encoders: they see a text once and keep nothing.
_WITHOUT_CACHE = frozenset({
    "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert",
    "nomic-bert-moe",
})  # fmt: skip


class Basis(StrEnum):
    """What a footprint rests on.

    ``FORMULA``: the engine's own arithmetic. ``BOUND``: an architecture that is not known, each layer counted in full.
    ``FILE_SIZE``: a header without the numbers to calculate with, so a guess from how many parameters there are.
    """

    FORMULA = "formula"
    BOUND = "bound"
    FILE_SIZE = "file size"


class EngineShape(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine will run a model.

    ``context_size`` is in tokens for each of the ``slots``, the cache types are keys of ``CACHE_TYPES``, ``batch_size``
    is how many tokens are evaluated at once (all of the context where an ``embedding`` model sees its texts as a
    whole). ``repacks`` says that a CPU runs it from a mapped file: it keeps a second copy of weights of some types,
    ordered to its liking. ``checkpoints`` is how many earlier states of each slot are kept.
    """

    context_size: int
    slots: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    batch_size: int = 64
    embedding: bool = False
    repacks: bool = True
    checkpoints: int = 0


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes a model needs: its weights, its cache (recurrent states included), buffers, and the process itself.

    ``checkpoint_bytes`` come later, with requests: of what a model forgets, earlier states are kept.
    """

    weights_bytes: int
    kv_bytes: int
    checkpoint_bytes: int
    compute_bytes: int
    overhead_bytes: int
    basis: Basis

    @property
    def total_bytes(self) -> int:
        """All of it."""
        allocated = self.weights_bytes + self.kv_bytes + self.compute_bytes
        return allocated + self.checkpoint_bytes + self.overhead_bytes


class _Attention(NamedTuple):
    """What a layer keeps of each token, in elements, and whether it keeps no more tokens than the window has."""

    keys: int
    values: int
    windowed: bool


class _Memory(NamedTuple):
    """What a model remembers: its layers with attention, and how many elements its recurrent layers hold for a slot."""

    attention: tuple[_Attention, ...]
    state: int


def footprint(header: GgufHeader, shape: EngineShape, *, files_bytes: int | None = None) -> Footprint:
    """The memory that an engine of this shape takes for the model of this header.

    ``files_bytes`` is the size of all its files, where the header is that of the first of several. Raises
    ``ValidationError`` for a cache type that is none.
    """
    layers = header.block_count or 0
    memory = _memory(header, layers) if 0 < layers <= _MAX_LAYERS else None
    if memory is None:
        basis, kv_bytes = Basis.FILE_SIZE, _guessed_kv_bytes(header, shape)
    else:
        basis = Basis.FORMULA if _is_known(header.architecture) else Basis.BOUND
        kv_bytes = _kv_bytes(header, shape, memory)
    vocabulary = header.vocab_size or _ASSUMED_VOCABULARY
    return Footprint(
        weights_bytes=_weights_bytes(header, shape, files_bytes),
        kv_bytes=kv_bytes,
        checkpoint_bytes=shape.slots * shape.checkpoints * _forgetful_bytes(header, shape, memory) if memory else 0,
        compute_bytes=_compute_bytes(header, shape, memory or _Memory((), 0), vocabulary),
        overhead_bytes=_PROCESS_BYTES + vocabulary * _TOKEN_BYTES,
        basis=basis,
    )


def _is_known(architecture: str | None) -> bool:
    groups = (_ATTENTION, _WINDOWED, _RECURRENT, _RECURRENT_BY_HEADS, _RECURRENT_BY_INTERVAL, _BOTH, _WITHOUT_CACHE)
    return any(architecture in group for group in groups)


def _weights_bytes(header: GgufHeader, shape: EngineShape, files_bytes: int | None) -> int:
    """The tensors, and the copies of those that are repacked; those of further files are taken to be alike."""
    if files_bytes is None or (header.split_count or 1) == 1:
        return header.tensor_bytes + shape.repacks * header.repacked_bytes
    own = header.tensor_bytes
    repacked = files_bytes * header.repacked_bytes // own if own else files_bytes
    return files_bytes + shape.repacks * repacked


# What a model remembers.


def _memory(header: GgufHeader, layers: int) -> _Memory | None:
    """How the architecture divides attention and recurrence over its layers; ``None`` if the header does not tell."""
    architecture = header.architecture
    if architecture in _WITHOUT_CACHE:
        return _Memory((), 0)
    state = _state_elements(header)
    if architecture in _RECURRENT:
        return _Memory((), layers * state) if state else None
    attention = _attention(header, layers)
    if attention is None:
        return None
    if architecture in _RECURRENT_BY_INTERVAL:
        recurrent = _recurrent_layers(header, layers)
        kept = tuple(layer for layer, without in zip(attention, recurrent, strict=True) if not without)
        return _Memory(kept, sum(recurrent) * state)
    if architecture in _RECURRENT_BY_HEADS:
        return _Memory(attention, sum(layer.keys == 0 for layer in attention) * state)
    if architecture in _ATTENTION or architecture in _WINDOWED:
        return _Memory(attention, 0)
    return _Memory(attention, layers * state)


def _attention(header: GgufHeader, layers: int) -> tuple[_Attention, ...] | None:
    head_counts = _per_layer(header.head_count, layers)
    kv_head_counts = head_counts if header.head_count_kv is None else _per_layer(header.head_count_kv, layers)
    first = next((count for count in head_counts if count), 0)
    default = (header.embedding_length or 0) // first if first else 0
    key_length = default if header.key_length is None else header.key_length
    value_length = default if header.value_length is None else header.value_length
    if not key_length or not any(kv_head_counts):
        return None
    number, known = header.dimensions.get, _is_known(header.architecture)
    if known and number("attention.key_length_mla") and number("attention.value_length_mla"):
        value_length = 0  # The latent keys are all that is kept.
    window_key = number("attention.key_length_swa", key_length)
    window_value = number("attention.value_length_swa", value_length)
    windowed = _windowed_layers(header, layers)
    lengths = [(window_key, window_value) if narrow else (key_length, value_length) for narrow in windowed]
    own = layers - min(number("attention.shared_kv_layers", 0) if known else 0, layers)
    return tuple(
        _Attention(heads * keys, heads * values, narrow)
        for heads, (keys, values), narrow in zip(kv_head_counts[:own], lengths[:own], windowed[:own], strict=True)
    )


def _windowed_layers(header: GgufHeader, layers: int) -> tuple[bool, ...]:
    known = _WINDOWED.get(header.architecture or "")
    if known is None or not header.sliding_window:
        return (False,) * layers
    period, full_first = known
    pattern = header.sliding_window_pattern
    if isinstance(pattern, tuple):
        return tuple(map(bool, pattern[:layers])) + (False,) * (layers - len(pattern))
    if pattern is not None:
        period = max(pattern, 1)
    full = 0 if full_first else period - 1
    return tuple(layer % period != full for layer in range(layers))


def _recurrent_layers(header: GgufHeader, layers: int) -> tuple[bool, ...]:
    flags = header.recurrent_layers
    if isinstance(flags, tuple):
        return tuple(map(bool, flags[:layers])) + (False,) * (layers - len(flags))
    interval = header.dimensions.get("full_attention_interval") or _ASSUMED_INTERVAL
    return tuple((layer + 1) % interval != 0 for layer in range(layers))


def _state_elements(header: GgufHeader) -> int:
    """What one recurrent layer holds for one slot, in elements: its convolution's window and its state."""
    number = header.dimensions.get
    width = header.embedding_length or 0
    if head_size := number("wkv.head_size"):
        return width * (number("token_shift_count", 2) + head_size)
    if window := number("shortconv.l_cache"):
        return width * (window - 1)
    state = number("ssm.state_size", 0) * number("ssm.inner_size", 0)
    return (max(number("ssm.conv_kernel", 0), 1) - 1) * _convolved(header) + state


def _convolved(header: GgufHeader) -> int:
    number = header.dimensions.get
    return number("ssm.inner_size", 0) + 2 * number("ssm.group_count", 0) * number("ssm.state_size", 0)


def _kv_bytes(header: GgufHeader, shape: EngineShape, memory: _Memory) -> int:
    per_slot = memory.state * _F32
    for layer in memory.attention:
        row = _row_bytes(shape.cache_type_k, layer.keys) + _row_bytes(shape.cache_type_v, layer.values)
        per_slot += _cells(header, shape, windowed=layer.windowed) * row
    return shape.slots * per_slot


def _forgetful_bytes(header: GgufHeader, shape: EngineShape, memory: _Memory) -> int:
    """What one slot holds that cannot be rewound: the windows of its attention, and its recurrent states."""
    windows = _Memory(tuple(layer for layer in memory.attention if layer.windowed), memory.state)
    return _kv_bytes(header, shape, windows) // shape.slots


def _cells(header: GgufHeader, shape: EngineShape, *, windowed: bool) -> int:
    """How many tokens a layer keeps for each slot. A window is kept as long as a batch is on its way through it."""
    cells = _rounded(shape.context_size)
    if not windowed:
        return cells
    return _rounded(min(cells, (header.sliding_window or 0) + shape.batch_size))


def _rounded(tokens: int) -> int:
    return -(-tokens // _CELLS) * _CELLS


def _row_bytes(cache_type: str, elements: int) -> int:
    block = CACHE_TYPES.get(cache_type)
    if block is None:
        raise ValidationError(f"“{cache_type}” is no type of cache; the types are {', '.join(CACHE_TYPES)}.")
    return -(-elements // block[0]) * block[1]


def _guessed_kv_bytes(header: GgufHeader, shape: EngineShape) -> int:
    """What a model of so many parameters P, without grouped queries, would keep.

    Such a model has about 12·L·e² parameters in L layers of width e, and L is about e/128. Of each token it keeps L·e
    elements of keys and as many of values, which is 0.038·P^⅔: for Llama 2 7B 139,000, where it has 131,072.
    """
    elements = round(0.038 * max(header.parameter_count, 1) ** (2 / 3))
    per_token = _row_bytes(shape.cache_type_k, elements) + _row_bytes(shape.cache_type_v, elements)
    return shape.slots * _rounded(shape.context_size) * per_token


# What it computes in.


def _compute_bytes(header: GgufHeader, shape: EngineShape, memory: _Memory, vocabulary: int) -> int:
    """The buffers of a batch: the widest layer or the logits, the masks, and the states it works on.

    The terms are what the engine's allocator keeps at once; a twentieth is added for how it cuts its buffer.
    """
    width = header.embedding_length or round((max(header.parameter_count, 1) * 32 / 3) ** (1 / 3))
    outputs = shape.batch_size if shape.embedding else shape.slots
    encoder = header.architecture in _WITHOUT_CACHE
    if encoder:
        outputs = 0  # It has no logits.
    layer = shape.batch_size * (5 * width + _widest(header, memory, width) + _per_layer_inputs(header))
    logits = shape.batch_size * 6 * width + outputs * vocabulary
    cacheless = encoder or header.architecture in _RECURRENT
    seen = shape.batch_size if cacheless else _cells(header, shape, windowed=False)
    if encoder:
        seen *= 2  # Some of them have windows in some layers, which takes a second mask.
    if any(attention.windowed for attention in memory.attention):
        seen += _cells(header, shape, windowed=True)
    masks = shape.batch_size * seen * _MASK_ELEMENT
    positions = shape.batch_size * 64
    working = max(layer, logits) * _F32 + masks + positions + shape.slots * _state_elements(header) * _F32
    return working * 21 // 20 + shape.slots * (vocabulary + width) * _F32


def _widest(header: GgufHeader, memory: _Memory, width: int) -> int:
    """The most elements that one of its layers holds of each token at once, beside the residual stream."""
    number = header.dimensions.get
    heads = _most(header.head_count)
    head_length = header.key_length or (width // heads if heads else 0)
    attention = 2 * heads * head_length + max((2 * layer.keys for layer in memory.attention), default=0)
    forward = _most(header.feed_forward_length) or 4 * width
    experts = number("expert_used_count", 0) * (3 * (number("expert_feed_forward_length") or forward) + width)
    recurrent = (
        5 * _convolved(header) if number("ssm.inner_size") else 12 * width * ("wkv.head_size" in header.dimensions)
    )
    return max(attention, 3 * forward, experts, recurrent)


def _per_layer_inputs(header: GgufHeader) -> int:
    layers = min(header.block_count or 0, _MAX_LAYERS)
    return 2 * layers * header.dimensions.get("embedding_length_per_layer_input", 0)


def _per_layer(value: int | tuple[int, ...] | None, layers: int) -> Sequence[int]:
    """One number for each layer; where there are too few, the largest stands in."""
    if isinstance(value, tuple):
        return value[:layers] + (max(value, default=0),) * (layers - len(value))
    return (value or 0,) * layers


def _most(value: int | tuple[int, ...] | None) -> int:
    return max(value, default=0) if isinstance(value, tuple) else value or 0
