"""Fetching a model's files from the web, over as many connections as it takes.

What came is kept when a connection breaks off, and gone on with by RFC 9110's range requests: at once while it gets on,
after growing pauses while it does not, and otherwise the next time the same is asked for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import aiohttp

from noa.errors import ModelLoadError
from noa.weights.incoming import clear, lasting
from noa.weights.part import CHUNK, Origin, Part, read, sha256_of
from noa.weights.place import check_room, other_file, present, safe_name, settle
from noa.weights.progress import Announce, ByteProgress, decimal_size
from noa.weights.shards import model_name
from noa.weights.web import WebFile, answers, said, session

#: How long to wait before each further attempt at a connection that gets no further, in seconds.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")

Sleep = Callable[[float], Awaitable[None]]


class _OtherStateError(Exception):
    """What the server goes on with is not what was begun."""


class Download:
    """One model's way into ``folder``: its ``files``, in their order. Use it once."""

    def __init__(
        self, files: Sequence[WebFile], folder: Path, *, report: ByteProgress, announce: Announce, sleep: Sleep
    ) -> None:
        self._files = files
        self._names = [safe_name(file.name) for file in files]
        self._folder = folder
        self._report = report
        self._announce = announce
        self._sleep = sleep
        self._arrived_bytes = 0

    async def run(self) -> Path:
        """Fetch what is missing and return the first file.

        Raises ``ModelLoadError`` when what comes is not what was asked for or does not come, ``ConfigurationError``
        when other weights have the name or these are locked away, ``StorageError`` when there is no room.
        """
        async with session() as client:
            if (there := present(self._folder, self._names)) is not None:
                await self._compare(client, there)
                return there[0]
            with lasting(self._folder, model_name(self._names[0])) as place:
                self._check_room_for_all(place)
                arrived = {file.name: await self._fetch(client, file, place) for file in self._files}
                first = await asyncio.to_thread(settle, arrived, self._folder)
                clear(place)
                return first

    async def _compare(self, client: aiohttp.ClientSession, there: Sequence[Path]) -> None:
        """Raise ``ConfigurationError`` unless the files that are there are those that would be fetched."""
        for file, path in zip(self._files, there, strict=True):
            size = file.size_bytes if file.size_bytes is not None else await self._size_of(client, file)
            if path.stat().st_size != size:
                raise other_file(path)
            if file.sha256 is not None and await asyncio.to_thread(sha256_of, path) != file.sha256:
                raise other_file(path)

    async def _size_of(self, client: aiohttp.ClientSession, file: WebFile) -> int | None:
        try:
            async with aclosing(answers(client, file, {})) as responses:
                return (await anext(responses)).content_length
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broken_off(file, None, error) from error

    def _check_room_for_all(self, place: Path) -> None:
        sizes = [file.size_bytes for file in self._files if file.size_bytes is not None]
        if len(sizes) == len(self._files):
            here = sum(part.stat().st_size for part in place.glob("*.part"))
            check_room(self._folder, sum(sizes) - here)

    async def _fetch(self, client: aiohttp.ClientSession, file: WebFile, place: Path) -> Path:
        """Bring one file all the way, and check it."""
        with Part.opened(place, file.name) as part:
            if part.origin is not None and not _same(part.origin, file):
                part.forget()
            try:
                if not part.size_bytes:
                    await self._take_cached(file, part)
                await self._persist(client, file, part)
            except asyncio.CancelledError:
                if part.kept_bytes:
                    self._announce(f"{_kept(part)} of {file.name} are kept; the same again goes on from there.")
                raise
            path = await part.complete()
            self._arrived_bytes += part.size_bytes
            return path

    async def _take_cached(self, file: WebFile, part: Part) -> None:
        """Copy what another program has fetched, if it is what it should be."""
        if file.cached is None or file.sha256 is None or file.sha256 != await asyncio.to_thread(sha256_of, file.cached):
            return
        with file.cached.open("rb") as stream:
            part.begin(Origin(address=file.plain_address, size_bytes=file.size_bytes, sha256=file.sha256))
            async for chunk in read(stream):
                await part.write(chunk)
                self._tell(part)

    async def _persist(self, client: aiohttp.ClientSession, file: WebFile, part: Part) -> None:
        """Connect until all is there, or until connecting gets it no further."""
        begun_with = farthest = part.size_bytes
        pauses = iter(PAUSES_S)
        while not (part.kept_bytes and part.missing_bytes == 0):
            try:
                await self._connect(client, file, part)
                break
            except _OtherStateError:
                part.forget()
                begun_with = 0
            except (aiohttp.ClientError, TimeoutError) as error:
                if part.size_bytes > farthest:
                    farthest, pauses = part.size_bytes, iter(PAUSES_S)
                pause = next(pauses, None) if farthest > begun_with else None
                if pause is None:
                    raise _broken_off(file, part, error) from error
                await self._sleep(pause)

    async def _connect(self, client: aiohttp.ClientSession, file: WebFile, part: Part) -> None:
        async with aclosing(answers(client, file, _range(part))) as responses:
            response = await anext(responses)
            if _begins(response, part):
                part.begin(_origin(file, response))
            check_room(self._folder, part.missing_bytes)
            if response.status == 416:
                return
            async for chunk in response.content.iter_chunked(CHUNK):
                await part.write(chunk)
                self._tell(part)

    def _tell(self, part: Part) -> None:
        sizes = [file.size_bytes for file in self._files]
        if len(sizes) == 1 and part.origin is not None:
            sizes = [part.origin.size_bytes]
        total = sum(size for size in sizes if size is not None)
        self._report(self._arrived_bytes + part.size_bytes, None if None in sizes else total)


def _same(origin: Origin, file: WebFile) -> bool:
    """Whether what is there may be the beginning of ``file``: the same content, or the same address."""
    if file.sha256 is not None or origin.sha256 is not None:
        return origin.sha256 == file.sha256
    return origin.address == file.plain_address


def _range(part: Part) -> dict[str, str]:
    """The headers that ask for the rest only, if what is there is still the same (RFC 9110, section 13.1.5)."""
    if not part.kept_bytes or part.origin is None:
        return {}
    asked = {"Range": f"bytes={part.kept_bytes}-"}
    # Where the content is known there is nothing to ask, and servers behind a redirect name its state differently.
    if part.origin.sha256 is None and part.origin.validator is not None:
        asked["If-Range"] = part.origin.validator
    return asked


def _begins(response: aiohttp.ClientResponse, part: Part) -> bool:
    """Whether the answer is the file from its beginning; if not, it goes on with what is there.

    Raises ``_OtherStateError`` where it does not fit.
    """
    if response.status == 200:
        return True
    if not part.kept_bytes:
        raise ModelLoadError(f"{response.url.host} answered {response.status} to a request for the whole file.")
    given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    size = part.origin.size_bytes if part.origin is not None else None
    if given is None or (size is not None and given["total"] not in ("*", str(size))):
        raise _OtherStateError
    if given["start"] is None:
        fits = response.status == 416 and given["total"] == str(part.size_bytes)
    else:
        fits = response.status == 206 and int(given["start"]) == part.size_bytes
    if not fits:
        raise _OtherStateError
    return False


def _origin(file: WebFile, response: aiohttp.ClientResponse) -> Origin:
    """Where the file of an answer comes from. Raises ``ModelLoadError`` if it is not the one that was announced."""
    size = response.content_length
    if file.size_bytes is not None and size is not None and size != file.size_bytes:
        raise ModelLoadError(
            f"{file.host} sends {size:,} bytes as {file.name} and promised {file.size_bytes:,}; try again.",
            retryable=True,
        )
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    return Origin(
        address=file.plain_address,
        size_bytes=file.size_bytes if size is None else size,
        validator=validator,
        sha256=file.sha256,
    )


def _kept(part: Part) -> str:
    size = part.origin.size_bytes if part.origin is not None else None
    return decimal_size(part.kept_bytes) + ("" if size is None else f" of the {decimal_size(size)}")


def _broken_off(file: WebFile, part: Part | None, error: Exception) -> ModelLoadError:
    kept = "try again"
    if part is not None and part.kept_bytes:
        kept = f"{_kept(part)} are kept, and the same again goes on from there"
    return ModelLoadError(f"{file.name} could not be fetched from {file.host}: {said(error)}; {kept}.", retryable=True)
