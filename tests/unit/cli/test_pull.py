"""``noa pull``: from a file on this machine, from a scripted hub, and when it is stopped."""

from __future__ import annotations

import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from machine import Machine
from scripted_hub import ScriptedHub, small_gguf
from scripted_server import ScriptedServer

Noa = Callable[..., Result]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A GGUF file of version 3 with neither tensors nor metadata."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 0))
    return path


def test_weights_go_to_the_model_folder_and_the_server_is_told(
    server: ScriptedServer, noa: Noa, weights: Path, tmp_path: Path
) -> None:
    server.answer("POST", "/api/v1/models/discover", {"llama.cpp": {"models": 1}})
    result = noa("pull", f"file:{weights}")
    assert (result.exit_code, result.stdout) == (0, "llama.cpp:tiny\n")
    assert (tmp_path / "home" / "models" / "tiny.gguf").read_bytes() == weights.read_bytes()
    assert "noa load llama.cpp:tiny" in result.stderr
    assert [(request.method, request.path) for request in server.received] == [("POST", "/api/v1/models/discover")]


def test_weights_are_fetched_without_a_server_too(noa: Noa, weights: Path, tmp_path: Path) -> None:
    result = noa("pull", f"file:{weights}", "--json", NOA_URL="http://127.0.0.1:9")
    assert result.exit_code == 0
    path = tmp_path / "home" / "models" / "tiny.gguf"
    assert msgspec.json.decode(result.stdout) == {
        "key": "llama.cpp:tiny",
        "path": str(path),
        "sizeBytes": path.stat().st_size,
        "discovered": False,
    }


@pytest.mark.parametrize(("source", "code"), [("nonsense", 2), ("file:missing.gguf", 1), ("hf:nonsense", 2)])
def test_sources_that_give_nothing(noa: Noa, source: str, code: int) -> None:
    result = noa("pull", source)
    assert (result.exit_code, result.stdout) == (code, "")
    assert "Error: " in result.stderr


def test_without_the_extra_it_says_what_to_install(noa: Noa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = noa("pull", "hf:org/repo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pip install 'noa[hub]'" in result.stderr


def test_a_model_of_the_hub_of_the_environment_is_stopped_and_gone_on_with(tmp_path: Path) -> None:
    content = small_gguf(4096)
    with ScriptedHub() as hub:
        hub.hold("org/repo", "M-Q4_K_M.gguf", content)
        machine = Machine.at(
            tmp_path,
            HF_ENDPOINT=hub.url,
            HF_HOME=str(tmp_path / "hf"),
            HF_HUB_DISABLE_TELEMETRY="1",
            NOA_URL="http://127.0.0.1:9",
            NO_PROXY="127.0.0.1",
        )
        hub.breaks = [len(content) // 2]
        with machine.start("pull", "hf:org/repo") as command:
            assert command.stderr is not None
            lines = iter(command.stderr.readline, "")
            assert "Q4_K_M of org/repo: M-Q4_K_M.gguf, " in next(lines)
            assert "fetching hf:org/repo: 8.0 KiB of 16.1 KiB" in next(lines)
            command.send_signal(signal.SIGINT)
            assert "of M-Q4_K_M.gguf are kept; the same again goes on from there" in "".join(lines)
        assert command.returncode == 130
        assert not list(machine.models.glob("*.gguf"))
        hub.release()
        hub.asked.clear()
        pulled = machine.run("pull", "hf:org/repo", "--json")
        assert pulled.returncode == 0, pulled.stderr
        assert msgspec.json.decode(pulled.stdout)["key"] == "llama.cpp:M-Q4_K_M"
        assert hub.ranges_asked == [f"bytes={len(content) // 2}-"]
    assert (machine.models / "M-Q4_K_M.gguf").read_bytes() == content
