"""What a model needs is what was measured of the same file, shape and engine; else it is calculated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gguf_writer import header
from noa.errors import ValidationError
from noa.gguf import GgufHeader, read_header
from noa.lifecycle.footprint import Basis, EngineShape, footprint
from noa.models import CacheType, LoadOptions, ModelCapability, ModelInfo
from noa.providers.protocol import Locality, Offer
from noa.runtime.launch import engine_build
from noa.runtime.llama_server import CPU_BATCH
from noa.shape import Shape
from noa.sizes import MEASURED, Sizes

MIB = 1024**2
PLAIN = LoadOptions()
LONG = LoadOptions(context_size=8192, slots=4)
FACTS = {
    "context_length": 8192, "embedding_length": 256, "block_count": 4, "feed_forward_length": 512,
    "attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": 1000,
}  # fmt: skip
REPORT = [
    "llama_model_loader: loaded meta data with 1 key-value pairs",
    "load_tensors:   CPU_Mapped model buffer size =   100.00 MiB",
    "llama_kv_cache:        CPU KV buffer size =   20.00 MiB",
]


class Process:
    """An engine's process, as far as it is measured."""

    def __init__(self, resident_bytes: int | None, lines: Sequence[str] = ()) -> None:
        self._resident_bytes = resident_bytes
        self._lines = lines

    def memory_bytes(self) -> int | None:
        return self._resident_bytes

    def log_lines(self) -> Sequence[str]:
        return self._lines


@pytest.fixture
def offer(tmp_path: Path) -> Offer:
    path = tmp_path / "m.gguf"
    path.write_bytes(header("llama", FACTS, []))
    with path.open("rb") as file:
        read = read_header(file, path.stat().st_size)
    return offer_of(header=read)


def offer_of(**changes: Any) -> Offer:
    model = ModelInfo(
        id="m", name="m", provider="llama.cpp", context_window=8192, capabilities=(ModelCapability.CHAT_COMPLETION,)
    )
    facts: dict[str, Any] = {
        "model": model, "locality": Locality.OWNED, "path": "/m/m.gguf", "size_bytes": 5000, "modified_ns": 17,
    }  # fmt: skip
    return Offer(**{**facts, **changes})


def measure(sizes: Sizes, offer: Offer, options: LoadOptions, process: Process) -> bool:
    measured = sizes.measure(offer, options, process)  # type: ignore[arg-type]  # that much of a process
    assert measured is not None
    return sizes.note(measured)


def header_of(offer: Offer) -> GgufHeader:
    assert offer.header is not None
    return offer.header


def test_a_model_never_loaded_is_calculated_in_the_shape_it_will_have(offer: Offer) -> None:
    sizes = Sizes(Shape(context_size=2048), "engine 1")
    shape = EngineShape(context_size=2048, batch_size=CPU_BATCH)
    plain = footprint(header_of(offer), shape, files_bytes=5000).total_bytes
    assert sizes.need(offer, PLAIN).size_bytes == plain == sizes.known(offer).size_bytes
    assert sizes.need(offer, PLAIN).basis == Basis.FORMULA
    assert sizes.need(offer, LONG).size_bytes > plain
    small = LoadOptions(context_size=8192, slots=4, cache_type=CacheType.Q4_0)
    assert sizes.need(offer, small).size_bytes < sizes.need(offer, LONG).size_bytes


def test_the_configured_type_of_the_cache_counts_where_the_load_says_none(offer: Offer) -> None:
    smaller = Sizes(Shape(cache_type=CacheType.Q8_0), "engine 1")
    assert smaller.need(offer, PLAIN).size_bytes < Sizes(Shape(), "engine 1").need(offer, PLAIN).size_bytes
    f16 = LoadOptions(cache_type=CacheType.F16)
    assert smaller.need(offer, f16) == Sizes(Shape(), "engine 1").need(offer, PLAIN)


def test_an_embedding_model_evaluates_all_of_its_context_at_once(offer: Offer) -> None:
    model = msgspec.structs.replace(offer.model, capabilities=(ModelCapability.EMBEDDINGS,))
    embedding = msgspec.structs.replace(offer, model=model)
    shape = EngineShape(context_size=4096, batch_size=4096, embedding=True)
    needed = footprint(header_of(offer), shape, files_bytes=5000).total_bytes
    assert Sizes(Shape(), "engine 1").need(embedding, PLAIN).size_bytes == needed


def test_without_a_header_it_is_the_size_of_the_file() -> None:
    need = Sizes(Shape(), "engine 1").need(offer_of(header=None), PLAIN)
    assert (need.size_bytes, need.basis) == (5000, "file size")


def test_a_type_of_cache_that_is_none_is_refused(offer: Offer) -> None:
    odd = LoadOptions(cache_type="q3_k")  # type: ignore[arg-type]  # what people may write
    for each in (offer, offer_of()):
        with pytest.raises(ValidationError, match="q3_k"):
            Sizes(Shape(), "engine 1").need(each, odd)


def test_what_was_measured_counts_from_then_on(offer: Offer) -> None:
    sizes = Sizes(Shape(), "engine 1")
    assert measure(sizes, offer, PLAIN, Process(300 * MIB))
    need = sizes.need(offer, PLAIN)
    assert (need.size_bytes, need.basis) == (300 * MIB, MEASURED)
    assert sizes.known(offer).size_bytes == 300 * MIB


def test_the_larger_of_what_it_reports_and_what_is_resident_counts(offer: Offer) -> None:
    sizes = Sizes(Shape(), "engine 1")
    reported = sizes.measure(offer, PLAIN, Process(90 * MIB, REPORT))  # type: ignore[arg-type]
    assert reported is not None
    assert (reported.by, reported.size_bytes > 120 * MIB) == ("allocation", True), "with what a process takes beside"
    resident = sizes.measure(offer, PLAIN, Process(300 * MIB, REPORT))  # type: ignore[arg-type]
    assert resident is not None
    assert (resident.by, resident.size_bytes) == ("resident", 300 * MIB)


def test_of_a_process_that_is_gone_nothing_is_said(offer: Offer) -> None:
    assert Sizes(Shape(), "engine 1").measure(offer, PLAIN, Process(None)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [{"path": "/m/n.gguf"}, {"size_bytes": 5001}, {"modified_ns": 18}],
    ids=["another file", "another size", "written anew"],
)
def test_another_file_is_not_known_by_that_measurement(offer: Offer, other: dict[str, Any]) -> None:
    sizes = Sizes(Shape(), "engine 1")
    measure(sizes, offer, PLAIN, Process(300 * MIB))
    assert sizes.need(msgspec.structs.replace(offer, **other), PLAIN).basis == Basis.FORMULA


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(context_size=512),
        LoadOptions(slots=2),
        LoadOptions(cache_type=CacheType.Q8_0),
        LoadOptions(gpu_layers=1),
    ],
)
def test_another_shape_is_not_known_by_that_measurement(offer: Offer, options: LoadOptions) -> None:
    sizes = Sizes(Shape(), "engine 1")
    measure(sizes, offer, PLAIN, Process(300 * MIB))
    assert sizes.need(offer, options).basis == Basis.FORMULA


@pytest.mark.parametrize(
    "options", [LoadOptions(threads=7), LoadOptions(pin=True, ttl_s=3.0), LoadOptions(context_size=4096, slots=1)]
)
def test_the_same_shape_is_known_however_it_was_asked_for(offer: Offer, options: LoadOptions) -> None:
    sizes = Sizes(Shape(), "engine 1")
    measure(sizes, offer, PLAIN, Process(300 * MIB))
    assert sizes.need(offer, options).basis == MEASURED


def test_after_a_restart_it_is_still_known_but_not_to_another_build(offer: Offer) -> None:
    before = Sizes(Shape(), "engine 1")
    measured = before.measure(offer, PLAIN, Process(300 * MIB))  # type: ignore[arg-type]
    assert measured is not None
    for build, basis in (("engine 1", MEASURED), ("engine 2", Basis.FORMULA)):
        after = Sizes(Shape(), build)
        after.restore([measured])
        assert after.need(offer, PLAIN).basis == basis


def test_only_what_is_new_is_worth_writing_down(offer: Offer) -> None:
    sizes = Sizes(Shape(), "engine 1")
    assert measure(sizes, offer, PLAIN, Process(300 * MIB))
    assert not measure(sizes, offer, PLAIN, Process(302 * MIB))
    assert measure(sizes, offer, PLAIN, Process(310 * MIB))
    unrecognisable = msgspec.structs.replace(offer, modified_ns=None)
    assert not measure(sizes, unrecognisable, PLAIN, Process(310 * MIB))


def test_a_remote_model_needs_nothing_here() -> None:
    known = Sizes(Shape(), "engine 1").known(offer_of(locality=Locality.REMOTE))
    assert (known.owned, known.size_bytes) == (False, 0)


def test_builds_are_told_apart(tmp_path: Path) -> None:
    binary = tmp_path / "llama-server"
    binary.write_bytes(b"one")
    first = engine_build(binary)
    binary.write_bytes(b"another")
    assert len({first, engine_build(binary), engine_build(tmp_path / "gone"), engine_build(None)}) == 4
