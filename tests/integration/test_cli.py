"""``noa serve`` as a process of its own, and the commands that talk to it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.at(tmp_path)


@pytest.fixture
def served(machine: Machine) -> Iterator[Machine]:
    """The same machine while a server runs on it, and that server's key is known there."""
    with machine.having(NOA_API_KEY="sk-noa-of-this-test").serving("serve") as server:
        yield server.machine


def test_the_commands_speak_the_servers_language(served: Machine) -> None:
    known = served.run("ls", "--json")
    assert (known.returncode, known.stderr) == (0, "")
    assert set(msgspec.json.decode(known.stdout)) >= {"models", "count"}
    assert msgspec.json.decode(served.run("ps", "--json").stdout)["models"] == []
    current = served.run("current", "--json")
    assert current.returncode == 3
    assert msgspec.json.decode(current.stdout) == {"model": None}
    for arguments in (["load", "llama.cpp:nothing"], ["unload", "llama.cpp:nothing"], ["switch", "llama.cpp:nothing"]):
        refused = served.run(*arguments)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "nothing" in refused.stderr


def test_the_commands_about_aliases_logs_and_events_speak_it_too(served: Machine) -> None:
    assert msgspec.json.decode(served.run("alias", "ls", "--json").stdout) == {"aliases": [], "count": 0}
    history = served.run("alias", "history", "current", "--json")
    assert msgspec.json.decode(history.stdout) == {"name": "current", "key": None, "history": []}
    for arguments in (
        ["alias", "set", "prod", "llama.cpp:nothing"],
        ["alias", "rm", "prod"],
        ["alias", "rollback", "prod"],
        ["alias", "history", "prod"],
        ["logs", "llama.cpp:nothing"],
        ["logs", "-f", "llama.cpp:nothing"],
        ["show", "llama.cpp:nothing"],
    ):
        refused = served.run(*arguments)
        assert (refused.returncode, refused.stdout) == (3, ""), arguments
        assert "nothing" in refused.stderr or "prod" in refused.stderr
    with served.start("events", "--after", "0", "--json") as listening:
        assert listening.stdout is not None
        first = msgspec.json.decode(listening.stdout.readline())
        listening.send_signal(signal.SIGINT)
        listening.communicate(timeout=60)
    assert first.keys() == {"type", "sequence", "time", "data"}
    assert listening.returncode == 130


def test_the_server_asks_its_callers_for_its_key(served: Machine) -> None:
    stranger = served.having(NOA_API_KEY="sk-noa-wrong")
    refused = stranger.run("ls")
    assert refused.returncode == 5
    assert "sk-noa" not in refused.stdout + refused.stderr


def test_a_port_that_is_taken_is_named_and_how_to_choose_another(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = machine.run("serve", "--port", port)
    assert refused.returncode == 1
    assert port in refused.stderr
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_beyond_the_loopback_it_refuses_to_start_without_a_key(machine: Machine) -> None:
    refused = machine.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "NOA_API_KEY" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_configuration_file_that_is_wrong_is_named_with_its_line(machine: Machine) -> None:
    (machine.folder / "mine.yaml").write_text("server:\n  prot: 1\n")
    refused = machine.run("serve", "--config", "mine.yaml")
    assert refused.returncode == 1
    assert "mine.yaml:2" in refused.stderr
