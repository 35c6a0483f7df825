"""Ending engine processes that a killed manager left behind, and only those.

Blocking: it reads the table of processes and waits for the dead. Run it on a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from noa.state import ProcessRecord

logger = logging.getLogger(__name__)

#: Start times come from the boot time and clock ticks, so two readings of one process may differ by this, in seconds.
START_TIME_TOLERANCE_S = 2.0
_GONE_WITHIN_S = 5.0
_POLL_S = 0.02
#: The flags an engine's own command line gives its socket by: ours, and llama-server's.
_SOCKET_FLAGS = ("--socket", "--host")


def end_predecessors(records: Sequence[ProcessRecord]) -> tuple[ProcessRecord, ...]:
    """Kill what still runs of ``records`` and return those that are settled: certain to have no process any more.

    A process is one of ours when its arguments hold the record's socket, whose name is the nonce, as its own address;
    a recorded pid and start time must agree besides. Where no pid was written (the manager died between the intent and
    the start), every process is looked at.
    """
    running = [(record, process) for record in records for process in _candidates(record) if _is_it(record, process)]
    for record, process in running:
        logger.warning("ending process %d, which an earlier manager left running for %s", process.pid, record.key)
        _kill(process)
    deadline = time.monotonic() + _GONE_WITHIN_S
    while time.monotonic() < deadline and any(_alive(process) for _, process in running):
        time.sleep(_POLL_S)
    unsettled = {record.nonce for record, process in running if _alive(process)}
    settled = tuple(record for record in records if record.nonce not in unsettled)
    for record in settled:
        _remove_socket(record)
    return settled


def _candidates(record: ProcessRecord) -> Iterable[psutil.Process]:
    if record.pid is None:
        return psutil.process_iter()
    try:
        return (psutil.Process(record.pid),)
    except psutil.Error:
        return ()


def _is_it(record: ProcessRecord, process: psutil.Process) -> bool:
    if process.pid == os.getpid() or record.nonce not in record.socket_path:
        return False
    try:
        arguments, started = process.cmdline(), process.create_time()
    except psutil.Error:
        return False
    if record.started_at is not None and abs(started - record.started_at) > START_TIME_TOLERANCE_S:
        return False
    pairs = itertools.pairwise(arguments)
    return any(flag in _SOCKET_FLAGS and value == record.socket_path for flag, value in pairs)


def _kill(process: psutil.Process) -> None:
    """Kill the group it leads, or it alone. An engine keeps nothing worth a graceful end once its manager is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie that its new parent has not reaped yet holds nothing any more."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _remove_socket(record: ProcessRecord) -> None:
    """Remove the socket a dead engine left, and its folder if that was made for it and is empty now."""
    path = Path(record.socket_path)
    with contextlib.suppress(OSError):
        if record.nonce in path.name and stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    with contextlib.suppress(OSError):
        if path.parent.name.startswith("noa-"):
            path.parent.rmdir()
