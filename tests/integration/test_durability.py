"""What was acknowledged survives ``kill -9``, and a disk that runs out takes back nothing it gave.

This file is also the child: ``python test_durability.py <path> <first number>`` writes until it is killed.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noa.errors import StateInUseError, StorageError
from noa.models import LoadOptions
from noa.state import AliasPointed, ModelDropped, ModelKept, SavedState
from noa.storage.sqlite import SqliteStateStore

ROUNDS = 20


async def write_until_killed(path: Path, first: int) -> None:
    """Point ``current`` at one model after the other, and print each number once it was acknowledged."""
    store = await SqliteStateStore.open(path)
    number = first
    while True:
        try:
            await store.write(
                AliasPointed(name="current", key=key(number), previous=key(number - 1), reason="because " * 20),
                ModelDropped(key=key(number - 1)),
                ModelKept(key=key(number), options=LoadOptions()),
            )
        except StorageError as error:
            print(error.message, file=sys.stderr)
            return
        print(number, flush=True)
        number += 1


def key(number: int) -> str:
    return f"fake:{number}"


def start_child(path: Path, first: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, str(path), str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def read_back(path: Path) -> SavedState:
    store = await SqliteStateStore.open(path)
    saved = await store.read()
    assert store.set_aside is None
    await store.aclose()
    return saved


def newest_acknowledged(path: Path, first: int, chance: random.Random) -> int:
    """Kill a child at a random moment and return the last number it had printed."""
    with start_child(path, first) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chance.randint(1, 30))]
        time.sleep(chance.uniform(0.0, 0.005))
        child.kill()
        lines += child.stdout.readlines()
    # The last line may be cut off by the kill.
    return int([line for line in lines if line.endswith("\n")][-1])


async def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    chance = random.Random(20_261_123)
    newest = 0
    for _ in range(ROUNDS):
        acknowledged = newest_acknowledged(path, newest + 1, chance)
        saved = await read_back(path)
        ((current,), (kept,)) = (saved.aliases, saved.models)
        assert current.key == kept.key, "half a write survived"
        assert current.key is not None
        newest = int(current.key.removeprefix("fake:"))
        assert acknowledged <= newest <= acknowledged + 1
    store = await SqliteStateStore.open(path)
    keys = [record.key for record in await store.alias_history("current", limit=1000)]
    await store.aclose()
    assert keys == [key(number) for number in range(newest, newest - len(keys), -1)], "a write is missing in between"


async def test_a_disk_that_runs_out_keeps_exactly_what_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with start_child(path, 1) as child:
        # The kernel refuses to let any file of the child grow beyond this, as a full disk would.
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        output, errors = child.communicate()
    acknowledged = [int(line) for line in output.splitlines()]
    assert child.returncode == 0
    assert "could not be written" in errors
    saved = await read_back(path)
    assert [alias.key for alias in saved.aliases] == [key(acknowledged[-1])]
    assert [model.key for model in saved.models] == [key(acknowledged[-1])]


async def test_the_holder_is_named_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with start_child(path, 1) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        with pytest.raises(StateInUseError, match=f"another Noa process \\({child.pid}\\)"):
            await SqliteStateStore.open(path)
        child.kill()
    await read_back(path)


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asyncio.run(write_until_killed(Path(sys.argv[1]), int(sys.argv[2])))
