"""What must outlive the process: the changes worth writing, and what is read back at start.

The scheduler says *that* something must be kept (a ``Change``), the storage keeps it, and neither knows the other.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from noa.models import LoadOptions, ModelCapability, PerformanceMetrics, Value


class AliasPointed(Value, frozen=True, kw_only=True):
    """An alias now means ``key`` (``None``: nothing). ``current`` is the reserved alias for the model in use."""

    name: str
    key: str | None
    previous: str | None
    reason: str


class ModelKept(Value, frozen=True, kw_only=True):
    """The model is loaded and should be loaded again after a restart, with these options."""

    key: str
    options: LoadOptions


class ModelDropped(Value, frozen=True, kw_only=True):
    """The model need not be loaded again after a restart."""

    key: str


class ModelUsage(Value, frozen=True, kw_only=True):
    """A model's live figures and how often it was used, written now and then."""

    key: str
    metrics: PerformanceMetrics
    access_count: int
    last_accessed: datetime | None


class ProcessIntended(Value, frozen=True, kw_only=True):
    """An engine process is about to be started; ``nonce`` is in its arguments, so that it can be recognised."""

    key: str
    generation: int
    nonce: str
    socket_path: str


class ProcessStarted(Value, frozen=True, kw_only=True):
    """The intended process runs. ``started_at`` is its start time as the operating system tells it."""

    nonce: str
    pid: int
    started_at: float


class ProcessGone(Value, frozen=True, kw_only=True):
    """The process with this nonce has ended and was reaped."""

    nonce: str


class EngineIdentity(Value, frozen=True, kw_only=True):
    """What decides how much memory an engine takes: its file, its shape, and which build it is.

    ``file_bytes`` and ``modified_ns`` (nanoseconds since 1970) tell whether it is still the same file.
    """

    path: str
    file_bytes: int | None
    modified_ns: int | None
    build: str
    context_size: int
    slots: int
    cache_type: str
    gpu_layers: int | None
    embedding: bool


class SizeMeasured(Value, frozen=True, kw_only=True):
    """An engine was seen to take so much. ``by`` says which figure that is.

    ``allocation`` is what it reported, with the overhead of a process; ``resident`` is the memory of the process.
    """

    engine: EngineIdentity
    size_bytes: int
    by: str


class CapabilityProbed(Value, frozen=True, kw_only=True):
    """A real request has shown ``at`` that moment that a model can do something, or that it cannot.

    ``detail`` is what was seen. ``file_bytes`` and ``modified_ns`` (nanoseconds since 1970) are those of a local
    model's file, for which alone it counts.
    """

    key: str
    capability: ModelCapability
    supported: bool
    at: datetime
    detail: str | None = None
    file_bytes: int | None = None
    modified_ns: int | None = None


class Guard(Value, frozen=True, kw_only=True):
    """When a newcomer is taken out of a split by itself: if it is measurably worse than the alias's own model.

    ``max_error_rise`` is by how much more of its requests may fail (0.05: five in a hundred more),
    ``max_latency_ratio`` how many times as long it may take (``None``: as long as it likes). Nothing is decided before
    ``min_requests``.
    """

    max_error_rise: float = 0.05
    max_latency_ratio: float | None = 1.5
    min_requests: int = 20


class AliasSplit(Value, frozen=True, kw_only=True):
    """Which part of an alias's requests goes to which other model: ``weights`` maps keys to percentages.

    The rest goes to the model that the alias means. Without ``weights`` the alias is split no longer; without a
    ``guard`` nobody but a person ends it.
    """

    alias: str
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    guard: Guard | None = None


class CallerKey(Value, frozen=True, kw_only=True):
    """A key of one caller's own, by its name. Of the key itself only the SHA-256, in hexadecimal digits, is kept.

    After ``expires_at`` it opens nothing. ``last_used`` is written every few seconds, not with each request.
    """

    name: str
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used: datetime | None = None


class CallerKeyKept(Value, frozen=True, kw_only=True):
    """A key was made, or was used: what is known of it now."""

    key: CallerKey


class CallerKeyRevoked(Value, frozen=True, kw_only=True):
    """The key of this name opens nothing any more."""

    name: str


Change = (
    AliasPointed
    | ModelKept
    | ModelDropped
    | ModelUsage
    | ProcessIntended
    | ProcessStarted
    | ProcessGone
    | SizeMeasured
    | CapabilityProbed
    | AliasSplit
    | CallerKeyKept
    | CallerKeyRevoked
)


class AliasRecord(Value, frozen=True, kw_only=True):
    """One line of an alias's history."""

    name: str
    key: str | None
    previous: str | None
    reason: str
    at: datetime


class KeptModel(Value, frozen=True, kw_only=True):
    """A model to load again, oldest first by ``at``."""

    key: str
    options: LoadOptions
    at: datetime


class ProcessRecord(Value, frozen=True, kw_only=True):
    """An engine process that a predecessor started, or was about to."""

    key: str
    nonce: str
    socket_path: str
    pid: int | None
    started_at: float | None


class SavedState(Value, frozen=True, kw_only=True):
    """Everything that is read back at start. Also the shape of the JSON snapshot."""

    aliases: tuple[AliasRecord, ...] = ()
    models: tuple[KeptModel, ...] = ()
    usage: tuple[ModelUsage, ...] = ()
    processes: tuple[ProcessRecord, ...] = ()
    sizes: tuple[SizeMeasured, ...] = ()
    probes: tuple[CapabilityProbed, ...] = ()
    splits: tuple[AliasSplit, ...] = ()
    caller_keys: tuple[CallerKey, ...] = ()


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One inference as it was served. Durations in milliseconds; ``None`` where it was not measured or not reported.

    ``latency_ms`` begins when the model was to be had; ``queue_ms`` is how long the request waited for that before, a
    load included. ``overhead_ms`` is what Noa itself took: all but that wait and the time from asking the provider to
    the last byte of its answer. ``caller`` is the name of the key that the caller showed, and ``cost_usd`` is what the
    tokens cost at the price that was known then.
    """

    request_id: str
    key: str
    at: datetime
    operation: str
    streamed: bool
    success: bool
    latency_ms: float
    ttft_ms: float | None = None
    queue_ms: float | None = None
    overhead_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    caller: str | None = None
    error_code: str | None = None

    @property
    def tpot_ms(self) -> float | None:
        """Milliseconds per token after the first, of a streamed answer that succeeded; ``None`` where it can't be told.

        (end to end − TTFT) ÷ (output tokens − 1), as vLLM's benchmark has it; without inspecting chunks, so an answer
        whose first chunk has several tokens looks a little faster than in a profile.
        """
        tokens = self.completion_tokens
        if not self.success or self.ttft_ms is None or tokens is None or tokens < 2:
            return None
        return max(0.0, self.latency_ms - self.ttft_ms) / (tokens - 1)


class UsageGrouping(StrEnum):
    """What usage is summed up by. ``key`` is the key that callers showed."""

    MODEL = "model"
    KEY = "key"
    HOUR = "hour"
    DAY = "day"


class UsageTotal(Value, frozen=True, kw_only=True):
    """What one ``group`` used: a model's key, the name of a caller's key, an hour or a day in UTC.

    Tokens are summed over the ``counted_requests``, whose provider counted them, and the cost over those with a known
    one, ``priced_requests``. ``None`` is not known; the group is ``None`` for callers without a key of their own.
    """

    group: str | None
    requests: int
    failures: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    counted_requests: int
    cost_usd: float | None
    priced_requests: int


class ProfileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One profile: what it found, and the raw samples as JSON, with the version of the formulas used."""

    key: str
    at: datetime
    formula_version: int
    metrics_json: bytes
    samples_json: bytes
