"""The management API's bodies and answers, as they stand on the wire: camelCase, unknown is ``null``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from starlette.responses import Response

from noa.discovery import ProviderReport
from noa.manager import Statistics
from noa.measurement.live import LiveSpread
from noa.models import (
    ActiveModel,
    CacheType,
    CapabilityEvidence,
    LoadPlan,
    ModelCapability,
    PerformanceMetrics,
    ProbePlan,
    ProbeResult,
    RegistryEntry,
    Value,
)
from noa.selection.breakers import BreakerFigures
from noa.state import UsageGrouping, UsageTotal

#: What a change is doing that nobody waits for.
Beginning = Literal["loading", "unloading", "switching"]


def json_response(value: object, status: int = 200) -> Response:
    """An answer with this value."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


# Bodies.


class ModelChoice(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model is meant: ``provider`` and ``model``, or ``key`` (any name that requests may use)."""

    provider: str | None = None
    model: str | None = None
    key: str | None = None


class EngineOptions(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to run a local model. ``contextSize`` is in tokens per slot."""

    context_size: Annotated[int, msgspec.Meta(ge=64, le=16_777_216)] | None = None
    slots: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    gpu_layers: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    cache_type: CacheType | None = None


class LoadBody(ModelChoice, frozen=True, kw_only=True):
    """A load. ``ttl`` is in seconds after the last use; ``wait: false`` answers 202 at once.

    With ``plan`` nothing is loaded, and the answer is ``{"plan": …}``: what it would take, and whom it would evict.
    """

    warmup: bool = False
    ttl: Annotated[float, msgspec.Meta(ge=0)] | None = None
    pin: bool = False
    priority: int = 0
    options: EngineOptions | None = None
    wait: bool = True
    plan: bool = False


class UnloadBody(ModelChoice, frozen=True, kw_only=True):
    """An unload; with ``force`` it waits for nobody."""

    force: bool = False
    wait: bool = True


class SwitchBody(ModelChoice, frozen=True, kw_only=True):
    """A switch; ``reason`` is kept in the history. It is refused if another model than ``expected`` is in use."""

    reason: str = "asked for"
    expected: str | msgspec.UnsetType | None = msgspec.UNSET
    wait: bool = True


class PointBody(ModelChoice, frozen=True, kw_only=True):
    """What an alias is to mean; ``reason`` is kept in its history.

    It is refused if the alias does not mean ``expected`` (``null``: nothing). With ``load: false`` the model is loaded
    when it is used.
    """

    reason: str = "asked for"
    expected: str | msgspec.UnsetType | None = msgspec.UNSET
    load: bool = True


class RollbackBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Going back to what an alias meant before."""

    reason: str | None = None


class ProbeBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to find out by real requests; by default everything.

    With ``plan`` nothing is asked of the model, and the answer is ``{"plan": …}``: what it would take and cost at most.
    """

    capabilities: Annotated[list[ModelCapability], msgspec.Meta(min_length=1)] | None = None
    plan: bool = False


class Nothing(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body without a field, for changes that take none."""


# Answers.


class Problem(Value, frozen=True, kw_only=True):
    """What went wrong. ``provider`` is the one that failed, ``null`` if it was none."""

    message: str
    code: str
    provider: str | None
    retryable: bool
    details: dict[str, object]


class Envelope(Value, frozen=True, kw_only=True):
    """The body of every error."""

    error: Problem


class ModelList(Value, frozen=True, kw_only=True):
    """Known models. ``nextCursor`` is there if ``limit`` left some out."""

    models: list[RegistryEntry]
    count: int
    next_cursor: str | msgspec.UnsetType = msgspec.UNSET


class ProviderModels(Value, frozen=True, kw_only=True):
    """The models of one provider."""

    provider: str
    models: list[RegistryEntry]
    count: int


class LoadedModels(Value, frozen=True, kw_only=True):
    """The loaded models, oldest first, and the one in use, which need not be loaded now."""

    models: list[ActiveModel]
    count: int
    current_model: ActiveModel | None


class CurrentModel(Value, frozen=True, kw_only=True):
    """The model in use, whether or not it is loaded now; ``null`` if there is none. ``error`` says what keeps it."""

    model: ActiveModel | None


class StatisticsAnswer(Value, frozen=True, kw_only=True):
    """Counts over the whole fleet."""

    success: bool = True
    statistics: Statistics


class Acknowledgement(Value, frozen=True, kw_only=True):
    """What was done to which model."""

    message: str
    provider: str
    model: str
    key: str


class Accepted(Acknowledgement, frozen=True, kw_only=True):
    """What has begun, and how to follow it."""

    status: Beginning


class Planned(Value, frozen=True, kw_only=True):
    """What a load would take, and whom it would evict."""

    plan: LoadPlan


class Switched(Acknowledgement, frozen=True, kw_only=True):
    """A switch that was made."""

    current_model: ActiveModel | None


class AliasEntry(Value, frozen=True, kw_only=True):
    """An alias, and since when it means that model."""

    name: str
    key: str
    since: datetime


class AliasList(Value, frozen=True, kw_only=True):
    """Every alias, by name."""

    aliases: list[AliasEntry]
    count: int


class AliasChange(Value, frozen=True, kw_only=True):
    """A change of an alias; it meant ``previous`` before (``null``: nothing)."""

    key: str | None
    previous: str | None
    reason: str
    at: datetime


class AliasHistory(Value, frozen=True, kw_only=True):
    """An alias with its changes, newest first."""

    name: str
    key: str | None
    history: list[AliasChange]


class AliasMoved(Value, frozen=True, kw_only=True):
    """An alias that was pointed, and what it meant before (``null``: nothing)."""

    message: str
    name: str
    key: str
    previous: str | None


class AliasRemoved(Value, frozen=True, kw_only=True):
    """An alias that was removed; it meant ``key``."""

    message: str
    name: str
    key: str


class Discovered(Value, frozen=True, kw_only=True):
    """What every provider has."""

    providers: list[ProviderReport]
    count: int


class Saved(Value, frozen=True, kw_only=True):
    """Where the state was written; ``null`` if it is kept in memory."""

    success: bool = True
    message: str
    path: str | None


class Capabilities(Value, frozen=True, kw_only=True):
    """What a model can do, as far as is known, and what that rests on."""

    success: bool = True
    key: str
    capabilities: tuple[ModelCapability, ...]
    evidence: tuple[CapabilityEvidence, ...]


class Metrics(Value, frozen=True, kw_only=True):
    """A model's live figures: averages and totals (``null`` before its first request), and how its times were spread.

    ``in_flight`` is how many requests it serves now.
    """

    success: bool = True
    key: str
    metrics: PerformanceMetrics | None
    live: LiveSpread
    in_flight: int


class Logs(Value, frozen=True, kw_only=True):
    """The last lines of a local model's process, oldest first."""

    success: bool = True
    key: str
    lines: list[str]


class Probed(Value, frozen=True, kw_only=True):
    """What probes have shown, and what the model is known to do after them."""

    success: bool = True
    key: str
    results: list[ProbeResult]
    capabilities: tuple[ModelCapability, ...]


class ProbePlanned(Value, frozen=True, kw_only=True):
    """What probing would take and cost at most."""

    plan: ProbePlan


class Live(Value, frozen=True, kw_only=True):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Ready(Value, frozen=True, kw_only=True):
    """The server has what it was started with."""

    status: Literal["ready"] = "ready"


class ServerHealth(Value, frozen=True, kw_only=True):
    """How the server is. It is degraded when a provider did not answer the last discovery, or the model in use is not
    to be had; ``problems`` says why.
    """

    status: Literal["healthy", "degraded"]
    version: str
    uptime_seconds: float
    current_model: str | None
    loaded_models: int
    known_models: int
    waiting_requests: int
    problems: list[str]


class ProviderHealth(Value, frozen=True, kw_only=True):
    """Whether a provider answers now. ``models`` is how many it offers."""

    name: str
    up: bool
    latency_ms: float | None
    error: str | None
    models: int


class ProvidersHealth(Value, frozen=True, kw_only=True):
    """Every provider that is set up. ``breakers`` are those of providers and models that have failed lately."""

    providers: list[ProviderHealth]
    breakers: list[BreakerFigures]
    count: int


class UsageTotals(Value, frozen=True, kw_only=True):
    """What was used and what it cost: times newest first, everything else by name."""

    by: UsageGrouping
    groups: list[UsageTotal]
    count: int


class ProcessFigures(Value, frozen=True, kw_only=True):
    """A process of ours: the server's own, or that of a local model."""

    name: str
    pid: int
    rss_bytes: int | None


class CpuFigures(Value, frozen=True, kw_only=True):
    """``percent`` is over the time since it was last asked for, ``null`` at the first time."""

    count: int | None
    percent: float | None
    load_average: list[float] | None


class MemoryFigures(Value, frozen=True, kw_only=True):
    """The machine's memory in bytes."""

    total_bytes: int
    available_bytes: int
    used_percent: float


class SystemFigures(Value, frozen=True, kw_only=True):
    """The machine, and what we take of it."""

    version: str
    python: str
    platform: str
    cpu: CpuFigures
    memory: MemoryFigures
    processes: list[ProcessFigures]
