"""What the scheduler is told, and what it answers: inputs and effects, all frozen values.

Times are seconds on the caller's monotonic clock. A waiter is a number that the caller chooses; it names a request, a
lease or a change from the moment it asks until it is refused, released or done.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from noa.errors import AIProviderError
from noa.lifecycle.eviction import Room
from noa.models import LoadOptions
from noa.state import Change


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, or that somebody wants."""


class Known(Input, frozen=True, kw_only=True):
    """A model exists. ``owned`` ones run in processes of ours and take a place; ``size_bytes`` is what they need.

    ``concurrency`` is how many requests it serves at once (``None``: as many as come), ``threads`` with how many it
    computes; both are for a load that says nothing else, and so is the size.
    """

    key: str
    owned: bool
    size_bytes: int = 0
    concurrency: int | None = None
    threads: int = 1


class Sized(Input, frozen=True, kw_only=True):
    """What a model needs when it is loaded with these options. It counts from its next start."""

    key: str
    options: LoadOptions
    size_bytes: int


class Gone(Input, frozen=True, kw_only=True):
    """A model is offered no longer. It is forgotten unless it is in use."""

    key: str


class Withdrawn(Input, frozen=True, kw_only=True):
    """The provider of a model is there no more: nobody else gets the model, and it goes once nobody uses it."""

    key: str


class Reconsidered(Input, frozen=True, kw_only=True):
    """Another provider has this name now: what failed with the one before may be tried again at once."""

    provider: str


class RoomChanged(Input, frozen=True, kw_only=True):
    """There is more room from now on, or less. Its ``cores`` are those that there always were."""

    room: Room


class Restored(Input, frozen=True, kw_only=True):
    """What was written before a restart: aliases, and the models to be loaded again with their options."""

    aliases: Mapping[str, str]
    kept: Mapping[str, LoadOptions] = {}


class Acquire(Input, frozen=True, kw_only=True):
    """A request wants the model that ``name`` means when it is its turn.

    With ``hold`` it is a lease that keeps the model loaded and serves no request itself. ``within`` is the lease under
    which a request runs: it is served even while the model drains, because the drain waits for that lease.
    """

    waiter: int
    name: str
    deadline: float
    priority: int = 0
    hold: bool = False
    within: int | None = None


class Release(Input, frozen=True, kw_only=True):
    """An admitted waiter is finished, or one that waits has left."""

    waiter: int


class Load(Input, frozen=True, kw_only=True):
    """Somebody wants a model loaded, with these options."""

    waiter: int
    key: str
    options: LoadOptions
    deadline: float


class Unload(Input, frozen=True, kw_only=True):
    """Somebody wants a model gone: when it is idle, which is given up at ``deadline``; or at once, with ``force``."""

    waiter: int
    key: str
    deadline: float
    force: bool = False


class Switch(Input, frozen=True, kw_only=True):
    """Somebody wants an alias to mean another model. ``expected`` is what it must mean now, if that matters."""

    waiter: int
    alias: str
    key: str
    reason: str
    deadline: float
    options: LoadOptions
    expected: str | msgspec.UnsetType | None = msgspec.UNSET


class PointAlias(Input, frozen=True, kw_only=True):
    """Somebody wants an alias other than ``current`` to mean a model that need not be loaded. ``expected`` as above."""

    waiter: int
    alias: str
    key: str
    reason: str
    expected: str | msgspec.UnsetType | None = msgspec.UNSET


class DropAlias(Input, frozen=True, kw_only=True):
    """Somebody wants an alias other than ``current`` gone."""

    waiter: int
    alias: str
    reason: str


class Started(Input, frozen=True, kw_only=True):
    """A start succeeded. ``size_bytes`` is what it takes, where that was measured."""

    key: str
    generation: int
    size_bytes: int | None = None


class StartFailed(Input, frozen=True, kw_only=True):
    """A start failed; with ``out_of_memory`` it may do better when another model has gone."""

    key: str
    generation: int
    error: AIProviderError
    out_of_memory: bool = False


class Stopped(Input, frozen=True, kw_only=True):
    """A stop is complete: the process is gone and its memory is free."""

    key: str
    generation: int


class Crashed(Input, frozen=True, kw_only=True):
    """A process ended that nobody stopped."""

    key: str
    generation: int
    error: AIProviderError


class Left(Input, frozen=True, kw_only=True):
    """The backend of a remote model has let go of it, at somebody else's word; it is said again while that is so."""

    key: str
    generation: int


class Persisted(Input, frozen=True, kw_only=True):
    """What was to be kept is on disk."""

    token: int


class PersistFailed(Input, frozen=True, kw_only=True):
    """What was to be kept is not on disk."""

    token: int
    error: AIProviderError


class Tick(Input, frozen=True, kw_only=True):
    """Time has passed."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something to carry out."""


class Start(Effect, frozen=True, kw_only=True):
    """Start the model, and answer ``Started`` or ``StartFailed`` with the same generation."""

    key: str
    generation: int
    options: LoadOptions


class Stop(Effect, frozen=True, kw_only=True):
    """Stop the model (or its start), and answer ``Stopped`` with the same generation."""

    key: str
    generation: int
    reason: str


class Cut(Effect, frozen=True, kw_only=True):
    """End these requests now: their model is being unloaded by force."""

    waiters: tuple[int, ...]
    key: str


class Admit(Effect, frozen=True, kw_only=True):
    """The waiter has the model, until it releases it."""

    waiter: int
    key: str
    generation: int


class Done(Effect, frozen=True, kw_only=True):
    """The change that the waiter asked for has happened to the model of this key.

    ``previous`` is what an alias meant before it was pointed elsewhere or dropped.
    """

    waiter: int
    key: str
    previous: str | None = None


class Refuse(Effect, frozen=True, kw_only=True):
    """The waiter does not get what it asked for."""

    waiter: int
    error: AIProviderError


class SetTimer(Effect, frozen=True, kw_only=True):
    """Send a ``Tick`` at this time; it replaces the one asked for before. ``None``: no tick is needed."""

    at: float | None


class Publish(Effect, frozen=True, kw_only=True):
    """Tell whoever listens."""

    type: str
    data: Mapping[str, object]


class Persist(Effect, frozen=True, kw_only=True):
    """Write these changes, all or none, and answer ``Persisted`` or ``PersistFailed``."""

    token: int
    changes: tuple[Change, ...]
