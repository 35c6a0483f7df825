"""Opening a database: alone, privately, up to date, and with a clear word where that is not possible."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noa.errors import ConfigurationError, StateInUseError, StorageError
from noa.state import AliasPointed
from noa.storage import schema
from noa.storage.database import Database
from noa.storage.schema import STATE, USAGE, migrations
from noa.storage.sqlite import SqliteStateStore
from noa.storage.usage import SqliteUsageStore

NOBODY = 65_534


def noon() -> datetime:
    return datetime(2026, 11, 23, 12, tzinfo=UTC)


def pointed(key: str, reason: str = "a test") -> AliasPointed:
    return AliasPointed(name="current", key=key, previous=None, reason=reason)


async def filled(path: Path, count: int = 200) -> None:
    """A closed state of several pages."""
    store = await SqliteStateStore.open(path)
    await store.write(*(pointed(f"a:{number}", reason="because " * 20) for number in range(count)))
    await store.aclose()


@contextmanager
def as_somebody_without_rights() -> Iterator[Path]:
    """A folder this process may not write to while in the block, also when it is root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    folder.chmod(0o555)
    if root:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


async def test_files_and_new_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    store = await SqliteStateStore.open(path)
    await store.write(pointed("a:1"))
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await store.aclose()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files == {"state.db": 0o600, "state.db-wal": 0o600, "state.db.lock": 0o600}


async def test_state_is_synced_at_every_commit(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "state.db", STATE, noon)
    settings = await database.read(
        lambda connection: {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
        }
    )
    await database.aclose()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}


async def test_no_other_program_gets_a_second_connection(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStateStore.open(path)
    with (
        closing(sqlite3.connect(path, timeout=0)) as intruder,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        intruder.execute("SELECT * FROM alias_history")
    await store.aclose()


async def test_a_database_locked_by_another_program_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noa.storage.database.BUSY_TIMEOUT_S", 0.0)
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="another program holds a lock on it"):
            await SqliteStateStore.open(path)
    await (await SqliteStateStore.open(path)).aclose()


async def test_a_second_manager_is_told_who_holds_the_state_and_where(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStateStore.open(path)
    with pytest.raises(StateInUseError, match=rf"another Noa process \({os.getpid()}\)"):
        await SqliteStateStore.open(path)
    store.announce("http://localhost:3001")
    with pytest.raises(StateInUseError) as refused:
        await SqliteStateStore.open(path)
    await store.aclose()
    assert f"in use by the Noa server at http://localhost:3001 (process {os.getpid()})" in refused.value.message
    assert refused.value.details == {"path": str(path), "pid": os.getpid(), "url": "http://localhost:3001"}
    await (await SqliteStateStore.open(path)).aclose()


async def test_a_refused_manager_leaves_the_holder_its_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStateStore.open(path)
    for _ in range(2):
        with pytest.raises(StateInUseError):
            await SqliteStateStore.open(path)
    await store.write(pointed("a:1"))
    assert [alias.key for alias in (await store.read()).aliases] == ["a:1"]
    await store.aclose()


async def test_the_state_may_be_opened_again_after_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path, 3)
    store = await SqliteStateStore.open(path)
    assert [record.key for record in await store.alias_history("current")] == ["a:2", "a:1", "a:0"]
    await store.aclose()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.db", "state.db.lock"]


async def test_a_folder_that_cannot_be_written_is_refused_with_advice() -> None:
    with as_somebody_without_rights() as folder, pytest.raises(ConfigurationError) as refused:
        await SqliteStateStore.open(folder / "state.db")
    assert str(folder / "state.db") in refused.value.message
    assert "may not write there" in refused.value.message


async def test_a_path_that_leads_to_no_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "state.db", tmp_path / "folder"):
        with pytest.raises(ConfigurationError, match=r"leads to no file.*choose another path"):
            await SqliteStateStore.open(path)


async def test_a_full_disk_refuses_the_change_and_keeps_the_rest(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "state.db", STATE, noon)
    store = SqliteStateStore(database, noon)
    await store.write(pointed("a:1"))
    # SQLite's own way to run out of room.
    await database.read(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(StorageError, match="the disk is full") as refused:
        await store.write(*(pointed("a:2", reason="because " * 1000) for _ in range(50)))
    assert refused.value.status == 507
    assert [alias.key for alias in (await store.read()).aliases] == ["a:1"]
    await database.read(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
    await store.write(pointed("a:3"))
    assert [record.key for record in await store.alias_history("current")] == ["a:3", "a:1"]
    await store.aclose()


def overwrite_header(path: Path) -> None:
    path.write_bytes(b"this is not a database".ljust(8192, b"!"))


def overwrite_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:12_288] = bytes(8192)
    path.write_bytes(content)


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [overwrite_header, overwrite_middle, cut_in_half])
async def test_a_damaged_file_is_set_aside_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    damage(path)
    damaged = path.read_bytes()
    with caplog.at_level(logging.ERROR):
        store = await SqliteStateStore.open(path, clock=noon)
    assert store.set_aside == tmp_path / "state.db.corrupt-20261123T120000000000Z"
    assert store.set_aside.read_bytes() == damaged
    assert "was damaged" in caplog.text
    assert str(store.set_aside) in caplog.text
    assert (await store.read()).aliases == ()
    await store.write(pointed("a:1"))
    await store.aclose()


async def test_an_emptied_file_is_set_aside_with_its_log(tmp_path: Path) -> None:
    store = await SqliteStateStore.open(tmp_path / "live.db")
    await store.write(pointed("a:1"))
    log = (tmp_path / "live.db-wal").read_bytes()
    await store.aclose()
    path = tmp_path / "state.db"
    path.touch()
    path.with_name("state.db-wal").write_bytes(log)
    store = await SqliteStateStore.open(path)
    assert store.set_aside is not None
    assert store.set_aside.read_bytes() == b""
    assert store.set_aside.with_name(store.set_aside.name + "-wal").read_bytes() == log
    await store.aclose()


async def test_a_log_left_by_a_killed_process_is_read(tmp_path: Path) -> None:
    store = await SqliteStateStore.open(tmp_path / "live.db")
    await store.write(pointed("a:1"))
    for name in ("live.db", "live.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / name.replace("live", "state"))
    await store.aclose()
    store = await SqliteStateStore.open(tmp_path / "state.db")
    assert store.set_aside is None
    assert [alias.key for alias in (await store.read()).aliases] == ["a:1"]
    await store.aclose()


async def test_a_healthy_file_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    store = await SqliteStateStore.open(path)
    assert store.set_aside is None
    await store.aclose()


async def test_a_newer_noas_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="newer Noa \\(format 99"):
        await SqliteStateStore.open(path)
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    with pytest.raises(ConfigurationError, match="not one of Noa’s"):
        await SqliteStateStore.open(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]


async def test_the_history_is_not_taken_for_the_state(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    await (await SqliteUsageStore.open(path)).aclose()
    with pytest.raises(ConfigurationError, match="not one of Noa’s"):
        await SqliteStateStore.open(path)


@pytest.mark.parametrize("kind", [STATE, USAGE])
def test_migrations_are_numbered_from_one_without_gaps(kind: schema.Schema) -> None:
    numbers = [number for number, _ in migrations(kind)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_migration_that_fails_leaves_the_version_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    await filled(path, 1)
    known = len(migrations(STATE))
    broken = (*migrations(STATE), (known + 1, "CREATE TABLE half (done TEXT); SELECT nothing FROM nowhere;"))
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda _schema: broken)
        with pytest.raises(StorageError):
            await SqliteStateStore.open(path)
    store = await SqliteStateStore.open(path)
    assert [alias.key for alias in (await store.read()).aliases] == ["a:0"]
    await store.aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (known,)
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)


async def test_a_state_of_the_first_version_is_carried_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda kind: migrations(kind)[:1])
        await filled_as_of_version_one(path)
    store = await SqliteStateStore.open(path)
    state = await store.read()
    assert ([alias.key for alias in state.aliases], state.sizes) == (["a:1"], ())
    await store.aclose()


async def filled_as_of_version_one(path: Path) -> None:
    store = await SqliteStateStore.open(path)
    await store.write(AliasPointed(name="current", key="a:1", previous=None, reason="test"))
    await store.aclose()


async def test_a_cancelled_opening_lets_go_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    reached, go_on = threading.Event(), threading.Event()

    def slow_clock() -> datetime:
        reached.set()
        go_on.wait()
        return noon()

    path.write_bytes(b"damaged, so that the clock is asked while opening".ljust(4096))
    opening = asyncio.create_task(Database.open(path, STATE, slow_clock))
    await asyncio.to_thread(reached.wait)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go_on.set()
    await asyncio.to_thread(join_database_threads)
    await (await SqliteStateStore.open(path)).aclose()


async def test_an_opening_cancelled_as_it_succeeds_lets_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = ThreadPoolExecutor.submit

    def submit_and_wait(executor: ThreadPoolExecutor, work: Callable[..., object], *given: object) -> Future[object]:
        future = submit(executor, work, *given)
        wait([future])
        return future

    path = tmp_path / "state.db"
    with monkeypatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "submit", submit_and_wait)
        opening = asyncio.create_task(Database.open(path, STATE, noon))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    join_database_threads()
    await (await SqliteStateStore.open(path)).aclose()


def join_database_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("noa-state"):
            thread.join()


async def test_a_closed_store_says_that_it_is_closed(tmp_path: Path) -> None:
    store = await SqliteStateStore.open(tmp_path / "state.db")
    await store.aclose()
    await store.aclose()
    with pytest.raises(StorageError, match="already closed"):
        await store.write(pointed("a:1"))


def test_a_store_that_nobody_closed_does_not_hang_the_interpreter(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from noa.storage.sqlite import SqliteStateStore\n"
        "store = asyncio.run(SqliteStateStore.open(pathlib.Path(sys.argv[1])))\n"
        "print('open')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state.db")], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"open\n"
