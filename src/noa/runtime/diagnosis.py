"""Why an engine's process ended: its exit code and its own last words, read into one sentence for people.

Pure. The engine exits with 1 for nearly everything, so the cause is in its standard error; the patterns are those that
llama.cpp prints (``common/``, ``src/llama-model-loader.cpp``, ``ggml/src/``), each seen once or taken from its source.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from noa.runtime.llama_server import EXIT_ENGINE_BROKEN, EXIT_ENGINE_MISSING, EXIT_ORPHANED

#: How many of the engine's own error lines travel with a diagnosis.
EVIDENCE_LINES = 6


class Reason(StrEnum):
    """What went wrong, for programs."""

    ENGINE_MISSING = "engine_missing"
    ENGINE_BROKEN = "engine_broken"
    FILE_MISSING = "file_missing"
    FILE_CORRUPT = "file_corrupt"
    FILE_CHANGED = "file_changed"
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    OUT_OF_MEMORY = "out_of_memory"
    ADDRESS = "address"
    KILLED = "killed"
    TERMINATED = "terminated"
    ABORTED = "aborted"
    CRASHED = "crashed"
    WRONG_CPU = "wrong_cpu"
    ORPHANED = "orphaned"
    UNKNOWN = "unknown"


#: Reasons for which a load may do better when there is more memory.
WANT_OF_MEMORY = frozenset({Reason.OUT_OF_MEMORY, Reason.KILLED})


class Diagnosis(NamedTuple):
    """A reason, the sentence that says it, and the engine's lines it rests on."""

    reason: Reason
    sentence: str
    evidence: tuple[str, ...]


_BY_CODE = {
    EXIT_ENGINE_MISSING: Reason.ENGINE_MISSING,
    EXIT_ENGINE_BROKEN: Reason.ENGINE_BROKEN,
    EXIT_ORPHANED: Reason.ORPHANED,
    -signal.SIGBUS: Reason.FILE_CHANGED,
    -signal.SIGILL: Reason.WRONG_CPU,
    -signal.SIGKILL: Reason.KILLED,
    -signal.SIGTERM: Reason.TERMINATED,
    -signal.SIGABRT: Reason.ABORTED,
    -signal.SIGSEGV: Reason.CRASHED,
}

_OUT_OF_MEMORY = (
    r"out of memory|insufficient memory|std::bad_alloc|cannot allocate memory|(?:failed|unable) to allocate .*buffer"
    r"|ErrorOutOf(?:Host|Device)Memory"
)
_CORRUPT = (
    r"not within the file bounds|model is corrupted|unexpectedly reached end of file|invalid split|invalid magic"
    r"|failed to read (?:magic|header|key-value|tensor)|error loading model (?:vocabulary|hyperparameters)"
    r"|missing tensor|wrong number of tensors|tensor '[^']*' not found|has wrong shape|key not found in model"
)

#: In this order: a full memory also fails a tensor, and a missing file also fails "to load model".
_SIGNS: tuple[tuple[Reason, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        (Reason.UNKNOWN_ARCHITECTURE, r"unknown (?:model )?architecture: '(?P<detail>[^']*)'"),
        (Reason.OUT_OF_MEMORY, _OUT_OF_MEMORY),
        (Reason.ADDRESS, r"couldn't bind|address already in use|failed to bind"),
        (Reason.FILE_MISSING, r"failed to open gguf file .*no such file"),
        (Reason.FILE_CORRUPT, _CORRUPT),
    )
)

#: Cause and advice. ``{path}`` is the weights file, ``{detail}`` what the engine named.
_TEXTS = {
    Reason.ENGINE_MISSING: ("the local engine is not installed", "install it with: pip install 'noa[local]'"),
    Reason.ENGINE_BROKEN: (
        "the local engine is installed but cannot be imported here",
        "reinstall it with: pip install --force-reinstall 'noa[local]'",
    ),
    Reason.FILE_MISSING: ("the file {path} is not there", "fetch it again or refresh the list of models"),
    Reason.FILE_CORRUPT: ("the file {path} is corrupted or incomplete", "delete it and fetch it again"),
    Reason.FILE_CHANGED: (
        "the file {path} was cut short or overwritten while it was in use",
        "restore it and load the model again; replace weights by renaming, never in place",
    ),
    Reason.UNKNOWN_ARCHITECTURE: (
        "the engine does not know the model architecture “{detail}”",
        "update the engine or choose another model",
    ),
    Reason.OUT_OF_MEMORY: (
        "there is not enough memory for it",
        "unload another model, or load it with a smaller context or fewer slots",
    ),
    Reason.ADDRESS: ("the engine could not listen on its socket", "check that the folder for sockets is writable"),
    Reason.KILLED: (
        "the operating system killed the engine, most likely for want of memory",
        "unload another model, or load it with a smaller context",
    ),
    Reason.TERMINATED: ("something else asked the engine to end", "load the model again"),
    Reason.ABORTED: (
        "the engine gave up on an internal check",
        "the file {path} may be damaged; see the model's log, and try another file or engine version",
    ),
    Reason.CRASHED: ("the engine crashed", "see the model's log, and try another file or engine version"),
    Reason.WRONG_CPU: (
        "the engine was built for another processor than this one",
        "install a build for this processor, or set the path of your own llama-server",
    ),
    Reason.ORPHANED: ("the engine found that its manager had gone", "load the model again"),
    Reason.UNKNOWN: ("the engine ended with code {code}{last_words}", "see the model's log"),
}

#: Exit codes that say more than any line can.
_CODE_FIRST = frozenset({EXIT_ENGINE_MISSING, EXIT_ENGINE_BROKEN, EXIT_ORPHANED, -signal.SIGBUS, -signal.SIGILL})


def diagnose(lines: Sequence[str], code: int, *, key: str, path: str, loaded: bool) -> Diagnosis:
    """Read an exit into a reason and a sentence.

    ``code`` is the exit code, negative for a signal; ``lines`` is what the engine wrote to standard error; ``loaded``
    says whether the model was serving already, or still on its way. Text of a loaded engine is not searched for signs
    of a failed load.
    """
    reason, detail = _reason(lines, code, loaded=loaded)
    cause, advice = _TEXTS[reason]
    evidence = tuple(line for line in lines if _is_error(line))[-EVIDENCE_LINES:]
    last_words = f", saying “{evidence[-1]}”" if evidence else ""
    facts = {"path": path, "detail": detail, "code": code, "last_words": last_words}
    verb = "stopped" if loaded else "could not be loaded"
    sentence = f"{key} {verb}: {cause.format(**facts)}; {advice.format(**facts)}."
    return Diagnosis(reason, sentence, evidence)


def _reason(lines: Sequence[str], code: int, *, loaded: bool) -> tuple[Reason, str]:
    if code in _CODE_FIRST:
        return _BY_CODE[code], ""
    for reason, pattern in _SIGNS:
        if loaded and reason is not Reason.OUT_OF_MEMORY:
            continue
        for line in lines:
            if (match := pattern.search(line)) and _is_error(line):
                return reason, match.groupdict().get("detail") or ""
    return _BY_CODE.get(code, Reason.UNKNOWN), ""


def _is_error(line: str) -> bool:
    """Whether a line is the engine's own complaint; lines of level I, W and D look like ``0.00.001.876 I srv …``."""
    return not re.match(r"[\d.]+ [IWD] ", line)
