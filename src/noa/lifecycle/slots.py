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
#: How many shapes' sizes are remembered of a model.
MAX_SHAPES = 16


def shape_of(options: LoadOptions) -> LoadOptions:
    """What decides how much memory a model takes, and nothing else; threads take none."""
    return LoadOptions(
        context_size=options.context_size,
        slots=options.slots,
        gpu_layers=options.gpu_layers,
        cache_type=options.cache_type,
    )


@dataclass(slots=True, eq=False)
class Slot:
    """One model's life, as the scheduler keeps it. Nobody else changes it.

    ``size_bytes`` is what its place takes; ``default_bytes`` and ``sizes`` (by ``shape_of`` options) are what it needs
    when it is started. ``options`` are those it was loaded with, and is loaded with again on demand. ``serving`` are
    the requests it serves, ``holds`` the leases on it; ``last_used`` is when the last of them ended. ``owed`` are those
    who waited for it when it was loaded and still wait: nobody else gets its place before them, for a while.
    ``started`` says that it runs, ``announced`` that others were told so, ``committing`` that a change of it is being
    written, ``stopping`` that ``Stop`` was ordered. ``unloaders`` are those who unload it by hand, with their deadlines
    if they have one; ``ended`` is why it ended by itself while such a change was being written. ``retry_after`` is the
    model (key and generation) that makes room for its second start; ``retried`` that there was, or is to be, one.
    ``withdrawn`` says that its provider is there no more, so that it drains whatever becomes of other reasons to.
    """

    key: str
    owned: bool
    size_bytes: int
    concurrency: int | None
    default_threads: int = 1
    default_bytes: int = 0
    sizes: dict[LoadOptions, int] = field(default_factory=dict)
    status: ModelStatus = ModelStatus.AVAILABLE
    generation: int = 0
    options: LoadOptions = field(default_factory=LoadOptions)
    serving: set[int] = field(default_factory=set)
    holds: set[int] = field(default_factory=set)
    owed: set[int] = field(default_factory=set)
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
    retry_after: tuple[str, int] | None = None
    retried: bool = False
    withdrawn: bool = False

    def size_for(self, options: LoadOptions) -> int:
        """What it needs when it is started with these options; what it needs without any where that was not said."""
        return self.sizes.get(shape_of(options), self.default_bytes)

    def note_size(self, options: LoadOptions, size_bytes: int) -> None:
        """What it needs with these options. The last few shapes are remembered."""
        shape = shape_of(options)
        if shape == LoadOptions():
            self.default_bytes = size_bytes
            return
        self.sizes.pop(shape, None)
        self.sizes[shape] = size_bytes
        if len(self.sizes) > MAX_SHAPES:
            del self.sizes[next(iter(self.sizes))]

    @property
    def threads(self) -> int:
        """How many threads it computes with here."""
        return (self.options.threads or self.default_threads) if self.owned else 0

    @property
    def idle(self) -> bool:
        """Whether no request runs on it and no lease holds it."""
        return not self.serving and not self.holds

    @property
    def evictable(self) -> bool:
        """Loaded, idle, unleased and unpinned; and nobody that it was loaded for still has to have it."""
        spoken_for = self.options.pin or self.committing or self.owed
        return self.status is ModelStatus.LOADED and self.idle and not spoken_for

    @property
    def is_nobody_elses(self) -> bool:
        """Loaded somewhere else, to stay until somebody says otherwise: that it is used takes nothing from anybody."""
        return not self.owned and self.status is ModelStatus.LOADED and self.options.ttl_s is None

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
        self.owed.clear()
        self.retry_after = None
        self.retried = self.withdrawn = False
        self.started = self.announced = self.committing = self.stopping = False
        self.stop_reason = ""
        self.ended = None


@dataclass(slots=True, eq=False)
class Waiter:
    """A wish that is not answered yet.

    ``committing`` means that it is granted and being written: it is answered by that write alone. ``displaced`` is the
    model that a switch drained to make room, and that comes back if the switch fails. It waits since ``since``, and
    ``owed_by`` is the model that was loaded while it waited for it.
    """

    wish: Acquire | Load | Switch
    order: int
    since: float
    owed_by: Slot | None = None
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
    """A slot as others may see it. ``loaded_since`` and ``last_used`` are on the scheduler's clock, in seconds.

    ``concurrency`` is how many requests it takes at once, ``None`` for no limit.
    """

    key: str
    owned: bool
    status: ModelStatus
    generation: int
    concurrency: int | None
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
            concurrency=slot.options.slots or slot.concurrency,
            in_flight=len(slot.serving),
            leases=len(slot.holds),
            options=slot.options,
            size_bytes=slot.size_bytes,
            loaded_since=slot.loaded_since,
            last_used=slot.last_used,
            error=slot.error,
        )
