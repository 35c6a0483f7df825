"""``noa pull``, from a file on this machine."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

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
    assert msgspec.json.decode(result.stdout) == {"key": "llama.cpp:tiny", "path": str(path), "discovered": False}


@pytest.mark.parametrize(("source", "code"), [("nonsense", 2), ("file:missing.gguf", 1), ("hf:some/model", 1)])
def test_sources_that_give_nothing(noa: Noa, source: str, code: int) -> None:
    result = noa("pull", source)
    assert (result.exit_code, result.stdout) == (code, "")
    assert "Error: " in result.stderr
