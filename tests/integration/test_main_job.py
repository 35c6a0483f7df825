"""The main job, from outside: one command serves a real local model, managed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest

from machine import Machine, Server, alive, wait_until

DEMO = "llama.cpp:smollm2-135m-instruct"
pytestmark = pytest.mark.engine


@pytest.fixture
def machine(tmp_path: Path, demo_model: Path) -> Machine:
    machine = Machine.at(tmp_path)
    (machine.models / "smollm2-135m-instruct.gguf").hardlink_to(demo_model)
    return machine


@pytest.fixture
def server(machine: Machine) -> Iterator[Server]:
    with machine.serving("demo") as server:
        yield server


async def get(server: Server, path: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(server.url + path) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        return msgspec.json.decode(body, type=dict[str, object])


async def chat(server: Server, model: str = "current") -> str:
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/chat/completions", json=body) as answer,
    ):
        reply = await answer.json()
        assert answer.status == 200, reply
        assert answer.headers["x-noa-model"].startswith("llama.cpp:")
        return str(reply["choices"][0]["message"]["content"])


async def test_the_demo_model_answers_and_is_current(server: Server) -> None:
    assert await chat(server)
    current = await get(server, "/api/v1/models/current")
    assert isinstance(current["model"], dict)
    assert current["model"]["key"] == DEMO


async def test_a_second_file_is_found_loaded_and_switched_to(server: Server) -> None:
    shutil.copy(server.machine.models / "smollm2-135m-instruct.gguf", server.machine.models / "second.gguf")
    found = server.machine.run("ls", "--json")
    assert found.returncode == 0
    switched = server.machine.run("switch", "llama.cpp:second")
    assert switched.returncode == 0, switched.stderr
    shown = msgspec.json.decode(server.machine.run("ps", "--json").stdout)["models"]
    assert {model["key"] for model in shown} == {DEMO, "llama.cpp:second"}
    assert len({model["pid"] for model in shown}) == 2
    assert all(model["memoryBytes"] > 50_000_000 for model in shown)
    assert server.machine.run("current").stdout.strip() == "llama.cpp:second"
    assert await chat(server)
    assert await chat(server, DEMO)


async def test_what_was_loaded_and_current_survives_kill_9_and_no_engine_does(server: Server) -> None:
    engines = server.engines()
    assert len(engines) == 1
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    wait_until(lambda: not any(alive(engine) for engine in engines), "the end of every engine", within_s=1)
    with server.machine.serving("serve") as again:

        def loaded() -> bool:
            shown = again.machine.run("ps", "--json")
            return [model["key"] for model in msgspec.json.decode(shown.stdout)["models"]] == [DEMO]

        wait_until(loaded, "loading again what was loaded")
        assert again.machine.run("current").stdout.strip() == DEMO
        assert await chat(again)


def test_a_clean_stop_leaves_no_process_behind(machine: Machine) -> None:
    with machine.serving("demo") as server:
        engines = server.engines()
        assert engines
    assert not any(alive(engine) for engine in engines)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("corrupt", b"GGUF" + b"\x00" * 200, "corrupt"),
        ("notes", b"These are notes, not a model.", "notes"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_a_sentence_and_changes_nothing(
    server: Server, name: str, content: bytes, said: str
) -> None:
    (server.machine.models / f"{name}.gguf").write_bytes(content)
    refused = server.machine.run("load", f"llama.cpp:{name}")
    assert refused.returncode == 6, refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert server.machine.run("current").stdout.strip() == DEMO


def test_importing_noa_opens_no_connection_no_process_and_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "noa.yaml").write_text("this: [is, not")
    acts = "{'socket.connect', 'socket.bind', 'subprocess.Popen', 'os.mkdir', 'sqlite3.connect'}"
    program = f"""
import sys
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in {acts} else None)
import noa
from noa import ModelManager
print(seen)
"""
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "[]"


def test_two_managers_cannot_share_one_state(server: Server) -> None:
    second = server.machine.run("serve", "--port", "0")
    assert second.returncode == 1
    assert server.url in second.stderr
    assert str(server.process.pid) in second.stderr
    assert psutil.pid_exists(server.process.pid)
