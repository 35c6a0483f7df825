from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripted_hub import ScriptedHub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    with ScriptedHub() as scripted:
        yield scripted
