"""What a seed stands for: the models there are, how reliable the world is, and who wants what when."""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec

from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Room
from noa.models import LoadOptions


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    key: str
    owned: bool
    size_bytes: int
    concurrency: int | None
    threads: int = 1
    #: What more slots take, and what it takes beyond what is thought before it was measured.
    wide_bytes: int = 0
    surplus_bytes: int = 0

    def known(self, size_bytes: int) -> m.Known:
        return m.Known(
            key=self.key, owned=self.owned, size_bytes=size_bytes, concurrency=self.concurrency, threads=self.threads
        )

    def expected_bytes(self, options: LoadOptions) -> int:
        return self.size_bytes + (self.wide_bytes if options.slots else 0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Chances are per event; ``horizon_s`` is how long wishes go on. A ``crowd`` only asks, and waits long."""

    models: tuple[ModelPlan, ...]
    room: Room
    wishes: int
    horizon_s: float
    start_failure: float
    out_of_memory: float
    crash: float
    disk_failure: float
    clock_jump: float
    slowness_s: float
    crowd: bool


def draw(chance: random.Random) -> Plan:
    owned_count = chance.randint(1, 4)
    models = [
        ModelPlan(
            key=f"own:{index}",
            owned=True,
            size_bytes=chance.choice([1, 2, 3]),
            concurrency=chance.choice([None, 1, 1, 2]),
            threads=chance.choice([1, 1, 2, 3]),
            wide_bytes=chance.choice([0, 1, 2]),
            surplus_bytes=chance.choice([0, 0, 0, 1]),
        )
        for index in range(owned_count)
    ]
    models += [
        ModelPlan(key=f"far:{index}", owned=False, size_bytes=0, concurrency=None)
        for index in range(chance.choice([0, 0, 1, 2]))
    ]
    budget = chance.choice([None, None, 3, 5])
    crowd = chance.random() < 0.1
    return Plan(
        models=tuple(models),
        room=Room(max_models=chance.choice([1, 1, 2, 3]), budget_bytes=budget, cores=chance.choice([None, None, 2, 4])),
        wishes=60 if crowd else chance.randint(10, 45),
        horizon_s=20.0 if crowd else chance.choice([5.0, 30.0, 120.0]),
        start_failure=chance.choice([0.0, 0.0, 0.2, 0.6]),
        out_of_memory=chance.choice([0.0, 0.5, 1.0]),
        crash=chance.choice([0.0, 0.0, 0.2, 0.8]),
        disk_failure=chance.choice([0.0, 0.0, 0.0, 0.2, 0.7]),
        clock_jump=chance.choice([0.0, 0.0, 0.02]),
        slowness_s=3.0 if crowd else chance.choice([0.01, 1.0, 5.0]),
        crowd=crowd,
    )


class Wishes:
    """Draws one wish after the other, numbered."""

    def __init__(self, chance: random.Random, plan: Plan) -> None:
        self._chance = chance
        self._keys = [model.key for model in plan.models]
        self._crowd = plan.crowd
        self._number = 0

    def number(self) -> int:
        self._number += 1
        return self._number

    def draw(self, now: float) -> m.Input:
        if self._crowd:
            return m.Acquire(waiter=self.number(), name=self._chance.choice(self._keys), deadline=now + 100.0)
        kind = self._chance.choices(
            [self.acquire, self.hold, self.load, self.switch, self.unload, self.point, self.drop, self.gone],
            [10, 2, 3, 3, 3, 1, 1, 1],
        )[0]
        return kind(now)

    def _name(self) -> str:
        return self._chance.choice([*self._keys, *self._keys, "current", "current", "prod", "own:none"])

    def _deadline(self, now: float) -> float:
        return now + self._chance.choice([0.2, 3.0, 20.0, 100.0])

    def acquire(self, now: float) -> m.Acquire:
        priority = self._chance.choice([0, 0, 0, 1])
        return m.Acquire(waiter=self.number(), name=self._name(), deadline=self._deadline(now), priority=priority)

    def hold(self, now: float) -> m.Acquire:
        return msgspec.structs.replace(self.acquire(now), hold=True)

    def within(self, now: float, lease: int, key: str) -> m.Acquire:
        return msgspec.structs.replace(self.acquire(now), name=key, within=lease)

    def options(self) -> LoadOptions:
        return LoadOptions(
            ttl_s=self._chance.choice([None, None, 0.0, 2.0, 15.0]),
            pin=self._chance.random() < 0.1,
            slots=self._chance.choice([None, None, None, 3]),
            threads=self._chance.choice([None, None, None, 2]),
        )

    def load(self, now: float) -> m.Load:
        key = self._chance.choice(self._keys)
        return m.Load(waiter=self.number(), key=key, options=self.options(), deadline=self._deadline(now))

    def switch(self, now: float) -> m.Switch:
        return m.Switch(
            waiter=self.number(),
            alias=self._chance.choice(["current", "current", "prod"]),
            key=self._chance.choice(self._keys),
            reason="wished",
            deadline=self._deadline(now),
            options=self._chance.choice([LoadOptions(), self.options()]),
            expected=self._expected(),
        )

    def _expected(self) -> str | msgspec.UnsetType | None:
        return self._chance.choice([msgspec.UNSET, msgspec.UNSET, None, self._chance.choice(self._keys)])

    def point(self, _now: float) -> m.PointAlias:
        key = self._chance.choice([*self._keys, "own:none"])
        return m.PointAlias(waiter=self.number(), alias="prod", key=key, reason="wished", expected=self._expected())

    def drop(self, _now: float) -> m.DropAlias:
        return m.DropAlias(waiter=self.number(), alias="prod", reason="wished")

    def unload(self, now: float) -> m.Unload:
        force = self._chance.random() < 0.2
        key = self._chance.choice(self._keys)
        return m.Unload(waiter=self.number(), key=key, deadline=self._deadline(now), force=force)

    def gone(self, _now: float) -> m.Gone:
        return m.Gone(key=self._chance.choice(self._keys))
