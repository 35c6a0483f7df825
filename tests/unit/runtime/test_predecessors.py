"""Only what an earlier manager left is ended. The processes are real."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from noa.runtime.predecessors import end_predecessors
from noa.state import ProcessRecord

NONCE = "0123456789abcdef"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("noa-")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process with these further arguments, in a session of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *arguments]
        started.append(subprocess.Popen(sleeper, start_new_session=True, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        return started[-1]

    yield run
    for process in started:
        with process:
            process.kill()


def record_of(folder: Path, process: subprocess.Popen[bytes] | None, later_s: float = 0.0) -> ProcessRecord:
    return ProcessRecord(
        key="llama.cpp:m",
        nonce=NONCE,
        socket_path=str(folder / f"{NONCE}.sock"),
        pid=process.pid if process else None,
        started_at=psutil.Process(process.pid).create_time() + later_s if process else None,
    )


@pytest.mark.parametrize("flag", ["--socket", "--host"])
@pytest.mark.parametrize("pid_known", [True, False])
def test_a_process_left_behind_is_killed_and_settled(folder: Path, start: Start, flag: str, pid_known: bool) -> None:
    process = start(flag, str(folder / f"{NONCE}.sock"))
    record = record_of(folder, process if pid_known else None)
    assert end_predecessors([record]) == (record,)
    assert process.wait(5) == -9


def test_what_is_gone_already_is_settled_and_its_socket_removed(folder: Path) -> None:
    path = folder / f"{NONCE}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    record = ProcessRecord(key="k", nonce=NONCE, socket_path=str(path), pid=2**22 + 1, started_at=1.0)
    assert end_predecessors([record]) == (record,)
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--nonce", NONCE),
        ("--unix-socket", "{socket}"),
        ("--socket", "{socket}.other"),
    ],
)
def test_another_process_under_the_recorded_pid_is_let_alone(
    folder: Path, start: Start, arguments: tuple[str, ...]
) -> None:
    process = start(*(word.format(socket=folder / f"{NONCE}.sock") for word in arguments))
    records = [record_of(folder, process), record_of(folder, None)]
    assert len(end_predecessors(records)) == 2
    assert process.poll() is None


def test_a_start_time_that_differs_means_another_process(folder: Path, start: Start) -> None:
    process = start("--socket", str(folder / f"{NONCE}.sock"))
    end_predecessors([record_of(folder, process, later_s=60)])
    assert process.poll() is None


def test_a_record_that_names_a_foreign_file_removes_nothing(folder: Path) -> None:
    file = folder / "notes.txt"
    file.write_text("mine")
    end_predecessors([ProcessRecord(key="k", nonce=NONCE, socket_path=str(file), pid=None, started_at=None)])
    assert file.exists()


def test_it_never_ends_itself(folder: Path) -> None:
    own = ProcessRecord(
        key="k", nonce=NONCE, socket_path=str(folder / NONCE), pid=os.getpid(),
        started_at=psutil.Process().create_time(),
    )  # fmt: skip
    assert end_predecessors([own]) == (own,)
