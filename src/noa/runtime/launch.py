"""What an engine's process is started with: its arguments, its environment, and a look at the file it will read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import msgspec

from noa.errors import ModelLoadError
from noa.runtime import llama_server
from noa.runtime.protocol import EngineSpec

#: Variables an engine needs to find its libraries and devices. Nothing else of the manager's environment reaches it.
INHERITED = frozenset(
    {
        *("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("HSA_OVERRIDE_GFX_VERSION", "NVIDIA_VISIBLE_DEVICES"),
    }
)
INHERITED_PREFIXES = ("GGML_", "LC_")
#: Has glibc ask for huge pages where Linux gives them on request. An engine fills its whole cache with zeros when it
#: loads, and faulting that in by 4 KiB was a seventh of a small model's start. Other C libraries don't read it.
ALLOCATION = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

GGUF_MAGIC = b"GGUF"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One start: ``nonce`` tells this process from every other, ``socket_path`` is where it will listen."""

    spec: EngineSpec
    nonce: str
    socket_path: str


def engine_build(binary: Path | None) -> str:
    """Which engine runs: measurements of one say nothing of another. The user's ``binary`` is told by its file."""
    if binary is not None:
        try:
            facts = binary.stat()
        except OSError:
            return str(binary)
        return f"{binary} of {facts.st_size} bytes from {facts.st_mtime_ns}"
    try:
        version = metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return "none"
    return f"xllamacpp {version}, batch {llama_server.CPU_BATCH}, checkpoints {llama_server.CHECKPOINTS}"


def command(launch: Launch, *, python: str, binary: Path | None, parent: int) -> list[str]:
    """The arguments of the process: this interpreter on the child's own main, with an allow-list and no shell.

    ``-E -P`` keep Python variables and the folder of the script out of the import path. Unlike ``-I`` they leave the
    user's site-packages in, so that the child finds the engine wherever its manager would.
    """
    spec = launch.spec
    arguments = [
        *(python, "-E", "-P", llama_server.__file__),
        *("--model", os.path.abspath(spec.path)),  # noqa: PTH100  # Symlinks stay: the engine reports this path.
        *("--socket", launch.socket_path),
        *("--alias", spec.alias),
        *("--context-size", str(spec.context_size)),
        *("--slots", str(spec.slots)),
        *("--threads", str(spec.threads)),
        *("--cache-type", spec.cache_type),
        *("--nonce", launch.nonce),
        *("--parent", str(parent)),
    ]
    if spec.gpu_layers is not None:
        arguments += ["--gpu-layers", str(spec.gpu_layers)]
    if spec.embedding:
        arguments.append("--embedding")
    if spec.last_token:
        arguments.append("--last-token")
    if not spec.maps:
        arguments.append("--no-mmap")
    if binary is not None:
        arguments += ["--binary", str(binary.absolute())]
    return arguments


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The few variables that an engine inherits, so that no key of a provider can reach it, and ``ALLOCATION``."""
    inherited = {
        name: value for name, value in environment.items() if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }
    return inherited | ALLOCATION


def require_weights(spec: EngineSpec) -> None:
    """Raise ``ModelLoadError`` if the file can be seen not to load, before a process is started for it."""
    path = Path(spec.path)
    try:
        kind = path.stat().st_mode
        magic = _head(path) if stat.S_ISREG(kind) else b""
    except FileNotFoundError:
        problem = f"the file {path} is not there; fetch it again or refresh the list of models"
    except OSError as error:
        problem = f"the file {path} cannot be read ({error.strerror}); check its permissions"
    else:
        if magic == GGUF_MAGIC:
            return
        if stat.S_ISDIR(kind):
            problem = f"{path} is a folder; name the .gguf file in it"
        elif not stat.S_ISREG(kind):
            problem = f"{path} is no regular file; name a .gguf file"
        else:
            problem = f"{path} is no GGUF file (it starts with {magic!r}); delete it and fetch it again"
    raise ModelLoadError(f"{spec.key} could not be loaded: {problem}.", details={"path": str(path)})


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC))
