"""A scheduler on a stage: the test speaks for everybody else, and reads what was answered."""

from __future__ import annotations

import itertools

import msgspec

from noa.errors import AIProviderError, ModelLoadError, StorageError
from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Room
from noa.lifecycle.scheduler import Scheduler
from noa.lifecycle.slots import SlotView
from noa.models import LoadOptions, ModelStatus
from noa.state import Change


class Stage:
    """``room`` models at most, and a disk that writes at once unless ``disk_waits`` or ``disk_fails``."""

    def __init__(self, room: int = 10, budget_bytes: int | None = None, cores: int | None = None) -> None:
        self.scheduler = Scheduler(Room(max_models=room, budget_bytes=budget_bytes, cores=cores))
        self.now = 0.0
        self.disk_waits = False
        self.disk_fails = False
        self.writing: list[m.Persist] = []
        self.written: list[Change] = []
        self.admitted: dict[int, str] = {}
        self.refused: dict[int, AIProviderError] = {}
        self.done: dict[int, m.Done] = {}
        self.starts: list[m.Start] = []
        self.stops: list[m.Stop] = []
        self.cut: list[int] = []
        self.events: list[m.Publish] = []
        self._timer: float | None = None
        self._numbers = itertools.count(1)

    # What is read.

    def view(self, key: str) -> SlotView:
        view = self.scheduler.view(key)
        assert view is not None
        return view

    def status(self, key: str) -> ModelStatus:
        return self.view(key).status

    def current(self) -> str | None:
        return self.scheduler.aliases.get("current")

    def rings_at(self) -> float | None:
        return self._timer

    @property
    def started_keys(self) -> list[str]:
        return [start.key for start in self.starts]

    @property
    def stopped_keys(self) -> list[str]:
        return [stop.key for stop in self.stops]

    def events_of(self, event_type: str) -> list[m.Publish]:
        return [event for event in self.events if event.type == event_type]

    # What is said.

    def step(self, message: m.Input) -> list[m.Effect]:
        effects = self.scheduler.step(self.now, message)
        for effect in effects:
            self._note(effect)
        if not self.disk_waits:
            self.write()
        return effects

    def _note(self, effect: m.Effect) -> None:
        match effect:
            case m.Admit():
                assert effect.waiter not in self.admitted | self.refused
                self.admitted[effect.waiter] = effect.key
            case m.Refuse():
                assert effect.waiter not in self.admitted.keys() | self.refused.keys() | self.done.keys()
                self.refused[effect.waiter] = effect.error
            case m.Done():
                assert effect.waiter not in self.done.keys() | self.refused.keys()
                self.done[effect.waiter] = effect
            case m.Start():
                self.starts.append(effect)
            case m.Stop():
                self.stops.append(effect)
            case m.Cut():
                self.cut.extend(effect.waiters)
            case m.Persist():
                self.writing.append(effect)
            case m.Publish():
                self.events.append(effect)
            case m.SetTimer():
                self._timer = effect.at

    def write(self) -> None:
        """What waits to be written is written now, or fails."""
        while self.writing:
            persist = self.writing.pop(0)
            if self.disk_fails:
                self.step(m.PersistFailed(token=persist.token, error=StorageError("The disk is full.")))
            else:
                self.written.extend(persist.changes)
                self.step(m.Persisted(token=persist.token))

    def known(
        self, *keys: str, owned: bool = True, size_bytes: int = 1, concurrency: int | None = None, threads: int = 1
    ) -> None:
        for key in keys:
            known = m.Known(key=key, owned=owned, size_bytes=size_bytes, concurrency=concurrency, threads=threads)
            self.step(known)

    def sized(self, key: str, options: LoadOptions, size_bytes: int) -> None:
        self.step(m.Sized(key=key, options=options, size_bytes=size_bytes))

    def at(self, now: float) -> None:
        """Let time pass, and the timer ring where it was set."""
        while self._timer is not None and self._timer <= now:
            self.now, self._timer = max(self.now, self._timer), None
            self.step(m.Tick())
        self.now = now

    def acquire(
        self, name: str, *, priority: int = 0, hold: bool = False, within: int | None = None, wait_s: float = 1000.0
    ) -> int:
        number = next(self._numbers)
        deadline = self.now + wait_s
        self.step(m.Acquire(waiter=number, name=name, deadline=deadline, priority=priority, hold=hold, within=within))
        return number

    def release(self, number: int) -> None:
        self.step(m.Release(waiter=number))

    def load(self, key: str, options: LoadOptions | None = None, *, wait_s: float = 1000.0) -> int:
        number = next(self._numbers)
        self.step(m.Load(waiter=number, key=key, options=options or LoadOptions(), deadline=self.now + wait_s))
        return number

    def unload(self, key: str, *, force: bool = False, wait_s: float = 60.0) -> int:
        number = next(self._numbers)
        self.step(m.Unload(waiter=number, key=key, deadline=self.now + wait_s, force=force))
        return number

    def switch(
        self,
        key: str,
        *,
        alias: str = "current",
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
        wait_s: float = 1000.0,
    ) -> int:
        number = next(self._numbers)
        self.step(
            m.Switch(
                waiter=number,
                alias=alias,
                key=key,
                reason="asked for",
                deadline=self.now + wait_s,
                options=LoadOptions(),
                expected=expected,
            )
        )
        return number

    def point(self, alias: str, key: str, expected: str | msgspec.UnsetType | None = msgspec.UNSET) -> int:
        number = next(self._numbers)
        self.step(m.PointAlias(waiter=number, alias=alias, key=key, reason="asked for", expected=expected))
        return number

    def drop(self, alias: str) -> int:
        number = next(self._numbers)
        self.step(m.DropAlias(waiter=number, alias=alias, reason="asked for"))
        return number

    def started(self, key: str, size_bytes: int | None = None) -> None:
        self.step(m.Started(key=key, generation=self.view(key).generation, size_bytes=size_bytes))

    def start_failed(self, key: str, error: AIProviderError | None = None, *, out_of_memory: bool = False) -> None:
        error = error or ModelLoadError(f"{key} does not start.")
        generation = self.view(key).generation
        self.step(m.StartFailed(key=key, generation=generation, error=error, out_of_memory=out_of_memory))

    def stopped(self, key: str) -> None:
        self.step(m.Stopped(key=key, generation=self.view(key).generation))

    def crashed(self, key: str) -> None:
        error = ModelLoadError(f"{key} crashed.")
        self.step(m.Crashed(key=key, generation=self.view(key).generation, error=error))

    # What is done often.

    def with_loaded(self, *keys: str, options: LoadOptions | None = None) -> None:
        """These are known and loaded, one second after the other."""
        for key in keys:
            self.known(key)
            self.load(key, options)
            self.started(key)
            assert self.status(key) is ModelStatus.LOADED
            self.now += 1
