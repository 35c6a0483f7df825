"""``noa serve`` as a process of its own, and the commands that talk to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

NOA = (sys.executable, "-c", "from noa.cli.main import main; main()")
#: Variables of whoever runs the tests that would reach the server under test.
FOREIGN = ("NOA_", "AI_", "OPENAI_", "ANTHROPIC_", "CLAUDE_", "LLAMA_CPP_", "MODEL_MANAGER_", "OLLAMA_", "PORT")


class Machine(NamedTuple):
    """Where a command runs: its folder and its environment."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*NOA, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as command:
            stdout, stderr = command.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, command.returncode, stdout, stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return Machine(tmp_path, {**environment, "NOA_HOME": str(tmp_path / "home")})


@pytest.fixture
def served(machine: Machine) -> Iterator[Machine]:
    """The same machine while a server runs on it, and that server's key is known there."""
    keyed = Machine(machine.folder, {**machine.environment, "NOA_API_KEY": "sk-noa-of-this-test"})
    with keyed.start("serve", "--port", "0", "--json") as server:
        assert server.stdout is not None
        url = read_listening(server)["url"]
        yield Machine(machine.folder, {**keyed.environment, "NOA_URL": url})
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0


def read_listening(server: subprocess.Popen[str]) -> dict[str, str]:
    """The JSON that the server prints once it listens."""
    assert server.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = server.stdout.readline()
        if not line:
            assert server.stderr is not None
            pytest.fail(f"the server did not start: {server.stderr.read()}")
        text += line
    return msgspec.json.decode(text, type=dict[str, str])


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


def test_the_server_asks_its_callers_for_its_key(served: Machine) -> None:
    stranger = Machine(served.folder, {**served.environment, "NOA_API_KEY": "sk-noa-wrong"})
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
