"""What the machine has to give, also within a control group."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from noa.runtime import hardware
from noa.runtime.hardware import read_hardware, resident_bytes


def test_a_machine_without_limits_is_told_as_it_is(tmp_path: Path) -> None:
    found = read_hardware(tmp_path)
    assert found.total_bytes == psutil.virtual_memory().total
    assert 0 < found.available_bytes <= found.total_bytes
    assert 1 <= found.cores <= found.threads <= (os.cpu_count() or 1)


def test_the_lowest_limit_above_this_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "machine" / "job"
    inner.mkdir(parents=True)
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/elsewhere\n0::/machine/job\n")
    monkeypatch.setattr(hardware, "_MEMBERSHIP", membership)
    (inner / "memory.max").write_text("max\n")
    (inner / "cpu.max").write_text("max 100000\n")
    outer = inner.parent
    (outer / "memory.max").write_text(f"{64 << 20}\n")
    (outer / "memory.current").write_text(f"{40 << 20}\n")
    (outer / "memory.stat").write_text(f"anon 1\ninactive_file {10 << 20}\n")
    (outer / "cpu.max").write_text("50000 100000\n")

    found = read_hardware(tmp_path)
    assert (found.total_bytes, found.available_bytes) == (64 << 20, 34 << 20)
    assert (found.threads, found.cores) == (1, 1)


def test_a_process_has_memory_and_a_dead_one_none() -> None:
    assert (resident_bytes(os.getpid()) or 0) > 1 << 20
    assert resident_bytes(2**22 + 1) is None
