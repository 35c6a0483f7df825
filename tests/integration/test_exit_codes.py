"""Every line of the table of exit codes, by commands as processes of their own."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from machine import Machine
from noa.cli.main import cli
from noa.cli.terminal import EXIT_CODES, INTERRUPTED

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.at(tmp_path)


def test_the_help_names_every_exit_code_there_is() -> None:
    assert cli.epilog is not None
    named = {int(code) for code in re.findall(r"\b\d+\b", cli.epilog)}
    assert named == {0, 1, 2, *EXIT_CODES.values(), INTERRUPTED}


def test_every_exit_code_is_what_the_help_says(machine: Machine) -> None:
    (machine.folder / "wrong.yaml").write_text("server: {prot: 1}\n")
    (machine.models / "broken.gguf").write_bytes(b"this is no model" * 100)
    with machine.having(NOA_API_KEY="sk-of-this-test").serving("serve") as server:
        here = server.machine
        for expected, command, where in (
            (0, ("ls",), here),
            (1, ("config", "check", "wrong.yaml"), here),
            (2, ("load",), here),
            (2, ("nonsense",), here),
            (3, ("load", "llama.cpp:nothing"), here),
            (3, ("current",), here),
            (3, ("keys", "revoke", "nobody"), here),
            (4, ("ls",), here.having(NOA_URL=UNREACHABLE)),
            (5, ("ls",), here.having(NOA_API_KEY="sk-wrong")),
            (6, ("load", "llama.cpp:broken"), here),
        ):
            ran = where.run(*command)
            assert ran.returncode == expected, (command, ran.stdout, ran.stderr)
            assert "Traceback" not in ran.stderr
            if expected:
                assert (ran.stdout, bool(ran.stderr)) == ("", True), "what went wrong is on stderr alone"
        with here.start("events", "--after", "0", "--json") as listening:
            assert listening.stdout is not None
            listening.stdout.readline()
            listening.send_signal(signal.SIGINT)
            listening.communicate(timeout=60)
        assert listening.returncode == INTERRUPTED
