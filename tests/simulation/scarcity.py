"""What must hold where there is not enough for everybody: of memory, of places, of processors."""

from __future__ import annotations

from noa.lifecycle import messages as m
from noa.lifecycle.fleet import MIN_RESIDENCY_S
from noa.lifecycle.slots import RESIDENT
from noa.lifecycle.turns import PATIENCE_S, PINNED_PATIENCE_S
from noa.models import LoadOptions, ModelStatus
from simulation.world import Asked, BrokenPromiseError, World


class Scarcity:
    """Watches how a world's scheduler shares out what there is."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loaded: set[str] = set()
        self._failed: set[str] = set()
        self._pending: list[Asked] = []
        self._shut_out_since: dict[int, float] = {}

    def check(self, message: m.Input, effects: list[m.Effect]) -> None:
        """After a step."""
        self._pending = [asked for asked in self._world.asked.values() if asked.pending]
        if isinstance(message, m.StartFailed | m.Crashed):
            self._failed.add(message.key)
        for effect in effects:
            if isinstance(effect, m.Start):
                self._there_is_room(effect)
            elif isinstance(effect, m.Stop):
                self._had_its_time(effect)
            elif isinstance(effect, m.Admit):
                self._passes_nobody(effect)
            elif isinstance(effect, m.Refuse):
                self._blames_pins_rightly(effect)
        self._nobody_waits_for_pins()
        self._processors_suffice()
        self._nobody_waits_for_room_that_is_there()
        if isinstance(message, m.Load):
            self._as_foretold(message, effects)
        views = self._world.scheduler.residents()
        self._loaded = {view.key for view in views if view.status is ModelStatus.LOADED}

    def excuses(self, asked: Asked, key: str) -> bool:
        """Whether there is a reason for it to wait although its model is loaded and has a free place."""
        return self._lacks_processors(asked, key) or self._lets_another_have_the_place(asked, key)

    # Memory and places.

    def _there_is_room(self, start: m.Start) -> None:
        world, room = self._world, self._world.plan.room
        if not world.specs[start.key].owned:
            return
        # Remote models that were started after it in the same step are not its concern.
        live = [process for process in world.live.values() if process.generation <= start.generation]
        if len(live) > room.max_models:
            raise BrokenPromiseError(f"{start} makes {len(live)} live where {room.max_models} may be")
        used = sum(process.size_bytes for process in live)
        if room.budget_bytes is not None and used > room.budget_bytes:
            raise BrokenPromiseError(f"{start} takes {used} bytes where {room.budget_bytes} may be")

    def _nobody_waits_for_room_that_is_there(self) -> None:
        world, room = self._world, self._world.plan.room
        if world.writes or self._somebody_switches():
            return  # What ended while it was written still has its place; a switch may be about to take another's.
        views = world.scheduler.residents()
        # One that ran out of memory keeps its place until its second start.
        retrying = [view for view in views if view.status is ModelStatus.LOADING and view.key not in world.live]
        used = sum(process.size_bytes for process in world.live.values()) + sum(view.size_bytes for view in retrying)
        count = len(world.live) + len(retrying)
        for asked in self._pending:
            key = self._lacking(asked)
            if key is None or key in self._failed:
                continue
            assert isinstance(asked.wish, m.Acquire | m.Load)
            view = world.scheduler.view(key)
            assert view is not None
            options = asked.wish.options if isinstance(asked.wish, m.Load) else view.options
            size = world.size_of(key, options)
            if room.budget_bytes is not None and size > room.budget_bytes:
                raise BrokenPromiseError(f"{asked.wish} waits for {size} bytes where {room.budget_bytes} may be")
            fits = room.budget_bytes is None or used + size <= room.budget_bytes
            if fits and count < room.max_models:
                raise BrokenPromiseError(f"{asked.wish} waits for room, although only {list(world.live)} live")

    def _somebody_switches(self) -> bool:
        return any(isinstance(asked.wish, m.Switch) for asked in self._pending)

    def _lacking(self, asked: Asked) -> str | None:
        """The owned model that it waits for and that has no place yet."""
        if not isinstance(asked.wish, m.Acquire | m.Load):
            return None
        for key, spec in self._world.specs.items():
            view = self._world.scheduler.view(key)
            if spec.owned and self._world.wants(asked, key) and view is not None and view.status not in RESIDENT:
                return key
        return None

    def _had_its_time(self, stop: m.Stop) -> None:
        world = self._world
        process = world.live[stop.key]
        if stop.reason not in {"evicted", "switched away"} or world.now >= process.loaded_at + MIN_RESIDENCY_S:
            return
        for number in process.owed:
            asked = world.asked[number]
            if asked.pending and world.wants(asked, stop.key):
                raise BrokenPromiseError(f"{stop}, but it was loaded for {asked.wish}, who still waits")

    def _as_foretold(self, load: m.Load, effects: list[m.Effect]) -> None:
        plan, others = self._world.foretold, self._world.scheduler.waiting > 1
        starts = {effect.key for effect in effects if isinstance(effect, m.Start)}
        if plan is None or others or starts - {load.key}:
            return
        at_once = plan.fits and not (plan.evicts or plan.waits_for)
        status = self._world.scheduler.view(load.key)
        if load.key in starts and not at_once and self._world.specs[load.key].owned:
            raise BrokenPromiseError(f"{load} started it at once, but the plan was {plan}")
        if load.key not in starts and at_once and status is not None and status.status not in RESIDENT:
            raise BrokenPromiseError(f"{load} did not start it, but the plan was {plan}")
        stops = {effect.key for effect in effects if isinstance(effect, m.Stop) and effect.reason == "evicted"}
        if plan.fits and not plan.waits_for and not set(plan.evicts) <= stops:
            raise BrokenPromiseError(f"{load} stopped {stops}, but the plan was {plan}")

    # Pins.

    def _blames_pins_rightly(self, refusal: m.Refuse) -> None:
        asked, now = self._world.asked[refusal.waiter], self._world.now
        if "pinned" not in refusal.error.details or asked.deadline <= now:
            return
        since = self._shut_out_since.get(refusal.waiter)
        if since is None or since + PINNED_PATIENCE_S > now:
            raise BrokenPromiseError(f"{refusal}, but pins alone were in its way only since {since}")

    def _nobody_waits_for_pins(self) -> None:
        """Whoever only a person could help is told so; nothing else ends the patience of those who wait."""
        now, before = self._world.now, self._shut_out_since
        self._shut_out_since = {
            each.wish.waiter: before.get(each.wish.waiter, now) for each in self._pending if self._is_shut_out(each)
        }
        for number, since in self._shut_out_since.items():
            asked = self._world.asked[number]
            cools = any(self._world.wants(asked, key) for key in self._failed)
            if since + PINNED_PATIENCE_S < now and not cools:
                raise BrokenPromiseError(f"{asked.wish} waits for pinned models since {since}")

    def _is_shut_out(self, asked: Asked) -> bool:
        world, room, wish = self._world, self._world.plan.room, asked.wish
        key = wish.key if isinstance(wish, m.Switch) else self._lacking(asked)
        view = world.scheduler.view(key) if key is not None else None
        if view is None or not view.owned or view.status in RESIDENT:
            return False
        options = wish.options if isinstance(wish, m.Load | m.Switch) else view.options
        if isinstance(wish, m.Switch) and options == LoadOptions():
            options = view.options
        pinned = [
            each for each in world.scheduler.residents() if each.options.pin and each.status is not ModelStatus.DRAINING
        ]
        used = sum(each.size_bytes for each in pinned)
        too_large = room.budget_bytes is not None and used + world.size_of(view.key, options) > room.budget_bytes
        return bool(pinned) and (len(pinned) >= room.max_models or too_large)

    # Processors and turns.

    def _busy(self) -> set[str]:
        world = self._world
        serving = [
            admit
            for number, admit in world.using.items()
            if isinstance(wish := world.asked[number].wish, m.Acquire) and not wish.hold and admit.key in world.live
        ]
        return {
            admit.key
            for admit in serving
            if world.specs[admit.key].owned and world.live[admit.key].generation == admit.generation
        }

    def _suffice(self, keys: set[str]) -> bool:
        cores = self._world.plan.room.cores
        threads = [self._world.threads_of(key) for key in keys]
        return cores is None or len(keys) < 2 or max(threads) == 1 or sum(threads) <= cores

    def _processors_suffice(self) -> None:
        if not self._suffice(self._busy()):
            raise BrokenPromiseError(f"{self._busy()} are busy together, but their threads have no processors")

    def _passes_nobody(self, admit: m.Admit) -> None:
        world = self._world
        served = world.asked[admit.waiter]
        wish = served.wish
        assert isinstance(wish, m.Acquire)
        if not world.specs[admit.key].owned or wish.within is not None:
            return
        for other in self._pending:
            if not _before(other, served):
                continue
            if self._waits_for_processors(other) and not wish.hold:
                raise BrokenPromiseError(f"{admit} goes before {other.wish}, who waits for processors")
            if self._waits_for_the_only_place(other, admit):
                raise BrokenPromiseError(f"{admit} goes before {other.wish}, who waits for the place")

    def _waits_for_processors(self, asked: Asked) -> bool:
        wish = asked.wish
        if not isinstance(wish, m.Acquire) or wish.hold or wish.within is not None:
            return False
        for key in self._loaded:
            if self._world.wants(asked, key) and self._is_free(key):
                return not self._suffice(self._busy() | {key}) and not self._lets_another_have_the_place(asked, key)
        return False

    def _is_free(self, key: str, *, within: int | None = None) -> bool:
        """Whether it is loaded (for whoever has a lease: draining at least) and has a place for one more request."""
        view, limit = self._world.scheduler.view(key), self._world.specs[key].concurrency
        serves = {ModelStatus.LOADED} if within is None else {ModelStatus.LOADED, ModelStatus.DRAINING}
        if view is None or view.status not in serves or not self._world.specs[key].owned:
            return False
        return limit is None or view.in_flight < (view.options.slots or limit)

    def _lacks_processors(self, asked: Asked, key: str) -> bool:
        wish = asked.wish
        if not isinstance(wish, m.Acquire) or wish.hold or not self._world.specs[key].owned:
            return False
        company = {key} | self._busy()
        for other in self._pending:
            if _before(other, asked) and isinstance(other.wish, m.Acquire) and not other.wish.hold:
                wanted = {each for each in self._world.live if self._world.wants(other, each)}
                company |= {each for each in wanted if self._is_free(each, within=other.wish.within)}
        return not self._suffice(company)

    def _waits_for_the_only_place(self, asked: Asked, admit: m.Admit) -> bool:
        """Whether it waited long enough for the place of the one model that lives, and nothing else is in its way."""
        world = self._world
        view, process = world.scheduler.view(admit.key), world.live[admit.key]
        key = self._lacking(asked)
        if key is None or key in self._failed or len(world.live) != 1 or self._fit_together(asked, key, admit.key):
            return False
        if view is None or view.status is not ModelStatus.LOADED or view.options.pin or view.leases or world.writes:
            return False
        if admit.key not in self._loaded or any(world.asked[number].pending for number in process.owed):
            return False
        if admit.waiter in process.owed or self._somebody_switches():
            return False
        return world.now - asked.since >= PATIENCE_S

    def _fit_together(self, asked: Asked, key: str, other: str) -> bool:
        room, view = self._world.plan.room, self._world.scheduler.view(key)
        assert view is not None
        options = asked.wish.options if isinstance(asked.wish, m.Load) else view.options
        both = self._world.size_of(key, options) + self._world.live[other].size_bytes
        return room.max_models > 1 and (room.budget_bytes is None or both <= room.budget_bytes)

    def _lets_another_have_the_place(self, asked: Asked, key: str) -> bool:
        world = self._world
        return world.specs[key].owned and any(
            _before(other, asked)
            and world.now - other.since >= PATIENCE_S
            and isinstance(other.wish, m.Acquire | m.Load | m.Switch)
            and not world.wants(other, key)
            for other in self._pending
        )


def _before(one: Asked, other: Asked) -> bool:
    return _rank(one) < _rank(other)


def _rank(asked: Asked) -> tuple[int, int]:
    wish = asked.wish
    if isinstance(wish, m.Acquire):
        return (-wish.priority, asked.order)
    return (-wish.options.priority if isinstance(wish, m.Load | m.Switch) else 0, asked.order)
