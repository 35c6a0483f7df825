"""What this machine has to give: processors and memory, within the limits of a container.

Facts of GPUs need the engine's own library, which is too heavy for this process; they are not read here.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from noa.models import Value

CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


class Hardware(Value, frozen=True, kw_only=True):
    """Processors and memory this process may use, memory in bytes.

    ``threads`` counts logical processors, ``cores`` physical ones (as many as ``threads`` where that is unknown).
    """

    threads: int
    cores: int
    total_bytes: int
    available_bytes: int


def read_hardware(cgroup_root: Path = CGROUP_ROOT) -> Hardware:
    """Look at the machine now. A control group's limits (version 2) count where they are lower."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    threads = _affinity()
    for group in _groups(cgroup_root):
        if (limit := _first_number(group / "memory.max")) is not None:
            total = min(total, limit)
            available = min(available, max(0, limit - _working_set(group)))
        if (quota := _cpu_quota(group)) is not None:
            threads = max(1, min(threads, quota))
    return Hardware(
        threads=threads,
        cores=min(threads, psutil.cpu_count(logical=False) or threads),
        total_bytes=total,
        available_bytes=available,
    )


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process and everything below it, or ``None`` if it is gone. Shared pages count once each."""
    try:
        process = psutil.Process(pid)
        total = int(process.memory_info().rss)
        below = process.children(recursive=True)
    except psutil.Error:
        return None
    for child in below:
        try:
            total += int(child.memory_info().rss)
        except psutil.Error:  # It ended while we looked.
            continue
    return total


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> list[Path]:
    """This process's control group and those above it, as far as they are visible."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    name = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    group = root / name if name else root
    return [path for path in (group, *group.parents) if path == root or root in path.parents]


def _first_number(file: Path) -> int | None:
    try:
        word = file.read_text().split()[0]
    except (OSError, IndexError):
        return None
    return int(word) if word.isdigit() else None


def _working_set(group: Path) -> int:
    """Memory in use that the kernel could not simply take back: all of it less the inactive pages of files."""
    current = _first_number(group / "memory.current") or 0
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return current
    inactive = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return max(0, current - inactive)


def _cpu_quota(group: Path) -> int | None:
    """Whole processors of ``cpu.max`` (quota and period in microseconds), rounded up."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return -(-int(quota) // int(period)) if quota.isdigit() else None
