"""What must hold after every step, and when everything has come to rest."""

from __future__ import annotations

from typing import TypeGuard

import msgspec

from noa.errors import ModelUnavailableError
from noa.lifecycle import messages as m
from noa.models import ModelStatus
from noa.state import AliasPointed
from simulation.scarcity import Scarcity
from simulation.world import AliasChange, Asked, BrokenPromiseError, Phase, World

#: Why a model may be stopped that is pinned.
BY_HAND = {"unloaded", "unloaded elsewhere", "it could not be recorded", "switched away"}


def _is_loaded(effect: m.Effect) -> TypeGuard[m.Publish]:
    return isinstance(effect, m.Publish) and effect.type == "model-loaded"


class Promises:
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._aliases = dict(world.scheduler.aliases)
        self._tokens: dict[int, m.Persist] = {}
        self._loaded: set[str] = set()
        self._resumed: set[str] = set()
        self._draining: set[str] = set()
        self._scarcity = Scarcity(world)
        world.watch = self.check

    def check(self, message: m.Input, effects: list[m.Effect]) -> None:
        """After a step."""
        self._resumed = {str(each.data["key"]) for each in effects if _is_loaded(each)}
        ended = [each.waiter for each in effects if isinstance(each, m.Refuse)]
        if isinstance(message, m.Release):
            ended.append(message.waiter)
        if any(isinstance(self._world.asked[number].wish, m.Switch | m.Unload) for number in ended):
            self._resumed |= self._draining  # Whoever drained for its sake may be back.
        for effect in effects:
            if isinstance(effect, m.Persist):
                self._tokens[effect.token] = effect
            elif isinstance(effect, m.Stop):
                self._may_stop(effect)
            elif isinstance(effect, m.Admit):
                self._may_serve(effect)
            elif isinstance(effect, m.Refuse):
                self._says_when(effect)
            elif isinstance(effect, m.Done):
                self._compared(effect)
        self._scarcity.check(message, effects)
        self._aliases_follow_the_disk(message)
        self._lease_passes(effects)
        self._nobody_is_overdue()
        self._nobody_waits_for_nothing()
        self._timer_is_early_enough()
        self._stopped_admit_none()
        self._others_stand_by()
        if not self._world.writes:
            self._memory_is_disk()
        residents = self._world.scheduler.residents()
        self._loaded = {view.key for view in residents if view.status is ModelStatus.LOADED}
        self._draining = {view.key for view in residents if view.status is ModelStatus.DRAINING}

    def _others_stand_by(self) -> None:
        """Lists by status look no further than at those that were begun."""
        scheduler = self._world.scheduler
        for key in self._world.specs.keys() - scheduler.begun:
            view = scheduler.view(key)
            if view is not None and view.status is not ModelStatus.AVAILABLE:
                raise BrokenPromiseError(f"{key} is {view.status}, but was never begun")

    # Of effects.

    def _may_stop(self, stop: m.Stop) -> None:
        world = self._world
        users = [
            admit for admit in world.using.values() if (admit.key, admit.generation) == (stop.key, stop.generation)
        ]
        if users:
            raise BrokenPromiseError(f"{stop} although {users} use it")
        view = world.scheduler.view(stop.key)
        if view is not None and view.options.pin and stop.reason not in BY_HAND:
            raise BrokenPromiseError(f"{stop} although it is pinned")
        process = world.live[stop.key]
        idle_s = world.now - process.last_used
        if stop.reason == "ttl" and view is not None and idle_s < (view.options.ttl_s or 0.0) - 1e-9:
            raise BrokenPromiseError(f"{stop} {idle_s} s after its last use")

    def _may_serve(self, admit: m.Admit) -> None:
        world = self._world
        wish = world.asked[admit.waiter].wish
        assert isinstance(wish, m.Acquire)
        process = world.live.get(admit.key)
        if process is None or process.generation != admit.generation or process.phase is not Phase.RUNNING:
            raise BrokenPromiseError(f"{admit} to what does not run")
        view = world.scheduler.view(admit.key)
        assert view is not None
        leased = wish.within in world.using and view.status is ModelStatus.DRAINING
        # It may have begun to drain within this step, once its turn was over.
        was_loaded = admit.key in self._loaded | self._resumed
        if view.status is not ModelStatus.LOADED and not leased and not was_loaded:
            raise BrokenPromiseError(f"{admit} to what is {view.status}")
        if self._meaning(wish.name) != admit.key:
            raise BrokenPromiseError(f"{admit}, but {wish.name} means {self._meaning(wish.name)}")
        limit = self._limit(admit.key)
        if limit is not None and len(self._serving(admit.key)) > limit:
            raise BrokenPromiseError(f"{admit} makes more than {limit} at once")
        self._in_turn(world.asked[admit.waiter], admit.key)

    def _in_turn(self, served: Asked, key: str) -> None:
        wish = served.wish
        assert isinstance(wish, m.Acquire)
        if wish.hold or wish.within is not None or self._limit(key) is None:
            return
        for other in self._world.asked.values():
            asked = other.wish
            if not isinstance(asked, m.Acquire) or not other.pending or asked.hold or asked.within is not None:
                continue
            if self._meaning(asked.name) == key and (-asked.priority, other.order) < (-wish.priority, served.order):
                raise BrokenPromiseError(f"{wish} was served before {asked}")

    def _says_when(self, refusal: m.Refuse) -> None:
        error = refusal.error
        if isinstance(error, ModelUnavailableError) and not (error.retry_after_s and error.retry_after_s > 0):
            raise BrokenPromiseError(f"{refusal} does not say when to try again")

    def _compared(self, done: m.Done) -> None:
        wish = self._world.asked[done.waiter].wish
        expected = wish.expected if isinstance(wish, m.Switch | m.PointAlias) else msgspec.UNSET
        if expected is not msgspec.UNSET and expected != done.previous:
            raise BrokenPromiseError(f"{wish} replaced {done.previous}")

    # Of states.

    def _aliases_follow_the_disk(self, message: m.Input) -> None:
        now = dict(self._world.scheduler.aliases)
        written: dict[str, str | None] = {}
        if isinstance(message, m.Persisted):
            changes = self._tokens[message.token].changes
            written = {change.name: change.key for change in changes if isinstance(change, AliasPointed)}
        for name in now.keys() | self._aliases.keys():
            if now.get(name) != self._aliases.get(name) and written.get(name, self) != now.get(name):
                raise BrokenPromiseError(f"{name} means {now.get(name)} now, which was not written before")
        self._aliases = now

    def _lease_passes(self, effects: list[m.Effect]) -> None:
        loaded = [str(each.data["key"]) for each in effects if _is_loaded(each)]
        admitted = {each.key for each in effects if isinstance(each, m.Admit)}
        for key in loaded:
            waiting = [asked for asked in self._world.asked.values() if asked.pending and self._wants(asked, key)]
            if any(not self._scarcity.excuses(asked, key) for asked in waiting) and key not in admitted:
                raise BrokenPromiseError(f"{key} was loaded for {waiting}, who did not get it")

    def _nobody_is_overdue(self) -> None:
        for asked in self._world.asked.values():
            if asked.pending and asked.deadline <= self._world.now and not self._is_under_way(asked):
                raise BrokenPromiseError(f"{asked.wish} is overdue")

    def _is_under_way(self, asked: Asked) -> bool:
        """Whether it was granted already, and is being written or carried out."""
        wish, world = asked.wish, self._world
        if isinstance(wish, m.Acquire):
            return False
        if isinstance(wish, AliasChange):
            return bool(world.writes)
        process = world.live.get(wish.key)
        stopping = isinstance(wish, m.Unload) and process is not None and process.phase is Phase.STOPPING
        return bool(stopping or world.writes)

    def _nobody_waits_for_nothing(self) -> None:
        for asked in self._world.asked.values():
            wish = asked.wish
            if not (asked.pending and isinstance(wish, m.Acquire)):
                continue
            key = self._meaning(wish.name)
            view = self._world.scheduler.view(key) if key is not None else None
            if view is None or view.status is not ModelStatus.LOADED:
                continue
            limit = self._limit(view.key)
            free = wish.hold or limit is None or len(self._serving(view.key)) < limit
            if free and not self._scarcity.excuses(asked, view.key):
                raise BrokenPromiseError(f"{wish} waits, although {key} is loaded and free")

    def _timer_is_early_enough(self) -> None:
        world = self._world
        timer = world.timer if world.timer is not None else float("inf")
        for asked in world.asked.values():
            if asked.pending and not self._is_under_way(asked) and timer > asked.deadline:
                raise BrokenPromiseError(f"the timer at {timer} comes too late for {asked.wish}")
        used = {admit.key for admit in world.using.values()}
        used |= {
            key for key in world.live for asked in world.asked.values() if asked.pending and self._wants(asked, key)
        }
        for process in world.live.values():
            view = world.scheduler.view(process.key)
            if view is None or view.status is not ModelStatus.LOADED or process.key in used or world.writes:
                continue
            if view.options.ttl_s is not None and not view.options.pin:
                expires_at = process.last_used + view.options.ttl_s
                if expires_at <= world.now:
                    raise BrokenPromiseError(f"{process.key} outlives its time of {view.options.ttl_s} s")
                if timer > expires_at + 1e-9:
                    raise BrokenPromiseError(
                        f"the timer at {timer} comes too late for the end of {process.key} at {expires_at}"
                    )

    def _stopped_admit_none(self) -> None:
        for view in self._world.scheduler.residents():
            if view.status is ModelStatus.LOADED:
                process = self._world.live.get(view.key)
                if process is None or process.phase is not Phase.RUNNING:
                    raise BrokenPromiseError(f"{view.key} is called loaded, but does not run")

    def _memory_is_disk(self) -> None:
        world = self._world
        if dict(world.scheduler.aliases) != world.disk.aliases:
            raise BrokenPromiseError(f"aliases are {world.scheduler.aliases}, but {world.disk.aliases} is written")
        if dict(world.scheduler.kept) != world.disk.kept:
            raise BrokenPromiseError(f"{world.scheduler.kept} is to be kept, but {world.disk.kept} is written")

    # At rest.

    def at_rest(self) -> None:
        """When nothing can happen any more."""
        world = self._world
        for asked in world.asked.values():
            if asked.pending:
                raise BrokenPromiseError(f"{asked.wish} was never answered")
        if world.scheduler.waiting:
            raise BrokenPromiseError(f"{world.scheduler.waiting} still wait")
        views = {view.key: view for view in world.scheduler.residents()}
        for view in views.values():
            if view.status is not ModelStatus.LOADED or view.in_flight or view.leases:
                raise BrokenPromiseError(f"{view} is not at rest")
        self._memory_is_disk()
        self._kept_is_loaded()
        extra = len(views) - world.plan.room.max_models
        if extra > 0 and any(not view.options.pin for view in views.values()):
            raise BrokenPromiseError(f"{extra} models too many stay loaded")

    def _kept_is_loaded(self) -> None:
        world = self._world
        if world.disk.failures:
            return
        for key in world.specs:
            view = world.scheduler.view(key)
            if view is None:
                continue
            if view.status is ModelStatus.LOADED and world.disk.kept.get(key) != view.options:
                raise BrokenPromiseError(
                    f"{key} is loaded with {view.options}, but {world.disk.kept.get(key)} is written"
                )
            # One that was offered no longer and then again is new; it is loaded on demand, or at the next start.
            at_rest = {ModelStatus.LOADED, ModelStatus.FAILED, ModelStatus.AVAILABLE}
            if key in world.disk.kept and view.status not in at_rest and self._pinned_leave_room(key):
                raise BrokenPromiseError(f"{key} is to be kept, but it is {view.status}")

    def _pinned_leave_room(self, key: str) -> bool:
        world = self._world
        pinned = [view for view in world.scheduler.residents() if view.options.pin]
        budget = world.plan.room.budget_bytes
        size = sum(view.size_bytes for view in pinned) + world.size_of(key, world.disk.kept[key])
        return len(pinned) < world.plan.room.max_models and (budget is None or size <= budget)

    # Words.

    def _meaning(self, name: str) -> str | None:
        aliases = self._world.scheduler.aliases
        return aliases.get(name) if name == "current" else aliases.get(name, name)

    def _wants(self, asked: Asked, key: str) -> bool:
        return isinstance(asked.wish, m.Acquire) and self._meaning(asked.wish.name) == key

    def _limit(self, key: str) -> int | None:
        limit = self._world.specs[key].concurrency
        return limit if limit is None else (self._world.live[key].start.options.slots or limit)

    def _serving(self, key: str) -> list[m.Admit]:
        def serves(number: int) -> bool:
            wish = self._world.asked[number].wish
            return isinstance(wish, m.Acquire) and not wish.hold

        generation = self._world.live[key].generation
        return [
            admit
            for number, admit in self._world.using.items()
            if serves(number) and (admit.key, admit.generation) == (key, generation)
        ]
