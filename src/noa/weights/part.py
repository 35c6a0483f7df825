"""A file of weights while it arrives: checked when it is all there, and worth keeping when what sends it breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Self

import msgspec

from noa.errors import ModelLoadError
from noa.weights.place import check_weights

#: How many bytes are read or written at once.
CHUNK = 1 << 22
#: What the name of a file ends in until it is a model's.
SUFFIX = ".part"
_ORIGIN_SUFFIX = ".origin"
_MAGIC = b"GGUF"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is part of, so that it goes on with the same bytes or not at all.

    ``address`` has no query, which may hold a token and changes from one time to the next. ``validator`` is what the
    server called this state of the file (RFC 9110, section 8.8), ``sha256`` what it must have in the end.
    """

    address: str
    size_bytes: int | None = None
    validator: str | None = None
    sha256: str | None = None

    @property
    def resumable(self) -> bool:
        """Whether it can be known that what comes later belongs to what came before."""
        return self.validator is not None or self.sha256 is not None


class Part:
    """A file that arrives: ``size_bytes`` of it are at ``path``, and come from ``origin``. Get one with ``opened``."""

    def __init__(self, path: Path, name: str, file: IO[bytes]) -> None:
        self.path = path
        self.origin: Origin | None = None
        self.size_bytes = 0
        self._name = name
        self._file = file
        self._complete = False

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path, name: str) -> Iterator[Self]:
        """The file ``name`` that arrives in ``folder``, with what came earlier. What is of no use later is deleted."""
        path = folder / (name + SUFFIX)
        file = path.open("ab")
        part = cls(path, name, file)
        try:
            part._recall()
            yield part
        finally:
            file.close()
            if not part.kept_bytes:
                part._remove()

    @property
    def kept_bytes(self) -> int:
        """How many bytes another time can go on from."""
        return self.size_bytes if self._complete or (self.origin is not None and self.origin.resumable) else 0

    @property
    def missing_bytes(self) -> int | None:
        """How many bytes are still to come, where that is known."""
        size = self.origin.size_bytes if self.origin is not None else None
        return None if size is None else size - self.size_bytes

    def begin(self, origin: Origin) -> None:
        """Begin anew with what comes from ``origin``."""
        self.forget()
        self.origin = origin
        self._note.write_bytes(msgspec.json.encode(origin))

    def forget(self) -> None:
        """Throw away what is there."""
        self._file.seek(0)
        self._file.truncate()
        self.size_bytes = 0
        self.origin = None

    async def write(self, chunk: bytes) -> None:
        """Append what came. Raises ``ModelLoadError`` if a file that begins so is none with weights."""
        if not self.size_bytes and not _MAGIC.startswith(chunk[: len(_MAGIC)]):
            self.origin = None
            raise ModelLoadError(f"What came for {self._name} is no GGUF file; check the source.")
        await asyncio.to_thread(self._file.write, chunk)
        self.size_bytes += len(chunk)

    async def complete(self) -> Path:
        """Make what came durable and check it. Raises ``ModelLoadError``, and nothing is kept, if it is not right."""
        try:
            await self._check()
        except ModelLoadError:
            self.origin = None
            raise
        self._complete = True
        return self.path

    async def _check(self) -> None:
        origin = self.origin
        assert origin is not None
        if origin.size_bytes is not None and self.size_bytes != origin.size_bytes:
            raise ModelLoadError(
                f"{self._name} broke off after {self.size_bytes} of {origin.size_bytes} bytes; try again.",
                retryable=True,
            )
        await asyncio.to_thread(self._make_durable)
        if origin.sha256 is not None and await asyncio.to_thread(sha256_of, self.path) != origin.sha256:
            raise ModelLoadError(
                f"{self._name} does not have the SHA-256 it should, so it was damaged on its way or is not what was"
                " asked for; it was not stored. Try again, or check the source.",
                retryable=True,
            )
        await asyncio.to_thread(check_weights, self.path, self._name)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(_ORIGIN_SUFFIX)

    def _recall(self) -> None:
        """Take up what came earlier, if it is known where from."""
        try:
            self.origin = msgspec.json.decode(self._note.read_bytes(), type=Origin)
        except (FileNotFoundError, msgspec.DecodeError):
            return
        self.size_bytes = self._file.tell()

    def _make_durable(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Blocking."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def read(file: IO[bytes]) -> AsyncIterator[bytes]:
    """What an open file holds, piece by piece."""
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        yield chunk
