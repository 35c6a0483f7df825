"""A configuration from files and variables that a test gives, and nothing of the machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from noa.config import Configuration
from noa.errors import ConfigurationError

CANARY = "sk-canary-0123456789"


def configure(folder: Path, text: str | None = None, dotenv: str | None = None, **environ: str) -> Configuration:
    """The configuration of a folder with these files and this environment, and nothing of the machine's own."""
    if text is not None:
        (folder / "noa.yaml").write_text(text)
    if dotenv is not None:
        (folder / ".env").write_text(dotenv)
    return Configuration.from_environment(environ={"NOA_HOME": str(folder / "home"), **environ}, cwd=folder)


def refusal(folder: Path, text: str | None = None, dotenv: str | None = None, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        configure(folder, text, dotenv, **environ)
    return raised.value.message


def key_of(configuration: Configuration, provider: str) -> str:
    found = configuration.provider_config(provider)
    assert found is not None
    assert found.api_key is not None
    return found.api_key.reveal()
