"""The world around a scheduler: processes, a disk, callers and a clock, all drawn from one seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from noa.errors import AIProviderError, ModelLoadError, StorageError
from noa.lifecycle import messages as m
from noa.lifecycle.scheduler import Scheduler
from noa.models import LoadOptions, LoadPlan
from noa.state import AliasPointed, ModelDropped, ModelKept
from simulation import plan as plans

#: What waits for nothing but the disk.
AliasChange = m.PointAlias | m.DropAlias
Wish = m.Acquire | m.Load | m.Switch | m.Unload | AliasChange


class BrokenPromiseError(AssertionError):
    """The scheduler broke a promise."""


class Phase(Enum):
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()


@dataclass
class Incarnation:
    """A process, or a remote model in use."""

    start: m.Start
    size_bytes: int
    phase: Phase = Phase.STARTING
    last_used: float = 0.0
    loaded_at: float = 0.0
    #: Who waited for it when it was loaded.
    owed: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        return self.start.key

    @property
    def generation(self) -> int:
        return self.start.generation


@dataclass
class Asked:
    """A wish, and what came of it."""

    wish: Wish
    order: int
    since: float
    answer: m.Effect | None = None
    left: bool = False

    @property
    def pending(self) -> bool:
        return self.answer is None and not self.left

    @property
    def deadline(self) -> float:
        """When it must be answered at the latest; at once, but for the disk, if it may not wait."""
        return 0.0 if isinstance(self.wish, AliasChange) else self.wish.deadline


@dataclass
class Disk:
    aliases: dict[str, str] = field(default_factory=dict)
    kept: dict[str, LoadOptions] = field(default_factory=dict)
    failures: int = 0

    def apply(self, persist: m.Persist) -> None:
        for change in persist.changes:
            match change:
                case AliasPointed():
                    if self.aliases.get(change.name) != change.previous:
                        raise BrokenPromiseError(f"{change} was decided on what is not written")
                    if change.key is None:
                        self.aliases.pop(change.name, None)
                    else:
                        self.aliases[change.name] = change.key
                case ModelKept():
                    self.kept[change.key] = change.options
                case ModelDropped():
                    self.kept.pop(change.key, None)
                case _:
                    raise BrokenPromiseError(f"the scheduler wrote {change}")


class World:
    """Runs one schedule. ``watch`` is called after every step with the input and its effects."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.chance = random.Random(seed)
        self.plan = plans.draw(self.chance)
        self.specs = {model.key: model for model in self.plan.models}
        self.wishes = plans.Wishes(self.chance, self.plan)
        self.scheduler = Scheduler(self.plan.room)
        self.now = 0.0
        self.asked: dict[int, Asked] = {}
        self.using: dict[int, m.Admit] = {}
        self.live: dict[str, Incarnation] = {}
        self.disk = Disk()
        self.sizes: dict[tuple[str, bool], int] = {}
        self.foretold: LoadPlan | None = None
        self.writes: deque[m.Persist] = deque()
        self.timer: float | None = None
        self.watch: Callable[[m.Input, list[m.Effect]], None] = lambda _message, _effects: None
        self._trace = trace
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._past: list[m.Input] = []
        self._message: m.Input = m.Tick()
        self._written_at = 0.0

    # The clock.

    def run(self) -> None:
        """Play the whole schedule, until nothing is left that could happen."""
        for model in self.plan.models:
            self._tell_of(model)
        for _ in range(self.plan.wishes):
            self._at(self.chance.uniform(0, self.plan.horizon_s), self._wish)
        while self._queue or self.timer is not None:
            at = self._queue[0][0] if self._queue else float("inf")
            if self.timer is not None and self.timer <= at:
                self._pass(self.timer)
                self.timer = None
                self.step(m.Tick())
            else:
                _, _, act = heapq.heappop(self._queue)
                self._pass(at)
                act()

    def size_of(self, key: str, options: LoadOptions) -> int:
        """What is thought that a model takes: what was measured of that shape, else what was expected."""
        return self.sizes.get((key, bool(options.slots)), self.specs[key].expected_bytes(options))

    def _tell_of(self, model: plans.ModelPlan) -> None:
        self.step(model.known(self.size_of(model.key, LoadOptions())))
        wide = LoadOptions(slots=3)
        self.step(m.Sized(key=model.key, options=wide, size_bytes=self.size_of(model.key, wide)))

    def threads_of(self, key: str) -> int:
        """What it computes with; nothing here if it is elsewhere."""
        spec = self.specs[key]
        return (self.live[key].start.options.threads or spec.threads) if spec.owned else 0

    def _pass(self, at: float) -> None:
        self.now = max(self.now, at)
        if self.chance.random() < self.plan.clock_jump:
            self.now += self.chance.choice([1.0, 50.0, 400.0])

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (at, next(self._order), act))

    def _soon(self, act: Callable[[], None], slowness_s: float | None = None) -> None:
        scale = self.plan.slowness_s if slowness_s is None else slowness_s
        self._at(self.now + self.chance.choice([0.0, self.chance.random()]) * scale, act)

    # What happens.

    def step(self, message: m.Input) -> None:
        if self._trace:
            print(f"{self.now:9.3f} > {message}")
        self._message = message
        effects = self.scheduler.step(self.now, message)
        for effect in effects:
            if self._trace:
                print(f"          < {effect}")
            self._perform(effect)
        self.watch(message, effects)

    def _wish(self) -> None:
        message = self.wishes.draw(self.now)
        if isinstance(message, m.Gone):
            self._soon(lambda: self._tell_of(self.specs[message.key]))
            self.step(message)
        elif isinstance(message, Wish):
            self.ask(message)
        if self._past and self.chance.random() < 0.2:
            self._repeat(self.chance.choice(self._past))

    def ask(self, wish: Wish) -> None:
        self.asked[wish.waiter] = Asked(wish, next(self._order), self.now)
        if self.chance.random() < 0.15:
            self._soon(lambda: self.leave(wish.waiter))
        self.foretold = self._foretell(wish) if isinstance(wish, m.Load) else None
        self.step(wish)

    def _foretell(self, load: m.Load) -> LoadPlan | None:
        before = self.scheduler.residents()
        try:
            return self.scheduler.plan(load.key, load.options, self.size_of(load.key, load.options))
        except AIProviderError:
            return None
        finally:
            if self.scheduler.residents() != before:
                raise BrokenPromiseError(f"a plan of {load} has changed something")

    def leave(self, number: int) -> None:
        """The caller is through, or goes away before it was answered."""
        asked = self.asked[number]
        if asked.left:
            return
        asked.left = True
        if admit := self.using.pop(number, None):
            self._touch(admit.key, admit.generation)
        self.step(m.Release(waiter=number))

    def _touch(self, key: str, generation: int) -> None:
        process = self.live.get(key)
        if process is not None and process.generation == generation:
            process.last_used = self.now

    def _repeat(self, message: m.Input) -> None:
        """Tell it once more what became of an incarnation that is gone."""
        if isinstance(message, m.Started | m.StartFailed | m.Stopped | m.Crashed):
            process = self.live.get(message.key)
            if process is None or process.generation != message.generation:
                self.step(message)

    def _report(self, message: m.Input) -> None:
        self._past.append(message)
        self.step(message)

    # Effects.

    def _perform(self, effect: m.Effect) -> None:
        match effect:
            case m.Start():
                self._start(effect)
            case m.Stop():
                self._stop(effect)
            case m.Persist():
                self.writes.append(effect)
                self._written_at = max(self._written_at, self.now) + self.chance.choice([0.0, 0.01, 0.5])
                self._at(self._written_at, self._write)
            case m.SetTimer():
                self.timer = effect.at
            case m.Admit():
                self._admitted(effect)
            case m.Done() | m.Refuse():
                self._answered(effect)
            case m.Cut():
                self._cut(effect)
            case m.Publish():
                if effect.type == "model-loaded":
                    self._loaded(self.live[str(effect.data["key"])])

    def _loaded(self, process: Incarnation) -> None:
        process.last_used = process.loaded_at = self.now
        process.owed = tuple(
            number for number, asked in self.asked.items() if asked.pending and self.wants(asked, process.key)
        )

    def wants(self, asked: Asked, key: str) -> bool:
        """Whether this is the model that it waits for."""
        wish = asked.wish
        if isinstance(wish, m.Acquire):
            aliases = self.scheduler.aliases
            return (aliases.get(wish.name) if wish.name == "current" else aliases.get(wish.name, wish.name)) == key
        return isinstance(wish, m.Load | m.Switch) and wish.key == key

    def _start(self, effect: m.Start) -> None:
        if effect.key in self.live:
            raise BrokenPromiseError(f"{effect.key} was started while it lives")
        process = Incarnation(effect, self.size_of(effect.key, effect.options))
        self.live[effect.key] = process
        self._soon(lambda: self._started(process))

    def _started(self, process: Incarnation) -> None:
        stale = process.phase is not Phase.STARTING or self.live.get(process.key) is not process
        if stale:
            if self.chance.random() < 0.3:
                self._repeat(m.Started(key=process.key, generation=process.generation))
        elif self.chance.random() < self.plan.start_failure:
            self._end(process)
            error = ModelLoadError(f"{process.key} does not start.")
            full = self.chance.random() < self.plan.out_of_memory
            failed = m.StartFailed(key=process.key, generation=process.generation, error=error, out_of_memory=full)
            self._report(failed)
        else:
            process.phase = Phase.RUNNING
            if self.chance.random() < self.plan.crash:
                self._soon(lambda: self._crash(process))
            self._report(m.Started(key=process.key, generation=process.generation, size_bytes=self._measure(process)))

    def _measure(self, process: Incarnation) -> int | None:
        spec, options = self.specs[process.key], process.start.options
        if not spec.owned or self.chance.random() < 0.5:
            return None
        process.size_bytes = spec.expected_bytes(options) + spec.surplus_bytes
        self.sizes[process.key, bool(options.slots)] = process.size_bytes
        return process.size_bytes

    def _crash(self, process: Incarnation) -> None:
        """It ends by itself; a remote model is as often let go by its backend, at somebody else's word."""
        if self.live.get(process.key) is not process:
            return
        if not self.specs[process.key].owned and self.chance.random() < 0.5:
            self._report(m.Left(key=process.key, generation=process.generation))
        else:
            self._end(process)
            error = ModelLoadError(f"{process.key} crashed.")
            self._report(m.Crashed(key=process.key, generation=process.generation, error=error))

    def _stop(self, effect: m.Stop) -> None:
        process = self.live.get(effect.key)
        if process is None or process.generation != effect.generation or process.phase is Phase.STOPPING:
            raise BrokenPromiseError(f"{effect} stops what does not run")
        process.phase = Phase.STOPPING
        if self.chance.random() < 0.1:
            self._soon(lambda: self._crash(process))
        self._soon(lambda: self._stopped(process))

    def _stopped(self, process: Incarnation) -> None:
        if self.live.get(process.key) is process:
            self._end(process)
        self._report(m.Stopped(key=process.key, generation=process.generation))

    def _end(self, process: Incarnation) -> None:
        del self.live[process.key]

    def _write(self) -> None:
        persist = self.writes.popleft()
        if self.chance.random() < self.plan.disk_failure:
            self.disk.failures += 1
            self.step(m.PersistFailed(token=persist.token, error=StorageError("The disk is full.")))
            return
        self.disk.apply(persist)
        self.step(m.Persisted(token=persist.token))

    def _admitted(self, effect: m.Admit) -> None:
        self._answered(effect)
        self.using[effect.waiter] = effect
        self._touch(effect.key, effect.generation)
        wish = self.asked[effect.waiter].wish
        self._soon(lambda: self.leave(effect.waiter))
        if isinstance(wish, m.Acquire) and wish.hold:
            for _ in range(self.chance.randint(0, 2)):
                self._soon(lambda: self._use_lease(effect))

    def _use_lease(self, lease: m.Admit) -> None:
        if lease.waiter in self.using:
            self.ask(self.wishes.within(self.now, lease.waiter, lease.key))

    def _cut(self, effect: m.Cut) -> None:
        if not (isinstance(self._message, m.Unload) and self._message.force and self._message.key == effect.key):
            raise BrokenPromiseError(f"{effect} was not asked for")
        for number in effect.waiters:
            admit = self.using.pop(number, None)
            if admit is None or admit.key != effect.key:
                raise BrokenPromiseError(f"{effect} cuts {number}, who does not use it")
            self._touch(admit.key, admit.generation)

    def _answered(self, effect: m.Admit | m.Done | m.Refuse) -> None:
        asked = self.asked.get(effect.waiter)
        if asked is None or asked.answer is not None:
            raise BrokenPromiseError(f"{effect} answers nobody, or somebody twice")
        if asked.left and isinstance(asked.wish, m.Acquire):
            raise BrokenPromiseError(f"{effect} answers somebody who has left")
        if isinstance(effect, m.Admit) != isinstance(asked.wish, m.Acquire) and not isinstance(effect, m.Refuse):
            raise BrokenPromiseError(f"{effect} is no answer to {asked.wish}")
        if isinstance(effect, m.Refuse) and not isinstance(effect.error, AIProviderError):
            raise BrokenPromiseError(f"{effect} has no reason")
        asked.answer = effect
