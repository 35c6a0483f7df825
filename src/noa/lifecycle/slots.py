"""What the scheduler remembers: a slot for each model, a waiter for each unanswered wish."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from noa.errors import AIProviderError
from noa.lifecycle.messages import Acquire, Load, Switch
from noa.lifecycle.states import Move, advance
from noa.models import LoadOptions, ModelStatus

#: The statuses in which a model takes a place.
RESIDENT = frozenset({ModelStatus.LOADING, ModelStatus.LOADED, ModelStatus.DRAINING})


@dataclass(slots=True, eq=False)
class Slot:
    """One model's life, as the scheduler keeps it. Nobody else changes it.

    ``options`` are those it was loaded with, and is loaded with again on demand. ``serving`` are the requests it
    serves, ``holds`` the leases on it; ``last_used`` is when the last of them ended. ``started`` says that it runs,
    ``announced`` that others were told so, ``committing`` that a change of it is being written, ``stopping`` that
    ``Stop`` was ordered. ``unloaders`` are those who unload it by hand, with their deadlines if they have one;
    ``ended`` is why it ended by itself while such a change was being written.
    """

    key: str
    owned: bool
    size_bytes: int
    concurrency: int | None
    status: ModelStatus = ModelStatus.AVAILABLE
    generation: int = 0
    options: LoadOptions = field(default_factory=LoadOptions)
    serving: set[int] = field(default_factory=set)
    holds: set[int] = field(default_factory=set)
    last_used: float = 0.0
    loaded_since: float = 0.0
    started: bool = False
    announced: bool = False
    committing: bool = False
    stopping: bool = False
    gone: bool = False
    stop_reason: str = ""
    unloaders: dict[int, float | None] = field(default_factory=dict)
    ended: AIProviderError | None = None
    error: AIProviderError | None = None
    failures: int = 0
    crashes: deque[float] = field(default_factory=deque)
    cool_until: float = 0.0
    revive: bool = False

    @property
    def idle(self) -> bool:
        """Whether no request runs on it and no lease holds it."""
        return not self.serving and not self.holds

    @property
    def evictable(self) -> bool:
        """Loaded, idle, unleased and unpinned."""
        return self.status is ModelStatus.LOADED and self.idle and not self.options.pin and not self.committing

    @property
    def has_place(self) -> bool:
        """Whether it can serve one more request."""
        if self.concurrency is None:
            return True
        return len(self.serving) < (self.options.slots or self.concurrency)

    @property
    def expires_at(self) -> float | None:
        """When its time to live ends, if it has one and nobody uses it."""
        if self.options.ttl_s is None or not self.evictable:
            return None
        return self.last_used + self.options.ttl_s

    def is_used_by(self, number: int) -> bool:
        """Whether this waiter has it now."""
        return number in self.serving or number in self.holds

    def move(self, move: Move) -> None:
        """Change the status by the table."""
        self.status = advance(self.status, move)

    def emptied(self) -> None:
        """Forget everything that belonged to the incarnation that has just ended."""
        self.serving.clear()
        self.holds.clear()
        self.unloaders.clear()
        self.started = self.announced = self.committing = self.stopping = False
        self.stop_reason = ""
        self.ended = None


@dataclass(slots=True, eq=False)
class Waiter:
    """A wish that is not answered yet.

    ``committing`` means that it is granted and being written: it is answered by that write alone. ``displaced`` is the
    model that a switch drained to make room, and that comes back if the switch fails.
    """

    wish: Acquire | Load | Switch
    order: int
    committing: bool = False
    displaced: str | None = None

    @property
    def number(self) -> int:
        """The caller's number for it."""
        return self.wish.waiter

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts by priority, then by arrival."""
        priority = self.wish.priority if isinstance(self.wish, Acquire) else self.wish.options.priority
        return (-priority, self.order)


class SlotView(msgspec.Struct, frozen=True, kw_only=True):
    """A slot as others may see it. ``loaded_since`` and ``last_used`` are on the scheduler's clock, in seconds."""

    key: str
    owned: bool
    status: ModelStatus
    generation: int
    in_flight: int
    leases: int
    options: LoadOptions
    size_bytes: int
    loaded_since: float
    last_used: float
    error: AIProviderError | None

    @classmethod
    def of(cls, slot: Slot) -> SlotView:
        """The slot as it is now."""
        return cls(
            key=slot.key,
            owned=slot.owned,
            status=slot.status,
            generation=slot.generation,
            in_flight=len(slot.serving),
            leases=len(slot.holds),
            options=slot.options,
            size_bytes=slot.size_bytes,
            loaded_since=slot.loaded_since,
            last_used=slot.last_used,
            error=slot.error,
        )
