"""SIGHUP means a reload, unless it says that the terminal has been closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from noa.server.signals import hang_up


@pytest.mark.parametrize(
    ("had_terminal", "closed", "outlives", "expected"),
    [
        (True, True, False, "stop"),
        (True, False, False, "reload"),
        (True, True, True, "reload"),
        (False, False, False, "reload"),
    ],
)
def test_a_server_ends_with_its_terminal_and_otherwise_reloads(
    tmp_path: Path, had_terminal: bool, closed: bool, outlives: bool, expected: str
) -> None:
    terminal = tmp_path / "tty"
    if had_terminal:
        terminal.touch()
    done: list[str] = []
    handle = hang_up(
        lambda: done.append("stop"), lambda: done.append("reload"), outlives=outlives, terminal=str(terminal)
    )
    if closed:
        terminal.unlink()
    handle()
    assert done == [expected]
