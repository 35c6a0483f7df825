"""What an engine allocated, from its own lines."""

from __future__ import annotations

from noa.runtime.allocation import Allocation, read_allocation

MIB = 1024 * 1024

LOAD = """\
0.00.010.000 I llama_model_loader: loaded meta data with 17 key-value pairs and 158 tensors from m.gguf
0.00.074.292 I print_info: file size   = 33.79 MiB (4.50 BPW)
0.00.324.476 I load_tensors:   CPU_Mapped model buffer size =    27.04 MiB
0.00.324.477 I load_tensors:   CPU_Mapped model buffer size =    10.00 MiB
0.00.324.478 I load_tensors:   CPU_REPACK model buffer size =    33.19 MiB
0.00.328.000 I llama_context: constructing llama_context
0.00.328.473 I llama_context:        CPU  output buffer size =     0.19 MiB
0.00.329.368 I llama_kv_cache:        CPU KV buffer size =     8.00 MiB
0.00.337.983 I llama_kv_cache: size =    8.00 MiB (  4096 cells,   2 layers,  1/1 seqs), K (f16):    4.00 MiB
0.00.339.368 I llama_kv_cache:        CPU KV buffer size =     7.50 MiB
0.00.339.777 I llama_memory_recurrent:        CPU RS buffer size =     0.30 MiB
0.00.344.072 I sched_reserve:        CPU compute buffer size =     1.89 MiB
""".splitlines()

ALL = Allocation(
    model_bytes=round(70.23 * MIB),
    kv_bytes=round(15.5 * MIB),
    state_bytes=round(0.3 * MIB),
    compute_bytes=round(1.89 * MIB),
    output_bytes=round(0.19 * MIB),
)


def test_the_buffers_of_a_load_add_up_by_kind() -> None:
    assert read_allocation(LOAD) == ALL
    assert abs(ALL.total_bytes - 88.11 * MIB) < 5


def test_a_buffer_of_computation_that_is_measured_anew_replaces_the_last() -> None:
    again = [*LOAD, "sched_reserve:        CPU compute buffer size =     2.50 MiB"]
    found = read_allocation(again)
    assert found is not None
    assert found.compute_bytes == round(2.5 * MIB)
    both = read_allocation([*again, "sched_reserve:      CUDA0 compute buffer size =     4.00 MiB"])
    assert both is not None
    assert both.compute_bytes == round(6.5 * MIB)


def test_only_the_last_load_and_its_last_context_count() -> None:
    assert read_allocation([*LOAD, *LOAD]) == ALL
    context = LOAD[LOAD.index("0.00.328.000 I llama_context: constructing llama_context") :]
    assert read_allocation([*LOAD, *context]) == ALL


def test_lines_without_weights_say_nothing() -> None:
    assert read_allocation([]) is None
    assert read_allocation(line for line in LOAD if "model buffer" not in line) is None


def test_a_size_that_is_no_size_is_passed_over() -> None:
    lines = [*LOAD, "CPU KV buffer size = 1e999 MiB", "CPU KV buffer size = nan MiB", "CPU KV buffer size = 1 GiB"]
    assert read_allocation([*lines, "CPU KV buffer size = " + "9" * 400 + " MiB"]) == ALL
