"""``noa chat``: one answer on stdout, and a conversation on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from click.testing import Result

from scripted_server import ScriptedServer

Noa = Callable[..., Result]
Talk = Callable[..., tuple[int, str]]

COMPLETIONS = "/v1/chat/completions"
START = "from noa.cli.main import main; main()"


def chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, **fields: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "smollm2",
        "choices": choices,
        **fields,
    }
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def spoken(*pieces: str) -> list[bytes]:
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": piece}) for piece in pieces),
        chunk({}, "stop"),
        chunk(None, usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}),
        b"data: [DONE]\n\n",
    ]


def asked(server: ScriptedServer, index: int = -1) -> dict[str, Any]:
    body: dict[str, Any] = [request for request in server.received if request.path == COMPLETIONS][index].json
    return body


def test_a_prompt_gets_one_answer_on_stdout(server: ScriptedServer, noa: Noa) -> None:
    server.stream("POST", COMPLETIONS, spoken("Hel", "lo."))
    result = noa("chat", "openai:gpt-4", "Say", "hello.")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello.\n", "")
    assert asked(server)["model"] == "openai:gpt-4"
    assert asked(server)["messages"] == [{"role": "user", "content": "Say hello."}]


def test_an_answer_is_as_long_as_asked_for(server: ScriptedServer, noa: Noa) -> None:
    server.stream("POST", COMPLETIONS, spoken("Hel"))
    assert noa("chat", "current", "Say hello.", "--max-tokens", "1").stdout == "Hel\n"
    assert asked(server)["max_tokens"] == 1
    assert noa("chat", "current", "Say hello.", "--max-tokens", "0").exit_code == 2


def test_a_first_argument_with_spaces_is_the_prompt_for_the_model_in_use(server: ScriptedServer, noa: Noa) -> None:
    server.stream("POST", COMPLETIONS, spoken("Hello.\n"))
    assert noa("chat", "Say hello.").stdout == "Hello.\n"
    assert "model" not in asked(server)
    assert asked(server)["messages"][0]["content"] == "Say hello."


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        (["chat"], "notes\nof mine"),
        (["chat", "current"], "notes\nof mine"),
        (["chat", "current", "Sum up:", "-"], "Sum up: notes\nof mine"),
        (["chat", "current", "Say hello."], "Say hello."),
    ],
)
def test_what_is_piped_in_is_the_question(server: ScriptedServer, noa: Noa, arguments: list[str], content: str) -> None:
    server.stream("POST", COMPLETIONS, spoken("Yes."))
    assert noa(*arguments, stdin="notes\nof mine\n").stdout == "Yes.\n"
    assert asked(server)["messages"][0]["content"] == content


def test_json_is_the_whole_answer(server: ScriptedServer, noa: Noa) -> None:
    server.stream("POST", COMPLETIONS, spoken("Hel", "lo."))
    answer = msgspec.json.decode(noa("chat", "current", "Hi", "--json").stdout)
    assert answer["content"] == "Hello."
    assert answer["model"] == "smollm2"
    assert answer["finishReason"] == "stop"
    assert (answer["promptTokens"], answer["completionTokens"]) == (5, 2)


def test_nothing_to_ask_is_a_usage_error(server: ScriptedServer, noa: Noa) -> None:
    assert noa("chat", stdin="").exit_code == 2
    assert server.received == []


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, {"message": "No.", "type": "authentication_error", "code": "invalid_api_key"}, 5),
        (404, {"message": "No.", "type": "not_found_error", "code": "model_not_found"}, 3),
        (429, {"message": "No.", "type": "rate_limit_error", "code": "rate_limit_exceeded"}, 1),
        (503, {"message": "No.", "type": "server_error", "code": None}, 1),
    ],
)
def test_a_refusal_in_openais_shape_is_understood(
    server: ScriptedServer, noa: Noa, status: int, error: dict[str, Any], code: int
) -> None:
    server.answer("POST", COMPLETIONS, {"error": {"param": None, **error}}, status=status)
    result = noa("chat", "current", "Hi")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "Error: No." in result.stderr


def test_an_answer_that_breaks_off_is_an_error_after_what_came(server: ScriptedServer, noa: Noa) -> None:
    server.stream("POST", COMPLETIONS, spoken("Hel", "lo.")[:2])
    result = noa("chat", "current", "Hi")
    assert (result.exit_code, result.stdout) == (1, "Hel\n")
    assert "Error: " in result.stderr


@pytest.fixture
def talk(server: ScriptedServer, tmp_path: Path) -> Talk:
    """Run ``noa chat`` on a terminal of its own, typing each line when the prompt for it is there."""

    def run(*lines: str) -> tuple[int, str]:
        controller, terminal = pty.openpty()
        environment = {**os.environ, "NOA_URL": server.url, "NOA_HOME": str(tmp_path), "TERM": "xterm"}
        command = subprocess.Popen(
            [sys.executable, "-c", START, "chat"],
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=tmp_path,
            start_new_session=True,
        )
        os.close(terminal)
        seen = ""
        waiting = list(lines)
        while shown := read_terminal(controller):
            seen += shown
            if waiting and seen.count("> ") > len(lines) - len(waiting):
                os.write(controller, waiting.pop(0).encode() + b"\n")
        os.close(controller)
        return command.wait(timeout=60), seen

    return run


def read_terminal(controller: int) -> str:
    """What was written to the terminal; nothing once nobody has it open, which Linux calls an input/output error."""
    try:
        return os.read(controller, 4096).decode(errors="replace")
    except OSError:
        return ""


def test_a_conversation_remembers_what_was_said(server: ScriptedServer, talk: Talk) -> None:
    server.stream("POST", COMPLETIONS, spoken("Hello, \x1b[31mAda."))
    server.answer(
        "POST",
        "/api/v1/models/switch",
        {"message": "Switched.", "provider": "openai", "model": "y", "key": "openai:y", "currentModel": None},
    )
    code, seen = talk("I am Ada.", "Who am I?", "/switch openai:y", "/clear", "Who am I?", "/quit")
    assert code == 0
    assert "Hello, \ufffd[31mAda." in seen
    assert "Switched." in seen
    said = {"role": "assistant", "content": "Hello, \x1b[31mAda."}
    assert asked(server, 1)["messages"] == [
        {"role": "user", "content": "I am Ada."},
        said,
        {"role": "user", "content": "Who am I?"},
    ]
    assert asked(server, 2)["messages"] == [{"role": "user", "content": "Who am I?"}]


def test_a_conversation_outlives_an_answer_that_fails(server: ScriptedServer, talk: Talk) -> None:
    answers = iter([web.Response(status=500), web.Response(status=500)])

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return next(answers)

    server.handle("POST", COMPLETIONS, handler)
    code, seen = talk("One.", "Two.", "/quit")
    assert code == 0
    assert seen.count("Error: ") == 2
    assert asked(server)["messages"] == [{"role": "user", "content": "Two."}]
