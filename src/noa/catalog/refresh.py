"""Fetches a newer catalogue, and keeps the one before it so that one can go back. Nothing here happens by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from noa.catalog.catalog import BUNDLED
from noa.catalog.comparison import Comparison, check_plausible, compare
from noa.catalog.models_dev import read_document
from noa.catalog.snapshot import Snapshot, pack, unpack
from noa.errors import ConflictError, ProviderConnectionError, StorageError, ValidationError
from noa.version import __version__

#: Where models.dev publishes its data (https://github.com/anomalyco/models.dev#api).
DEFAULT_SOURCE: Final = "https://models.dev/api.json"
#: How large the document may be; it has about 4 MB.
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
#: How long the source may stay silent, and how long all of it may take.
STALL_S: Final = 20.0
WHOLE_S: Final = 120.0


class CatalogShelf:
    """The fetched catalogue in a folder, and the one before it. What came with Noa lies elsewhere and never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def current_path(self) -> Path:
        """The fetched catalogue, if there is one."""
        return self._folder / "catalog.json.gz"

    @property
    def previous_path(self) -> Path:
        """The one that was fetched before it."""
        return self._folder / "catalog.previous.json.gz"

    def in_use(self) -> Snapshot:
        """The catalogue that is used now: the fetched one if it is there and can be read, else the one of this Noa."""
        bundled = unpack(BUNDLED.read_bytes())
        try:
            fetched = unpack(self.current_path.read_bytes())
        except (OSError, ValidationError):
            return bundled
        return fetched if fetched.as_of >= bundled.as_of else bundled

    def put(self, snapshot: Snapshot) -> None:
        """Use this catalogue from now on, and keep the one before. Raises ``StorageError`` if it cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = self._write(pack(snapshot))
            if self.current_path.exists():
                self.current_path.replace(self.previous_path)
            else:
                self.previous_path.unlink(missing_ok=True)
            fresh.replace(self.current_path)
        except OSError as error:
            raise StorageError(
                f"The catalogue could not be written to {self._folder}: {error.strerror}. The one before stays in use."
            ) from error

    def go_back(self) -> Snapshot:
        """Use what was used before the last ``put``, and return it. Raises ``ConflictError`` if there is nothing."""
        if not self.current_path.exists():
            raise ConflictError("The catalogue in use came with Noa; there is none before it.")
        try:
            if self.previous_path.exists():
                self.previous_path.replace(self.current_path)
            else:
                self.current_path.unlink()
        except OSError as error:
            raise StorageError(f"The catalogue in {self._folder} could not be changed: {error.strerror}.") from error
        return self.in_use()

    def _write(self, content: bytes) -> Path:
        """Write it to a new file beside the others, safely on the disk when this returns."""
        handle, name = tempfile.mkstemp(dir=self._folder, prefix="catalog-", suffix=".new")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        return Path(name)


async def refresh(shelf: CatalogShelf, source: str = DEFAULT_SOURCE) -> tuple[Snapshot, Comparison]:
    """Fetch a catalogue from a URL or a file, check it, use it, and say what it changes.

    The source holds what models.dev publishes. Raises ``ProviderConnectionError`` if it cannot be had, and
    ``ValidationError`` if it is none, or not plausible; what is in use stays in use then.
    """
    document, as_of = await read_source(source)
    fresh = await asyncio.to_thread(read_document, document, as_of=as_of)
    before = await asyncio.to_thread(shelf.in_use)
    if fresh.as_of < before.as_of:
        raise ValidationError(f"{source} is of {fresh.as_of}, older than the catalogue in use, {before.as_of}.")
    check_plausible(fresh, before)
    await asyncio.to_thread(shelf.put, fresh)
    return fresh, compare(before, fresh)


async def read_source(source: str) -> tuple[bytes, date]:
    """The document at a URL, as of today, or in a file, as of the day it was written."""
    if "://" in source:
        return await _download(source), datetime.now(UTC).date()
    return await asyncio.to_thread(_read_file, Path(source).expanduser())


def _read_file(path: Path) -> tuple[bytes, date]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_DOCUMENT_BYTES + 1)
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    except OSError as error:
        raise ValidationError(f"{path} cannot be read: {error.strerror}.") from error
    return _bounded(content, str(path)), written


async def _download(url: str) -> bytes:
    import aiohttp  # here, so that what only looks models up does without it

    if not url.startswith(("https://", "http://")):
        raise ValidationError(f"{url} is neither an address that begins with https:// nor a file.")
    timeout = aiohttp.ClientTimeout(total=WHOLE_S, sock_connect=STALL_S, sock_read=STALL_S)
    headers = {"User-Agent": f"noa/{__version__}", "Accept": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session,
            session.get(url) as answer,
        ):
            if answer.status != 200:
                raise ProviderConnectionError(
                    f"{url} answered {answer.status}. What is in use stays; try later, or name a file with --from."
                )
            content = bytearray()
            async for piece in answer.content.iter_chunked(1 << 16):
                content += piece
                if len(content) > MAX_DOCUMENT_BYTES:
                    break
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ProviderConnectionError(
            f"{url} could not be fetched: {error or 'it took too long'}. What is in use stays; try later, or name a "
            "file with --from."
        ) from error
    return _bounded(bytes(content), url)


def _bounded(content: bytes, source: str) -> bytes:
    if len(content) > MAX_DOCUMENT_BYTES:
        raise ValidationError(f"{source} is larger than {MAX_DOCUMENT_BYTES // 2**20} MiB, so it is no catalogue.")
    return content
