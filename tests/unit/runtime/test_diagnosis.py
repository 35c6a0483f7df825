"""Each line of an engine and each exit code gives the sentence that helps."""

from __future__ import annotations

import signal

import pytest

from noa.runtime.diagnosis import EVIDENCE_LINES, Reason, diagnose
from noa.runtime.llama_server import EXIT_ENGINE_BROKEN, EXIT_ENGINE_MISSING, EXIT_ORPHANED

TENSOR = "0.00.035.782 E llama_model_load: error loading model: tensor 'blk.16.ffn_down.weight' data is not within"
#: Real lines, and what they mean.
LINES = [
    (TENSOR + " the file bounds, model is corrupted or incomplete", Reason.FILE_CORRUPT),
    ("0.00.006.833 E gguf_init_from_reader: failed to read key-value pairs", Reason.FILE_CORRUPT),
    ("0.00.013.038 E gguf_init_from_reader: failed to read header", Reason.FILE_CORRUPT),
    ("0.00.288.409 E check_tensor_dims: tensor 'token_embd.weight' not found", Reason.FILE_CORRUPT),
    ("0.00.069.545 E error loading model: unknown model architecture: 'zlama'", Reason.UNKNOWN_ARCHITECTURE),
    ("0.00.009.355 E failed to open GGUF file '/x.gguf' (No such file or directory)", Reason.FILE_MISSING),
    ("0.00.202.814 E ggml_aligned_malloc: insufficient memory (attempted to allocate 1 MB)", Reason.OUT_OF_MEMORY),
    ("0.00.204.513 E failed to allocate buffer for kv cache", Reason.OUT_OF_MEMORY),
    ("ggml_cuda: cudaMalloc failed: out of memory", Reason.OUT_OF_MEMORY),
    ("terminate called after throwing an instance of 'std::bad_alloc'", Reason.OUT_OF_MEMORY),
    ("0.00.003.081 E srv start: couldn't bind HTTP server socket, hostname: /x.sock", Reason.ADDRESS),
    ("something nobody has seen before", Reason.UNKNOWN),
]
CODES = [
    (EXIT_ENGINE_MISSING, Reason.ENGINE_MISSING),
    (EXIT_ENGINE_BROKEN, Reason.ENGINE_BROKEN),
    (EXIT_ORPHANED, Reason.ORPHANED),
    (-signal.SIGKILL, Reason.KILLED),
    (-signal.SIGTERM, Reason.TERMINATED),
    (-signal.SIGABRT, Reason.ABORTED),
    (-signal.SIGSEGV, Reason.CRASHED),
    (-signal.SIGBUS, Reason.FILE_CHANGED),
    (-signal.SIGILL, Reason.WRONG_CPU),
    (1, Reason.UNKNOWN),
]


@pytest.mark.parametrize(("line", "reason"), LINES)
def test_a_line_of_the_engine_gives_the_reason(line: str, reason: Reason) -> None:
    found = diagnose(["0.00.000.001 I loading", line], 1, key="llama.cpp:m", path="/m.gguf", loaded=False)
    assert found.reason is reason
    assert found.evidence == (line,)
    assert found.sentence.startswith("llama.cpp:m could not be loaded: ")


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_an_exit_without_words_is_read_from_its_code(code: int, reason: Reason) -> None:
    found = diagnose([], code, key="llama.cpp:m", path="/m.gguf", loaded=True)
    assert found.reason is reason
    assert found.sentence.startswith("llama.cpp:m stopped: ")
    assert "{" not in found.sentence


def test_a_full_memory_is_not_mistaken_for_a_corrupt_file() -> None:
    lines = [
        "0.00.202.814 E ggml_aligned_malloc: insufficient memory (attempted to allocate 10991.25 MB)",
        "0.00.202.849 E missing tensor 'output.weight'",
    ]
    assert diagnose(lines, 1, key="k", path="/m", loaded=False).reason is Reason.OUT_OF_MEMORY


def test_what_an_engine_merely_reports_is_no_cause() -> None:
    lines = ["0.00.001.000 I retrying, out of memory", "0.00.001.000 W invalid magic"]
    assert diagnose(lines, 1, key="k", path="/m", loaded=False).reason is Reason.UNKNOWN


def test_lines_of_the_load_do_not_explain_a_later_crash() -> None:
    lines = ["0.00.001.000 E failed to read header"]
    assert diagnose(lines, -signal.SIGSEGV, key="k", path="/m", loaded=True).reason is Reason.CRASHED


def test_a_missing_engine_outweighs_whatever_was_printed() -> None:
    found = diagnose(["out of memory"], EXIT_ENGINE_MISSING, key="k", path="/m", loaded=False)
    assert found.reason is Reason.ENGINE_MISSING
    assert "pip install 'noa[local]'" in found.sentence


def test_the_last_words_are_told_where_nothing_else_is_known_and_evidence_is_bounded() -> None:
    lines = [f"complaint {number}" for number in range(50)]
    found = diagnose(lines, 1, key="k", path="/m", loaded=False)
    assert "code 1, saying “complaint 49”" in found.sentence
    assert len(found.evidence) == EVIDENCE_LINES


def test_braces_in_a_path_are_only_text() -> None:
    found = diagnose([LINES[0][0]], 1, key="k{x}", path="/{0}.gguf", loaded=False)
    assert "/{0}.gguf" in found.sentence
