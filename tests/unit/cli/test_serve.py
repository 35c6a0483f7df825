"""What keeps ``noa serve`` from starting, or makes it warn."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from noa.cli import serving
from noa.config import Configuration
from scripted_server import ScriptedServer

Noa = Callable[..., Result]


def port_of(server: ScriptedServer) -> str:
    return server.url.rpartition(":")[2]


def test_a_noa_that_holds_the_port_is_named(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", "/api/v1/status/health", {"status": "healthy", "knownModels": 0})
    result = noa("serve", "--host", "127.0.0.1", "--port", port_of(server))
    assert result.exit_code == 1
    assert f"Noa itself already runs at http://127.0.0.1:{port_of(server)}" in result.stderr


def test_a_noa_that_wants_another_key_is_named_too(server: ScriptedServer, noa: Noa) -> None:
    server.refuse("GET", "/api/v1/status/health", 401, "AUTHENTICATION_ERROR", "The key is wrong.")
    assert "Noa itself" in noa("serve", "--host", "127.0.0.1", "--port", port_of(server)).stderr


def test_another_program_on_the_port_is_not_taken_for_noa(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", "/api/v1/status/health", {"hello": "world"})
    assert "taken by another program" in noa("serve", "--host", "127.0.0.1", "--port", port_of(server)).stderr


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_program_that_says_nothing_is_not_waited_for(
    silent_port: int, noa: Noa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "IDENTIFY_TIMEOUT_S", 0.05)
    result = noa("serve", "--host", "127.0.0.1", "--port", str(silent_port))
    assert "taken by another program" in result.stderr


def test_a_file_in_place_of_the_model_folder_is_refused(noa: Noa, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").touch()
    result = noa("serve", "--port", "0")
    assert result.exit_code == 1
    assert f"{tmp_path / 'home' / 'models'} is where models are kept, but it is no folder" in result.stderr


def test_a_further_folder_that_is_not_there_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    there.mkdir()
    serving.check_folders(Configuration(home=tmp_path, extra_model_folders=(there, tmp_path / "absent")))
    warned = capsys.readouterr().err
    assert f"{tmp_path / 'absent'} (NOA_MODELS" in warned
    assert str(there) not in warned
