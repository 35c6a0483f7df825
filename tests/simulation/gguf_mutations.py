"""Breaks headers of weights files at random, and checks that each is read or refused, at little cost, never more.

Run it as a command: ``python tests/simulation/gguf_mutations.py --count 100000``. It prints what became of them, and
ends with 1 and the header that did it if one gets through: by another error than the reader's own, by more memory than
a header is worth, or by a footprint that makes no sense.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # Where its neighbours are, when it is run as a command.

from gguf_writer import Fact, header  # See the line above.
from noa.gguf import GgufError, GgufHeader, read_header
from noa.lifecycle.footprint import EngineShape, footprint

#: The most that reading one of these headers may have allocated at once, in bytes.
PEAK_BYTES = 4 * 1024 * 1024
SHAPE = EngineShape(context_size=4096, slots=2, cache_type_k="q8_0")

_PLAIN: dict[str, Fact] = {
    "context_length": 8192, "embedding_length": 256, "block_count": 4, "attention.head_count": 8,
    "feed_forward_length": 512, "tokenizer.ggml.tokens": ["<s>", "a", "€"], "tokenizer.ggml.scores": [0.0, 0.5, 1.0],
}  # fmt: skip
_FAMILIES: dict[str, dict[str, Fact]] = {
    "llama": {"attention.head_count_kv": 2},
    "gemma4": {
        "attention.head_count_kv": [4, 2, 4, 2], "attention.sliding_window": 512, "attention.shared_kv_layers": 1,
        "attention.sliding_window_pattern": [True, True, False, True], "attention.key_length_swa": 64,
    },
    "deepseek2": {"attention.key_length": 320, "attention.key_length_mla": 128, "attention.value_length_mla": 64},
    "mamba": {"ssm.inner_size": 512, "ssm.state_size": 16, "ssm.conv_kernel": 4},
    "qwen3next": {"full_attention_interval": 4, "ssm.inner_size": 512, "ssm.state_size": 64, "ssm.group_count": 2},
    "bert": {"pooling_type": 1},
    "unheard-of": {"split.count": 2, "split.no": 0},
}  # fmt: skip
SEEDS = tuple(
    header(family, {**_PLAIN, **facts}, [("token_embd.weight", (256, 3)), ("output_norm.weight", (256,))])
    for family, facts in _FAMILIES.items()
)
_TENSORS_BYTES = 4096
_WILD = (0, 1, 2, 255, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


class Tally(NamedTuple):
    """What became of the headers, and how much memory the greediest took."""

    read: int
    refused: int
    peak_bytes: int


class GotThroughError(Exception):
    """A header got through. ``content`` is the file that did it."""

    def __init__(self, what: str, content: bytes) -> None:
        super().__init__(what)
        self.content = content


def mutated(chance: random.Random) -> bytes:
    """A good file with bytes changed, put in or taken out, or a number in it replaced by a wild one."""
    content = bytearray(chance.choice(SEEDS) + bytes(_TENSORS_BYTES))
    length = len(content) - _TENSORS_BYTES
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(4, length)
        match chance.randrange(5):
            case 0:
                content[at] = chance.randrange(256)
            case 1:
                content[at] ^= 1 << chance.randrange(8)
            case 2:
                content[at:at] = chance.randbytes(chance.randint(1, 12))
            case 3:
                del content[at : at + chance.randint(1, 40)]
            case _:
                number = struct.pack("<Q", chance.choice(_WILD))[: chance.choice((4, 8))]
                content[at : at + len(number)] = number
    return bytes(content[: chance.randrange(length)] if chance.random() < 0.05 else content)


def run(count: int, seed: int) -> Tally:
    """Break and read so many headers. Raises ``GotThroughError`` at the first that gets through."""
    chance = random.Random(seed)
    read, greediest = 0, 0
    tracemalloc.start()
    try:
        for _ in range(count):
            content = mutated(chance)
            stream = io.BytesIO(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            read += _is_read(stream, content)
            peak = tracemalloc.get_traced_memory()[1] - before
            if peak > PEAK_BYTES:
                raise GotThroughError(f"it took {peak} bytes to read", content)
            greediest = max(greediest, peak)
    finally:
        tracemalloc.stop()
    return Tally(read, count - read, greediest)


def _is_read(stream: io.BytesIO, content: bytes) -> bool:
    try:
        found = read_header(stream, len(content), "mutated.gguf")
        _check(found, content)
    except GgufError as error:
        if not error.message.isprintable() or len(error.message) > 400:
            raise GotThroughError(f"it was refused with {error.message!r}", content) from error
        return False
    except GotThroughError:
        raise
    except Exception as error:
        raise GotThroughError(f"it was met with {error!r}", content) from error
    return True


def _check(found: GgufHeader, content: bytes) -> None:
    need = footprint(found, SHAPE)
    parts = (need.weights_bytes, need.kv_bytes, need.compute_bytes, need.overhead_bytes)
    if min(parts) < 0 or need.total_bytes != sum(parts) or found.tensor_bytes > len(content):
        raise GotThroughError(f"its footprint is {need}", content)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Break headers of weights files at random.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        tally = run(arguments.count, arguments.seed)
    except GotThroughError as fault:
        print(f"A header got through: {fault}\n{fault.content.rstrip(bytes(1)).hex()}", file=sys.stderr)
        return 1
    print(f"{tally.read} read, {tally.refused} refused, at most {tally.peak_bytes} bytes at once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
