"""The frozen values that describe models: what one is, what it can do, how it is doing.

They encode to the wire as they stand (``msgspec.json.encode``): field names become camelCase, moments become RFC 3339.
Unknown is ``None``, never 0.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

import msgspec

from noa.errors import ValidationError


class ProviderType(StrEnum):
    """The providers that are built in. Others are known by their configured name."""

    OPENAI = "openai"
    CLAUDE = "claude"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"


class ModelCapability(StrEnum):
    """What a model can do."""

    TEXT_GENERATION = "text_generation"
    CHAT_COMPLETION = "chat_completion"
    EMBEDDINGS = "embeddings"
    FUNCTION_CALLING = "function_calling"
    VISION = "vision"
    STREAMING = "streaming"
    JSON_MODE = "json_mode"


class EvidenceSource(StrEnum):
    """Where a fact about a model comes from, the most trusted first.

    ``configured`` by the user, ``probed`` by a real request, ``declared`` by the provider, ``metadata`` of the weights
    file, the ``catalog``, or ``assumed`` from the model's name.
    """

    CONFIGURED = "configured"
    PROBED = "probed"
    DECLARED = "declared"
    METADATA = "metadata"
    CATALOG = "catalog"
    ASSUMED = "assumed"


#: Sources that may be out of date, or mistaken about this very model.
_HEARSAY = frozenset({EvidenceSource.CATALOG, EvidenceSource.ASSUMED})


class ModelStatus(StrEnum):
    """Where a model stands in its life. The allowed moves are the table of ``noa.lifecycle.states``."""

    AVAILABLE = "available"
    LOADING = "loading"
    LOADED = "loaded"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


def model_key(provider: str, model_id: str) -> str:
    """The canonical name of a model: ``provider:model``."""
    return f"{provider}:{model_id}"


def split_key(key: str) -> tuple[str, str]:
    """Split a canonical key into provider and model id. Raises ``ValidationError`` for anything else."""
    provider, separator, model_id = key.partition(":")
    if not (provider and separator and model_id):
        raise ValidationError(f"“{key}” is no model key; a key looks like “openai:gpt-4”.")
    return provider, model_id


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A frozen value with camelCase names on the wire."""


class Endpoint(Value, frozen=True, kw_only=True):
    """Where an engine listens: an HTTP address, over a Unix socket if ``socket_path`` is set."""

    base_url: str
    socket_path: str | None = None


class PerformanceMetrics(Value, frozen=True, kw_only=True):
    """How a model has been doing, in the quick start's fields.

    ``average_latency`` is in milliseconds end to end, ``tokens_per_second`` counts generated tokens, ``success_rate``
    is 0–1 and ``memory_usage`` is in MB. Live figures are exponential moving averages of weight 0.2: the success rate
    over every request, the others over those that succeeded. The totals are over every request of which they are known.
    """

    average_latency: float | None = None
    tokens_per_second: float | None = None
    total_inferences: int = 0
    success_rate: float | None = None
    last_benchmarked: datetime | None = None
    memory_usage: float | None = None
    total_prompt_tokens: int | None = None
    total_completion_tokens: int | None = None
    total_cost_usd: float | None = None


class PriceSource(StrEnum):
    """Who says what a model costs: the user, the catalogue, the provider itself, or that it runs on our own machine."""

    CONFIGURED = "configured"
    CATALOG = "catalog"
    PROVIDER = "provider"
    LOCAL = "local"


class PriceTier(Value, frozen=True, kw_only=True):
    """What the whole request costs once its prompt has more than ``above`` tokens. ``None``: as without the tier."""

    above: int
    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None


class Price(Value, frozen=True, kw_only=True):
    """What a model's tokens cost, in USD per million of them.

    ``None`` is not known, and 0 is free. Only ``cache_read`` and ``cache_write`` (tokens read from and written to the
    service's prompt cache) and ``reasoning`` mean something else by ``None``: that the service has no price of its own
    for these, and bills them as ``input`` and as ``output``. ``as_of`` is the day of which the source knew it so, and
    ``note`` says what the figures alone don't.
    """

    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    tiers: tuple[PriceTier, ...] = ()
    source: PriceSource
    as_of: date | None = None
    note: str | None = None

    @property
    def is_free(self) -> bool:
        """Whether it is known that no token costs anything."""
        return (
            self.input == 0
            and self.output == 0
            and not (self.cache_read or self.cache_write or self.reasoning or self.tiers)
        )


class CapabilityEvidence(Value, frozen=True, kw_only=True):
    """Why a model is known to do something, or not to. ``at`` is when that was learned, ``detail`` what was seen."""

    capability: ModelCapability
    supported: bool
    source: EvidenceSource
    at: datetime | None = None
    detail: str | None = None


class FactSources(Value, frozen=True, kw_only=True):
    """Where a model's window and its longest answer are known from. The price says so itself."""

    context_window: EvidenceSource | None = None
    max_tokens: EvidenceSource | None = None


class ModelInfo(Value, frozen=True, kw_only=True):
    """What is known of a model. ``context_window`` and ``max_tokens`` are in tokens.

    ``evidence`` has a line for each capability that it is known to have, or known to lack; ``capabilities`` are those
    it has. A provider may leave ``evidence`` and ``sources`` empty: then what it says counts as its declaration.
    """

    id: str
    name: str
    provider: str
    context_window: int | None = None
    max_tokens: int | None = None
    capabilities: tuple[ModelCapability, ...] = ()
    metadata: dict[str, object] = {}
    evidence: tuple[CapabilityEvidence, ...] = ()
    sources: FactSources = FactSources()
    price: Price | None = None

    @property
    def key(self) -> str:
        """The canonical name, ``provider:model``."""
        return model_key(self.provider, self.id)

    def lacks(self, capability: ModelCapability) -> bool:
        """Whether it is known not to have it, by somebody who can know: the catalogue and a name's sound cannot."""
        return any(
            line.capability is capability and not line.supported and line.source not in _HEARSAY
            for line in self.evidence
        )


class RegistryEntry(Value, frozen=True, kw_only=True):
    """A known model as the registry shows it: the facts, where it stands, how it has been doing."""

    key: str
    id: str
    name: str
    provider: str
    context_window: int | None
    max_tokens: int | None
    capabilities: tuple[ModelCapability, ...]
    metadata: dict[str, object]
    status: ModelStatus
    registered_at: datetime
    last_accessed: datetime | None = None
    access_count: int = 0
    performance_metrics: PerformanceMetrics | None = None
    file_path: str | None = None
    file_size: int | None = None
    checksum: str | None = None
    error: str | None = None
    evidence: tuple[CapabilityEvidence, ...] = ()
    sources: FactSources = FactSources()
    price: Price | None = None


class ActiveModel(Value, frozen=True, kw_only=True):
    """A model in use: loaded, or current wherever it stands. ``loaded_at`` is ``None`` while it is not loaded.

    ``pid``, ``memory_bytes`` (as of the last seconds), ``context_size`` (tokens per slot), ``slots`` (requests at once)
    and ``threads`` are those of a local one's process. ``error`` says why it failed, or is not there.
    """

    key: str
    model: ModelInfo
    loaded_at: datetime | None
    total_inferences: int = 0
    performance_metrics: PerformanceMetrics | None = None
    status: ModelStatus = ModelStatus.LOADED
    in_flight: int = 0
    pinned: bool = False
    ttl_s: float | None = None
    pid: int | None = None
    memory_bytes: int | None = None
    context_size: int | None = None
    slots: int | None = None
    threads: int | None = None
    error: str | None = None


class SwitchResult(Value, frozen=True, kw_only=True):
    """What a switch did. The keys are ``provider:model``."""

    previous_model: str | None
    current_model: str
    reason: str
    timestamp: datetime


class LoadPlan(Value, frozen=True, kw_only=True):
    """What a load would do, without doing it.

    ``fits`` says whether there is a way at all: at once if ``evicts`` and ``waits_for`` are empty, otherwise when those
    have gone (``evicts`` are idle and would be stopped, ``waits_for`` are busy or leaving already). ``basis`` is what
    ``needed_bytes`` rests on: it was measured, calculated by a formula or a bound, or is the size of the file.
    ``used_bytes`` is what all loaded models take now, ``budget_bytes`` what they may take (``None``: no limit). A
    remote model takes neither memory nor threads of ours, so there they are ``None``.
    """

    key: str
    fits: bool
    needed_bytes: int | None
    basis: str | None = None
    budget_bytes: int | None
    used_bytes: int
    evicts: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    threads: int | None


class ProbeOutcome(StrEnum):
    """What a probe has shown: that a model can, that it cannot, or nothing."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    INCONCLUSIVE = "inconclusive"


class ProbeResult(Value, frozen=True, kw_only=True):
    """What a real request showed ``at`` that moment; ``detail`` is what was seen."""

    capability: ModelCapability
    outcome: ProbeOutcome
    detail: str
    at: datetime


class ProbePlan(Value, frozen=True, kw_only=True):
    """What probing a model would take at most. ``cost_usd`` is ``None`` where its price is not known, 0 where free."""

    key: str
    capabilities: tuple[ModelCapability, ...]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    price: Price | None = None


class CacheType(StrEnum):
    """What an engine keeps of the tokens it has seen, per number: two bytes, about one, about half of one."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class LoadOptions(Value, frozen=True, kw_only=True):
    """How to load a model.

    ``warmup`` asks a remote model for one real token (a local one always answers one before it counts as loaded).
    ``ttl_s`` unloads it that many seconds after its last use, ``pin`` keeps it from ever being evicted, and a waiter of
    higher ``priority`` is served first. The rest shapes the process of a local model: ``context_size`` in tokens per
    slot, ``slots`` requests at once, ``threads`` CPU threads, ``gpu_layers`` layers on the GPU, and ``cache_type`` for
    its cache (``f16`` unless configured otherwise; the others need less memory).
    """

    warmup: bool = False
    ttl_s: float | None = None
    pin: bool = False
    priority: int = 0
    context_size: int | None = None
    slots: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    cache_type: CacheType | None = None
