"""``kill -9`` of the manager at any moment: what it acknowledged is so after a restart, and nothing of it lives on."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import pytest

from fleet import ONE, TWO, two_models
from machine import Machine, alive, read_listening, wait_until
from noa.storage.sqlite import SqliteStateStore

pytestmark = pytest.mark.engine

ACTIONS = ("load", "unload", "switch", "point", "drop")
ALIAS = "prod"
#: When the manager is killed: while it starts, some time into its work, or right after one of its answers.
MOMENTS = ("start", "work", "work", "answer", "answer")

#: How long the last of a killed manager's engines may be about to end, in seconds: one that was only just spawned has
#: its interpreter to start before it can see that its manager is gone.
GONE_S = 15


class Known(NamedTuple):
    """What is durable: the models to load again, the one in use, and what ``ALIAS`` means."""

    kept: frozenset[str] = frozenset()
    current: str | None = None
    alias: str | None = None

    def after(self, action: str, key: str, room: int) -> Known:
        """What an acknowledged change makes of it, where ``room`` models fit."""
        if action == "point":
            return self._replace(alias=key)
        if action == "drop":
            return self._replace(alias=None)
        if action == "unload":
            kept = self.kept - {key}
            return self._replace(kept=kept, current=self.current if self.current != key else next(iter(kept), None))
        kept = frozenset({key} if room == 1 else self.kept | {key})
        switched = action == "switch" or self.current is None
        return self._replace(kept=kept, current=key if switched else self.current)

    def can(self, action: str, key: str) -> bool:
        """Whether there is something to change."""
        return (action != "unload" or key in self.kept) and (action != "drop" or self.alias is not None)

    def until(self, wanted: Known) -> set[Known]:
        """What may be durable while a change is under way: a model goes, or comes, before another becomes current."""
        models = (self.kept, self.kept & wanted.kept, wanted.kept)
        names = ((self.current, wanted.current), (self.alias, wanted.alias))
        return set(itertools.starmap(Known, itertools.product(models, *names)))


class Life:
    """One manager from its start until it is killed, and a client that changes things.

    ``possible`` is what may be found afterwards: what was acknowledged last, or what becomes of it by the change that
    was under way. ``told`` is what was asked for, and what was answered.
    """

    def __init__(self, machine: Machine, known: Known, chance: random.Random, room: int) -> None:
        self.possible = {known}
        self.told: list[str] = []
        self._known = known
        self._chance = chance
        self._room = room
        self._process = machine.start("serve", "--port", "0", "--json")

    async def run(self) -> None:
        """Live until the end."""
        moment = self._chance.choice(MOMENTS)
        self.told.append(f"killed at: {moment}")
        try:
            if moment == "start":
                await asyncio.sleep(self._chance.uniform(0, 1))
            else:
                url = (await asyncio.to_thread(read_listening, self._process))["url"]
                async with aiohttp.ClientSession(url) as session:
                    await self._be_restored(session)
                    await self._be_killed_at(moment, session)
        finally:
            self._kill()

    async def _be_killed_at(self, moment: str, session: aiohttp.ClientSession) -> None:
        if moment == "answer":
            await self._work(session, self._chance.randint(1, 4))
            return
        working = asyncio.create_task(self._work(session, 1000))
        await asyncio.wait({working}, timeout=self._chance.uniform(0, 1.5))
        self._kill()
        with pytest.raises((aiohttp.ClientError, OSError)):
            await working

    def _kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    async def _be_restored(self, session: aiohttp.ClientSession) -> None:
        """What was kept is loaded again, and the same model is current."""
        async with asyncio.timeout(60):
            while await self._loaded(session) != self._known.kept:
                self._look_at_processes()
        async with session.get("/api/v1/status/health") as answer:
            assert (await answer.json())["currentModel"] == self._known.current

    async def _loaded(self, session: aiohttp.ClientSession) -> frozenset[str]:
        async with session.get("/api/v1/models/loaded") as answer:
            return frozenset(model["key"] for model in (await answer.json())["models"])

    async def _work(self, session: aiohttp.ClientSession, changes: int) -> None:
        for _ in range(changes):
            action, key = self._chance.choice(ACTIONS), self._chance.choice((ONE, TWO))
            if not self._known.can(action, key):
                continue
            self.told.append(f"{action} {key}")
            wanted = self._known.after(action, key, self._room)
            self.possible = self._known.until(wanted)
            async with request(session, action, key) as answer:
                assert answer.status == 200, await answer.text()
            self._known = wanted
            self.possible = {wanted}
            self.told.append("done")
            self._look_at_processes()

    def _look_at_processes(self) -> None:
        """No model has two, and no more run than there is room for."""
        try:
            engines = psutil.Process(self._process.pid).children()
            arguments = [engine.cmdline() for engine in engines if alive(engine)]
        except psutil.NoSuchProcess:
            return  # Whoever is killed has none to look at, and one that ends is none too many.
        models = Counter(words[words.index("--alias") + 1] for words in arguments if "--alias" in words)
        assert all(count == 1 for count in models.values()), models
        assert models.total() <= self._room, models


async def durable(home: Path) -> Known:
    """What the file says that the killed manager has left."""
    store = await SqliteStateStore.open(home / "state.db")
    saved = await store.read()
    await store.aclose()
    assert store.set_aside is None
    aliases = {record.name: record.key for record in saved.aliases}
    return Known(frozenset(model.key for model in saved.models), aliases.get("current"), aliases.get(ALIAS))


def request(
    session: aiohttp.ClientSession, action: str, key: str
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Ask for a change."""
    if action == "drop":
        return session.delete(f"/api/v1/aliases/{ALIAS}")
    if action == "point":
        return session.put(f"/api/v1/aliases/{ALIAS}", json={"key": key, "load": False})
    return session.post(f"/api/v1/models/{action}", json={"key": key})


def engines_with(sockets: Path) -> list[psutil.Process]:
    """Every process on this machine that listens, or is about to, in this folder: those of all lives."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(f"{sockets}/") for word in process.info["cmdline"] or ()) and alive(process)
    ]


@pytest.mark.parametrize("room", [10, 1], ids=["room for both", "room for one"])
@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=(pytest.mark.nightly, pytest.mark.timeout(900)))])
async def test_what_was_acknowledged_survives_and_no_process_does(
    tmp_path: Path, short_folder: Path, demo_model: Path, rounds: int, room: int
) -> None:
    machine = two_models(tmp_path, demo_model, TMPDIR=str(short_folder), MODEL_MANAGER_MAX_LOADED=str(room))
    known = Known()
    for number in range(rounds):
        life = Life(machine, known, random.Random(f"{room}/{number}"), room)
        await life.run()
        wait_until(lambda: not engines_with(short_folder), f"the end of every engine of life {number}", within_s=GONE_S)
        known = await durable(tmp_path / "home")
        assert known in life.possible, (number, known, life.possible, life.told)
