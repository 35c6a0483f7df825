"""The readable copy of the state: a JSON file that is replaced whole, and can fill an empty database."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import msgspec

from noa.errors import ConfigurationError
from noa.models import Value
from noa.state import SavedState
from noa.storage.failures import opening_failed, writing_failed
from noa.storage.folder import ensure_folder, sync_folder

#: The form of the file. It changes when an older Noa could misread a newer file.
SNAPSHOT_VERSION = 1


class Snapshot(Value, frozen=True, kw_only=True):
    """What the file holds."""

    version: int
    state: SavedState


def write_snapshot(path: Path, state: SavedState) -> None:
    """Replace the file at ``path`` with this state, durably: a crash leaves the old one or the new one, whole.

    Blocks on the disk. Raises ``StorageError``, and then the old file is untouched.
    """
    text = msgspec.json.format(msgspec.json.encode(Snapshot(version=SNAPSHOT_VERSION, state=state)), indent=2)
    try:
        ensure_folder(path.parent)
        # mkstemp creates the file with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise writing_failed(error, str(path)) from error


def read_snapshot(path: Path) -> SavedState | None:
    """The state in the file, or ``None`` if there is no file.

    Raises ``ConfigurationError`` for a file that is no snapshot, naming the line or the field, and for a newer Noa's.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise opening_failed(error, str(path)) from error
    except json.JSONDecodeError as error:
        raise _unreadable(path, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is not UTF-8 text") from error
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise _unreadable(path, "it has no “version”")
    if version != SNAPSHOT_VERSION:
        raise ConfigurationError(
            f"The snapshot {path} has version {version}, and this Noa knows {SNAPSHOT_VERSION}; "
            "upgrade Noa, or move the file away."
        )
    try:
        return msgspec.convert(document, Snapshot).state
    except msgspec.ValidationError as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{path} is no snapshot Noa can read ({reason}); repair it, or move it away.")
