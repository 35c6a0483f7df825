"""Tables on a real terminal of 40 columns, without colours, without a terminal, and redrawn."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from machine import NOA
from noa.models import ActiveModel, ModelCapability, ModelInfo, ModelStatus, RegistryEntry
from scripted_server import ScriptedServer

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

import fcntl
import pty
import struct
import termios

COLUMNS = 40
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
KEY = "openrouter:meta-llama/llama-3.3-70b-instruct:free"
MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def known(key: str) -> RegistryEntry:
    provider, _, model_id = key.partition(":")
    return RegistryEntry(
        key=key,
        id=model_id,
        name=model_id,
        provider=provider,
        status=ModelStatus.LOADED,
        registered_at=MOMENT,
        context_window=131_072,
        max_tokens=None,
        capabilities=(ModelCapability.CHAT_COMPLETION, ModelCapability.STREAMING, ModelCapability.JSON_MODE),
        file_size=145_000_000,
        metadata={},
    )


def active(key: str) -> ActiveModel:
    provider, _, model_id = key.partition(":")
    info = ModelInfo(id=model_id, name=model_id, provider=provider, context_window=131_072)
    return ActiveModel(key=key, model=info, loaded_at=MOMENT, pid=4711, memory_bytes=123_456_789, total_inferences=12)


@pytest.fixture
def served(server: ScriptedServer) -> ScriptedServer:
    models = [active(KEY), active("openai:o")]
    server.answer("GET", "/api/v1/models", {"models": [known(KEY), known("openai:o")], "count": 2})
    server.answer("GET", "/api/v1/models/current", {"model": models[1]})
    server.answer("GET", "/api/v1/models/loaded", {"models": models, "count": 2, "currentModel": models[1]})
    return server


def environment(server: ScriptedServer, folder: Path, **variables: str) -> dict[str, str]:
    left_out = ("COLUMNS", "LINES", "NO_COLOR", "NOA_API_KEY")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "NOA_URL": server.url, "NOA_HOME": str(folder), "TERM": "xterm-256color", **variables}


def on_terminal(command: tuple[str, ...], variables: dict[str, str], *, until: bytes | None = None) -> tuple[str, int]:
    """What a command writes to a terminal of 40 columns; with ``until`` it is interrupted once that was written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    with subprocess.Popen(
        [*NOA, *command], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=variables, start_new_session=True
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux says so when the other end is closed.
                break
            if not piece:
                break
            written += piece
            if until is not None and written.count(until) >= 2:
                process.send_signal(signal.SIGINT)
                until = None
    os.close(ours)
    return written.decode(), process.returncode


@pytest.mark.parametrize("command", [("ls",), ("ps",)])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(
    served: ScriptedServer, tmp_path: Path, command: tuple[str, ...]
) -> None:
    written, code = on_terminal(command, environment(served, tmp_path, NO_COLOR="1"))
    assert code == 0
    assert "\x1b" not in written
    lines = written.splitlines()
    assert [line for line in lines if cell_len(line) > COLUMNS] == []
    whole = "".join(line.rstrip() for line in lines)
    assert KEY in whole, "a key that is too long is folded, not cut"
    assert "openai:o *" in whole
    assert "status: loaded" in whole
    assert ("requests: 12" in whole) is (command == ("ps",))


def test_colours_are_left_to_the_person(served: ScriptedServer, tmp_path: Path) -> None:
    wide = environment(served, tmp_path, COLUMNS="200")
    assert "\x1b[1m" in on_terminal(("ls",), wide)[0]
    assert "\x1b" not in on_terminal(("ls",), {**wide, "NO_COLOR": "1"})[0]
    assert "\x1b" not in on_terminal(("ls",), {**wide, "TERM": "dumb"})[0]


def test_without_a_terminal_a_row_is_a_line_with_its_whole_key(served: ScriptedServer, tmp_path: Path) -> None:
    ran = subprocess.run(
        [*NOA, "ps"], env=environment(served, tmp_path), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout
    assert [line.split()[0] for line in ran.stdout.splitlines()] == ["KEY", KEY, "openai:o"]


def test_watching_draws_again_in_the_same_place_until_it_is_interrupted(served: ScriptedServer, tmp_path: Path) -> None:
    written, code = on_terminal(
        ("ps", "--watch", "--interval", "0.1"), environment(served, tmp_path), until=b"openai:o *"
    )
    assert code == 130
    assert "\x1b[1A" in written, "the cursor goes up to draw over what was there"
    assert all(cell_len(ESCAPE.sub("", line)) <= COLUMNS for line in written.splitlines())


def test_watching_without_a_terminal_is_a_line_of_json_for_each_look(served: ScriptedServer, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*NOA, "ps", "--watch", "--interval", "0.1", "--json"],
        env=environment(served, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        looks = [watching.stdout.readline() for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert looks[0] == looks[1]
    assert looks[0].startswith('{"models":[{')
