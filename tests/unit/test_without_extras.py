"""Without any extra Noa imports whole, works, and says what is missing for what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from machine import Machine

#: What no one has who ran `pip install noa` alone.
EXTRAS = ("xllamacpp", "PIL", "openai", "anthropic", "httpx", "httpx2", "huggingface_hub", "opentelemetry.sdk")
HIDDEN = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"

IMPORT_ALL = """
import importlib, pkgutil, noa
names = [found.name for found in pkgutil.walk_packages(noa.__path__, "noa.") if not found.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
ASK = """
import noa
with noa.ModelManager.sync() as manager:
    for attempt in (lambda: manager.load_model("openai:gpt-4"), manager.openai_client):
        try:
            attempt()
        except noa.ConfigurationError as error:
            print(error.message)
"""
PULL = "from noa.cli.main import main; sys.argv[1:] = ['pull', 'hf:org/repo']; sys.exit(main())"
EXAMINE = "from noa.cli.main import main; sys.argv[1:] = ['doctor', '--json']; sys.exit(main())"


def attempt(machine: Machine, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDDEN + program],
        cwd=machine.folder,
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(machine: Machine, program: str) -> str:
    done = attempt(machine, program)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.at(tmp_path)


def test_every_module_can_be_imported(machine: Machine) -> None:
    assert int(run(machine, IMPORT_ALL)) > 100


def test_a_program_runs_and_is_told_what_is_missing_for_what(machine: Machine) -> None:
    printed = run(machine, ASK)
    assert "set OPENAI_API_KEY" in printed
    assert "pip install openai" in printed


def test_pulling_from_hugging_face_says_what_to_install(machine: Machine) -> None:
    pulled = attempt(machine, PULL)
    assert (pulled.returncode, pulled.stdout) == (1, "")
    assert "pip install 'noa[hub]'" in pulled.stderr
    assert "Traceback" not in pulled.stderr


def test_the_doctor_says_what_each_missing_extra_is_for(machine: Machine) -> None:
    examined = attempt(machine, EXAMINE).stdout
    assert "noa[local]" in examined
    assert "noa[hub,plots,otel]" in examined
    assert "models of Hugging Face by name" in examined
