"""``noa completion``: the scripts, and what they ask noa for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from machine import NOA

Noa = Callable[..., Result]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(noa: Noa, shell: str) -> None:
    printed = noa("completion", shell)
    assert printed.exit_code == 0
    assert f"_NOA_COMPLETE={shell}_complete" in printed.stdout
    answer = msgspec.json.decode(noa("completion", shell, "--json").stdout)
    assert answer == {"shell": shell, "script": printed.stdout.removesuffix("\n")}


def test_other_shells_are_a_usage_error(noa: Noa) -> None:
    assert noa("completion", "tcsh").exit_code == 2


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    def completed(words: str, position: int) -> list[str]:
        asked = {"_NOA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        ran = subprocess.run(NOA, env={**os.environ, **asked}, capture_output=True, text=True, cwd=tmp_path)
        return [line.partition(",")[2] for line in ran.stdout.splitlines()]

    assert {"load", "logs", "ls"} <= set(completed("noa l", 1))
    assert completed("noa keys cr", 2) == ["create"]
    assert "--expires" in completed("noa keys create --e", 3)


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="there is no bash")
def test_bash_takes_the_script(noa: Noa, tmp_path: Path) -> None:
    script = tmp_path / "noa.bash"
    script.write_text(noa("completion", "bash").stdout)
    loaded = subprocess.run(["bash", "-c", f"source {script} && complete -p noa"], capture_output=True, text=True)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert "_noa_completion" in loaded.stdout
