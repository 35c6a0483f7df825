"""What an engine's process is started with: its arguments, its environment, and a look at the file it will read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
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

GGUF_MAGIC = b"GGUF"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One start: ``nonce`` tells this process from every other, ``socket_path`` is where it will listen."""

    spec: EngineSpec
    nonce: str
    socket_path: str


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
    if binary is not None:
        arguments += ["--binary", str(binary.absolute())]
    return arguments


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The few variables that an engine inherits, so that no key of a provider can reach it."""
    return {
        name: value for name, value in environment.items() if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }


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
