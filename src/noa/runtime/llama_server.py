"""The main of an engine's process. It is run as a file, by path, and imports nothing of Noa.

What this file imports is most of what a load costs before the load begins, so it is the standard library only, and the
engine itself. Its first duty is never to outlive its manager: it asks the kernel to be killed with its parent (Linux),
checks that the parent is still the one that started it, and watches standard input for its end. Its second is to say
exactly once, on the pipe that was its standard output, that the model is loaded: ``noa-ready <nonce>``.

With ``--binary`` it sets the same guards and becomes that ``llama-server`` instead. The death signal survives the
``exec``; the watch on standard input does not, and readiness is then asked for over HTTP.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

#: Exit codes of this file, apart from the engine's own 1.
EXIT_USAGE = 2
EXIT_LOAD_FAILED = 70
EXIT_ENGINE_MISSING = 71
EXIT_ENGINE_BROKEN = 72
EXIT_ORPHANED = 73

PR_SET_PDEATHSIG = 1
#: The longest path a Unix socket can have on every system (the smallest ``sun_path`` is 104 bytes, with its zero).
MAX_SOCKET_PATH = 103

#: The engine counts its context in 32 bits.
MAX_TOKENS = (1 << 31) - 1

#: Tokens evaluated between two looks at whether the caller is still there: 64 on a CPU keeps that near 100 ms.
CPU_BATCH = 64
GPU_BATCH = 512
#: What the cache can be made of, by the engine's names; the first is what it is if nothing is said.
CACHE_TYPES = ("f16", "f32", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
#: Idle connections hold these threads, so there are many; they cost nothing while they wait.
HTTP_THREADS = 64
#: How many earlier states of a slot are kept, of models that cannot rewind (recurrent ones, and attention in a sliding
#: window): each request makes two, and without any the next one of a conversation would begin from its start. The
#: engine's own 32 can take more than the weights.
CHECKPOINTS = 4
#: Errors, warnings and information, with the sizes of the buffers; no prompts.
VERBOSITY = 4


def main() -> None:
    """Guard the process, then serve one model until it is told to end."""
    arguments = parse(sys.argv[1:])
    guard(arguments.parent)
    ready_fd = _take_standard_output()
    _remove_stale_socket(arguments.socket)
    if arguments.binary is not None:
        _become(arguments.binary, arguments)
    threading.Thread(target=_end_with_stdin, name="stdin-watch", daemon=True).start()
    _serve(arguments, ready_fd)


class Arguments(NamedTuple):
    """What this process is asked to be. Each field is the flag of its name; those that are true or false take no value.

    ``context_size`` is in tokens per slot, ``parent`` is the process id of the manager, ``gpu_layers`` is as many as
    fit if left out, ``cache_type`` is of keys and values alike, and ``binary`` is a llama-server to become. An
    ``embedding`` model sees each text as a whole, unless its vector is that of the ``last_token``. With ``no_mmap`` the
    file is read instead of mapped.
    """

    model: str
    socket: str
    alias: str
    context_size: int
    nonce: str
    parent: int
    slots: int = 1
    threads: int = 1
    gpu_layers: int | None = None
    cache_type: str = CACHE_TYPES[0]
    embedding: bool = False
    last_token: bool = False
    no_mmap: bool = False
    binary: str | None = None


def parse(arguments: Sequence[str]) -> Arguments:
    """Read the allow-list of arguments; anything else, or out of range, exits with 2.

    By hand: argparse alone would take 8 ms of every start, a third of the interpreter's own.
    """
    values: dict[str, Any] = {}
    words = iter(arguments)
    for flag in words:
        name = flag.removeprefix("--").replace("-", "_")
        try:
            values[name] = True if flag in _SWITCHES else _READERS[flag](next(words))
        except KeyError:
            _give_up(EXIT_USAGE, f"{flag} is no argument of this program")
        except StopIteration:
            _give_up(EXIT_USAGE, f"{flag} needs a value")
        except ValueError as error:
            _give_up(EXIT_USAGE, f"{flag}: {error}")
    if missing := [name for name in Arguments._fields if name not in values and name not in Arguments._field_defaults]:
        _give_up(EXIT_USAGE, f"arguments are missing: {', '.join(missing)}")
    parsed = Arguments(**values)
    if parsed.context_size * parsed.slots > MAX_TOKENS:
        _give_up(EXIT_USAGE, f"all slots together hold more than {MAX_TOKENS} tokens")
    return parsed


def guard(parent: int) -> None:
    """Tie this process to ``parent`` and keep what would deadlock or confuse the engine away from it.

    The kernel sends the death signal when the *thread* that spawned this process ends, so the manager spawns from its
    event loop's thread only. An interrupt during a load deadlocks the engine, so it is ignored: the manager ends us.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(EXIT_ORPHANED)
    os.environ["GGML_NO_BACKTRACE"] = "1"


def engine_arguments(binary: str, arguments: Arguments) -> list[str]:
    """The command line of a user's ``llama-server`` that means the same. Flags of every version since October 2025."""
    command = [
        binary,
        *("--model", arguments.model),
        *("--host", arguments.socket),
        *("--alias", arguments.alias),
        *("--ctx-size", str(arguments.context_size * arguments.slots)),
        *("--parallel", str(arguments.slots)),
        *("--threads", str(arguments.threads)),
        *("--threads-http", str(HTTP_THREADS)),
        *("--cache-ram", "0"),
        *("--ctx-checkpoints", str(CHECKPOINTS)),
        "--no-webui",
    ]
    if arguments.gpu_layers is not None:
        command += ["--n-gpu-layers", str(arguments.gpu_layers)]
    if arguments.cache_type != CACHE_TYPES[0]:
        command += ["--cache-type-k", arguments.cache_type, "--cache-type-v", arguments.cache_type]
    if arguments.no_mmap:
        command.append("--no-mmap")
    batch = _batch(arguments, CPU_BATCH)
    command += ["--batch-size", str(batch), "--ubatch-size", str(batch)]
    return [*command, "--embedding"] if arguments.embedding else command


def _batch(arguments: Arguments, usual: int) -> int:
    """How many tokens are evaluated at once. An embedding model attends to the whole text, so that must fit one batch;
    of a whole batch it also computes what every token is followed by, which takes a row of the vocabulary each.
    """
    return arguments.context_size if arguments.embedding and not arguments.last_token else usual


def _become(binary: str, arguments: Arguments) -> NoReturn:
    command = engine_arguments(binary, arguments)
    try:
        os.execv(command[0], command)  # noqa: S606  # No shell is meant: the arguments are a list.
    except OSError as error:
        _give_up(EXIT_ENGINE_MISSING, f"{command[0]} cannot be run: {error.strerror}")


def _take_standard_output() -> int:
    """Keep the pipe for the ready line alone: whatever the engine prints goes to its log. An ``exec`` closes it."""
    ready_fd = os.dup(1)
    os.dup2(2, 1)
    return ready_fd


def _serve(arguments: Arguments, ready_fd: int) -> None:
    try:
        import xllamacpp  # The engine is optional; this process is where it is used.
    except ModuleNotFoundError as error:
        _give_up(EXIT_ENGINE_MISSING, str(error))
    except ImportError as error:
        _give_up(EXIT_ENGINE_BROKEN, str(error))
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, arguments))  # Returns when the model is loaded.
    except RuntimeError as error:
        _give_up(EXIT_LOAD_FAILED, str(error))
    os.write(ready_fd, ready_line(arguments.nonce))
    os.close(ready_fd)
    while server is not None:
        signal.pause()


def ready_line(nonce: str) -> bytes:
    """What is written to the pipe when the model is loaded, to the byte."""
    return f"noa-ready {nonce}\n".encode()


def _parameters(xllamacpp: Any, arguments: Arguments) -> Any:
    accelerated = any("GPU" in str(device["type"]) for device in xllamacpp.get_device_info())
    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = [arguments.socket]
    parameters.n_ctx = arguments.context_size * arguments.slots
    parameters.n_parallel = arguments.slots
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.n_threads_http = HTTP_THREADS
    parameters.verbosity = VERBOSITY
    parameters.embedding = arguments.embedding
    parameters.n_batch = parameters.n_ubatch = _batch(arguments, GPU_BATCH if accelerated else CPU_BATCH)
    if arguments.no_mmap:
        parameters.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    cache_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{arguments.cache_type.upper()}")
    parameters.cache_type_k = parameters.cache_type_v = cache_type
    if arguments.gpu_layers is not None:
        parameters.n_gpu_layers = arguments.gpu_layers
    # Measuring what fits costs more than loading a small model, and decides nothing where there is only a CPU.
    parameters.fit_params = accelerated and arguments.gpu_layers is None
    parameters.cache_ram_mib = 0  # It would take up to 8 GiB that no budget knows of.
    parameters.n_ctx_checkpoints = CHECKPOINTS
    parameters.warmup = False  # The manager asks for a token of its own.
    parameters.ui = False
    parameters.offline = True
    return parameters


def _end_with_stdin() -> None:
    """End at once when the manager's end of standard input closes, for systems without a death signal."""
    while os.read(0, 1024):
        pass
    os._exit(EXIT_ORPHANED)


def _remove_stale_socket(path: str) -> None:
    """An old socket file would make the engine fail to listen; anything that is no socket is left alone."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108  # pathlib would be one more import before the load.
    except FileNotFoundError:
        pass


def _give_up(code: int, why: str) -> NoReturn:
    sys.stderr.write(f"noa-engine: {why}\n")
    sys.stderr.flush()
    sys.exit(code)


def _between(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is not between {low} and {high}")
        return number

    return read


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    return text


def _socket_path(text: str) -> str:
    if len(os.fsencode(_absolute_path(text))) > MAX_SOCKET_PATH:
        raise ValueError(f"{text!r} is longer than {MAX_SOCKET_PATH} bytes")
    return text


def _cache_type(text: str) -> str:
    if text not in CACHE_TYPES:
        raise ValueError(f"{text!r} is none of {', '.join(CACHE_TYPES)}")
    return text


_SWITCHES = ("--embedding", "--last-token", "--no-mmap")
_READERS: dict[str, Callable[[str], object]] = {
    "--model": _absolute_path,
    "--socket": _socket_path,
    "--alias": str,
    "--context-size": _between(1, 1 << 24),
    "--nonce": str,
    "--parent": _between(1, 1 << 31),
    "--slots": _between(1, 256),
    "--threads": _between(1, 1024),
    "--gpu-layers": _between(0, 10_000),
    "--cache-type": _cache_type,
    "--binary": _absolute_path,
}

if __name__ == "__main__":
    main()
