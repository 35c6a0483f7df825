"""Where files arrive: hidden folders in the model folder, where nobody who looks for models sees them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from noa.errors import ModelLoadError

if sys.platform == "win32":

    def _lock(_folder: int) -> None:
        """Windows locks no folders; there it stays with the advice not to fetch a model twice at a time."""
else:
    import fcntl

    def _lock(folder: int) -> None:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


_INCOMING = ".incoming"


@contextlib.contextmanager
def lasting(folder: Path, model: str) -> Iterator[Path]:
    """The folder in which ``model`` arrives over several attempts; what is left in it stays for the next.

    Raises ``ModelLoadError`` if another process fetches the same model just now.
    """
    place = folder / _INCOMING / model
    place.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            raise ModelLoadError(
                f"{model} is being fetched by another process; wait for it.", retryable=True
            ) from error
        try:
            yield place
        finally:
            _remove_if_empty(place)
    finally:
        os.close(descriptor)
        _remove_if_empty(place.parent)


@contextlib.contextmanager
def passing(folder: Path) -> Iterator[Path]:
    """A folder for what arrives now or not at all."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)


def clear(place: Path) -> None:
    """Remove what is left when all has arrived."""
    shutil.rmtree(place, ignore_errors=True)


def _remove_if_empty(place: Path) -> None:
    with contextlib.suppress(OSError):
        place.rmdir()
