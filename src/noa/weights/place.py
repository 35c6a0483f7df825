"""The place of a model's files in the model folder: their names, whether they are there, whether there is room."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from noa.errors import ConfigurationError, ModelLoadError, StorageError, ValidationError
from noa.gguf import GgufError, read_header
from noa.weights.shards import model_name

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.gguf")
#: Where the shards of a model are brought together, beside where they arrived.
_TOGETHER = "together"


def safe_name(name: str) -> str:
    """The name of a file, if it may be one in the model folder. Raises ``ValidationError``."""
    if not _NAME.fullmatch(name):
        raise ValidationError(
            f"“{name}” cannot be the name of a model; it must end in .gguf and hold only letters, digits,"
            " “.”, “_” and “-”."
        )
    return name


def home_of(folder: Path, names: Sequence[str]) -> Path:
    """Where a model's files belong: one in the model folder itself, several in a folder of their own below it."""
    return folder if len(names) == 1 else folder / model_name(names[0])


def present(folder: Path, names: Sequence[str]) -> list[Path] | None:
    """A model's files if they are there, ``None`` if none is. Raises ``ConfigurationError`` if something else is."""
    home = home_of(folder, names)
    for files in ([home / name for name in names], [folder / name for name in names]):
        if all(file.is_file() for file in files):
            return files
    if home != folder and home.exists():
        raise other_file(home)
    if other := next((folder / name for name in names if (folder / name).exists()), None):
        raise other_file(other)
    return None


def other_file(target: Path) -> ConfigurationError:
    """Something else has the place already."""
    return ConfigurationError(
        f"{target.name} is in the model folder already and differs from the source; remove or rename it first."
    )


def check_weights(path: Path, name: str) -> None:
    """Raise ``ModelLoadError`` unless the file holds all the tensors that its header promises. Blocking."""
    try:
        with path.open("rb") as file:
            read_header(file, os.fstat(file.fileno()).st_size, name)
    except GgufError as error:
        raise ModelLoadError(f"{error.message} It was not stored.") from error


def is_whole(path: Path) -> bool:
    """Whether there is a file here that holds all the tensors its header promises. Blocking."""
    try:
        check_weights(path, path.name)
    except (FileNotFoundError, ModelLoadError):
        return False
    return True


def settle(arrived: Mapping[str, Path], folder: Path) -> Path:
    """Give a model's checked files their names, all in one step, and make that durable; return the first. Blocking.

    ``arrived`` are the files, in one folder of the same file system, by the names they get.
    """
    names = list(arrived)
    home = home_of(folder, names)
    if home == folder:
        arrived[names[0]].replace(folder / names[0])
    else:
        together = arrived[names[0]].parent / _TOGETHER
        together.mkdir(exist_ok=True)
        for name, path in arrived.items():
            path.replace(together / name)
        _make_durable(together)
        together.replace(home)
    _make_durable(folder)
    return home / names[0]


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_room(folder: Path, needed: int | None) -> None:
    """Raise ``StorageError`` if so many bytes, where that is known, do not fit on the disk of ``folder``."""
    if needed is not None and shutil.disk_usage(folder).free < needed:
        raise no_room(folder, needed)


def no_room(folder: Path, needed: int) -> StorageError:
    """The disk of ``folder`` has less than ``needed`` bytes left."""
    return StorageError(
        f"There is not enough room in {folder} for the weights, which need {needed:,} bytes; make room and try again.",
        details={"folder": str(folder), "neededBytes": needed},
    )


def storage_error(error: OSError, folder: Path) -> StorageError:
    """What kept us from writing to ``folder``, for a person."""
    if error.errno == errno.ENOSPC:
        return StorageError(f"There is no room left in {folder} for the weights; make room and try again.")
    return StorageError(f"The weights could not be written to {folder} ({error.strerror}); check that it is writable.")
