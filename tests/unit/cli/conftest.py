from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from noa.cli.main import cli
from scripted_server import ScriptedServer

Noa = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def noa(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Noa:
    """Run the command line in this process, without a terminal, against the scripted server."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | None = None, **variables: str | None) -> Result:
        environment: dict[str, str | None] = {
            "NOA_URL": server.url,
            "NOA_HOME": str(tmp_path / "home"),
            "NOA_API_KEY": None,
            "NOA_CONFIG": None,
            **variables,
        }
        return CliRunner(env=environment).invoke(cli, arguments, input=stdin)

    return run
