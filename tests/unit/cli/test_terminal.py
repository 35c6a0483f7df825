"""What is written to a terminal, and what to anything else."""

from __future__ import annotations

import sys

import pytest

from noa.cli.progress import ByteBar, PhaseBar
from noa.cli.terminal import printable, show_table

ROWS = [("llama.cpp:a-model-with-a-long-name", "chat_completion, streaming, json_mode"), ("openai:[red]x", "—")]


def be_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_folds_the_last_column_and_keeps_the_others_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_narrow_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "54")
    show_table(("KEY", "CAPABILITIES"), ROWS)
    shown = capsys.readouterr().out
    assert "\x1b[1mKEY" in shown
    assert "llama.cpp:a-model-with-a-long-name  chat_completion," in shown
    assert "\n                                    streaming," in shown
    assert "openai:[red]x" in shown


def test_on_a_terminal_too_narrow_for_a_table_a_row_is_a_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_narrow_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    show_table(
        ("KEY", "STATUS", "SIZE", "CAPABILITIES"), [(ROWS[0][0], "loaded", "1 KiB", ROWS[0][1]), ("x", "—", "—", "—")]
    )
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "llama.cpp:a-model-with-a-long-",
        "name",
        "  status: loaded  size: 1 KiB",
        "  capabilities:",
        "chat_completion, streaming,",
        "json_mode",
        "x",
    ]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_is_left_plain_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    be_narrow_terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    show_table(("KEY", "CAPABILITIES"), ROWS)
    assert "\x1b" not in capsys.readouterr().out


def test_without_a_terminal_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("KEY", "CAPABILITIES"), [(f"openai:{'x' * 300}", "y " * 300)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_control_characters_are_made_visible() -> None:
    assert printable("a\tb\nc\x1b[2J\x07\x7f\x9b1m\r") == "a\tb\nc\ufffd[2J\ufffd\ufffd\ufffd1m\ufffd"


def test_progress_without_a_terminal_is_a_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    with PhaseBar("x") as phases:
        for phase in ("starting", "starting", "loading", "a phase of tomorrow"):
            phases.phase(phase)
    with ByteBar("y") as transfer:
        for done in range(0, 1001, 10):
            transfer.advance(done, 1000)
        transfer.advance(5000, None)
    assert capsys.readouterr().err.splitlines() == [
        "x: starting",
        "x: loading",
        "x: a phase of tomorrow",
        "y: 250 B of 1000 B",
        "y: 500 B of 1000 B",
        "y: 750 B of 1000 B",
        "y: 1000 B of 1000 B",
    ]


def test_progress_on_a_terminal_is_one_line_that_vanishes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with PhaseBar("openai:[red]x") as phases:
        phases.phase("loading")
    with ByteBar("[red]y") as transfer:
        transfer.advance(512, 1024)
    shown = capsys.readouterr().err
    assert "openai:[red]x" in shown
    assert "[red]y" in shown
    assert shown.endswith("\x1b[2K")
