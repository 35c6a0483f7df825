"""What an engine is started with, and which files are refused before anything is started."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import msgspec
import pytest

from noa.errors import ModelLoadError
from noa.runtime import llama_server
from noa.runtime.launch import ALLOCATION, Launch, child_environment, command, require_weights
from noa.runtime.protocol import EngineSpec

SPEC = EngineSpec(
    key="llama.cpp:m", generation=1, path="/models/m.gguf", alias="m; rm -rf ~", context_size=4096, slots=3, threads=2
)
LAUNCH = Launch(spec=SPEC, nonce="abc", socket_path="/run/abc.sock")


def of_child(launch: Launch, binary: Path | None = None) -> list[str]:
    """The arguments that reach the child's own main."""
    whole = command(launch, python="/bin/python", binary=binary, parent=7)
    assert whole[:4] == ["/bin/python", "-E", "-P", llama_server.__file__]
    return whole[4:]


def test_the_child_reads_its_arguments_as_they_were_meant() -> None:
    read = llama_server.parse(of_child(LAUNCH))
    assert (read.model, read.socket, read.alias) == ("/models/m.gguf", "/run/abc.sock", "m; rm -rf ~")
    assert (read.context_size, read.slots, read.threads, read.gpu_layers) == (4096, 3, 2, None)
    assert (read.nonce, read.parent, read.embedding, read.binary) == ("abc", 7, False, None)
    assert read.cache_type == "f16"


def test_a_users_server_is_told_the_same() -> None:
    spec = msgspec.structs.replace(SPEC, gpu_layers=0, embedding=True, cache_type="q8_0")
    launch = Launch(spec=spec, nonce="abc", socket_path="/run/abc.sock")
    read = llama_server.parse(of_child(launch, Path("/bin/llama-server")))
    assert read.binary is not None
    arguments = llama_server.engine_arguments(read.binary, read)
    told = dict(itertools.pairwise(arguments))
    assert arguments[0] == "/bin/llama-server"
    assert (told["--model"], told["--host"], told["--alias"]) == ("/models/m.gguf", "/run/abc.sock", "m; rm -rf ~")
    assert (told["--ctx-size"], told["--parallel"], told["--threads"]) == ("12288", "3", "2")
    assert (told["--n-gpu-layers"], told["--cache-ram"], told["--ubatch-size"]) == ("0", "0", "4096")
    assert (told["--cache-type-k"], told["--cache-type-v"]) == ("q8_0", "q8_0")
    assert "--embedding" in arguments
    assert "--no-mmap" not in arguments
    assert told["--ctx-checkpoints"] == str(llama_server.CHECKPOINTS)


def test_texts_that_need_not_be_seen_whole_and_files_that_are_read_are_told_both_engines() -> None:
    spec = msgspec.structs.replace(SPEC, embedding=True, last_token=True, maps=False)
    read = llama_server.parse(
        of_child(Launch(spec=spec, nonce="abc", socket_path="/run/abc.sock"), Path("/bin/server"))
    )
    assert (read.embedding, read.last_token, read.no_mmap) == (True, True, True)
    arguments = llama_server.engine_arguments("/bin/server", read)
    assert dict(itertools.pairwise(arguments))["--ubatch-size"] == str(llama_server.CPU_BATCH)
    assert "--no-mmap" in arguments


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--context-size", "0"),
        ("--context-size", "many"),
        ("--context-size", str(1 << 24)),  # Times three slots it would be fine; times 256 not.
        ("--slots", "257"),
        ("--threads", "-1"),
        ("--model", "relative.gguf"),
        ("--socket", "/" + "s" * llama_server.MAX_SOCKET_PATH),
        ("--cache-type", "q3_k"),
        ("--rpc", "somewhere"),
        ("--alias", None),
    ],
)
def test_what_is_out_of_range_or_unknown_is_refused(
    flag: str, value: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*of_child(LAUNCH), flag, *([] if value is None else [value])]
    if value == str(1 << 24):
        arguments += ["--slots", "256"]
    with pytest.raises(SystemExit) as caught:
        llama_server.parse(arguments)
    assert caught.value.code == 2
    assert flag in capsys.readouterr().err or value == str(1 << 24)


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        llama_server.parse(["--alias", "m", "--embedding"])
    assert caught.value.code == 2
    assert "missing: model, socket, context_size, nonce, parent" in capsys.readouterr().err


def test_no_secret_is_inherited() -> None:
    environment = {"PATH": "/bin", "GGML_VK_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}
    secrets = {"OPENAI_API_KEY": "k", "NOA_API_KEY": "k", "LLAMA_ARG_HOST": "0.0.0.0", "PYTHONSTARTUP": "/x"}
    assert child_environment(environment | secrets) == environment | ALLOCATION


def test_a_symlink_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"GGUF")
    (tmp_path / "m.gguf").symlink_to("blob")
    spec = msgspec.structs.replace(SPEC, path=str(tmp_path / "m.gguf"))
    require_weights(spec)
    read = llama_server.parse(of_child(Launch(spec=spec, nonce="abc", socket_path="/s")))
    assert read.model == str(tmp_path / "m.gguf")


def test_files_that_cannot_load_are_refused_in_words(tmp_path: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    empty = tmp_path / "empty.gguf"
    empty.touch()
    cases = {
        tmp_path / "absent.gguf": "is not there; fetch it again",
        tmp_path: "is a folder",
        page: r"is no GGUF file \(it starts with b'<htm'\)",
        empty: "is no GGUF file",
    }
    for path, says in cases.items():
        with pytest.raises(ModelLoadError, match=says) as caught:
            require_weights(msgspec.structs.replace(SPEC, path=str(path)))
        assert caught.value.message.startswith("llama.cpp:m could not be loaded: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_refused_in_words(tmp_path: Path) -> None:
    locked = tmp_path / "locked.gguf"
    locked.write_bytes(b"GGUF")
    locked.chmod(0)
    with pytest.raises(ModelLoadError, match="check its permissions"):
        require_weights(msgspec.structs.replace(SPEC, path=str(locked)))


def test_a_pipe_is_no_weights_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(ModelLoadError, match="is no regular file"):
        require_weights(msgspec.structs.replace(SPEC, path=str(pipe)))
