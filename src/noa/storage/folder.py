"""The folder Noa keeps its files in."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def ensure_folder(folder: Path) -> None:
    """Create the folder, readable by its owner alone, if it does not exist. Raises ``OSError``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in the folder durable. Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
