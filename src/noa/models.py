"""The frozen values that describe models: what one is, what it can do, how it is doing.

They encode to the wire as they stand (``msgspec.json.encode``): field names become camelCase, moments become RFC 3339.
Unknown is ``None``, never 0.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from noa.errors import ValidationError


class ProviderType(StrEnum):
    """The providers that are built in. Others are known by their configured name."""

    OPENAI = "openai"
    CLAUDE = "claude"
    LLAMA_CPP = "llama.cpp"


class ModelCapability(StrEnum):
    """What a model can do."""

    TEXT_GENERATION = "text_generation"
    CHAT_COMPLETION = "chat_completion"
    EMBEDDINGS = "embeddings"
    FUNCTION_CALLING = "function_calling"
    VISION = "vision"
    STREAMING = "streaming"
    JSON_MODE = "json_mode"


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
    over every request, the others over those that succeeded.
    """

    average_latency: float | None = None
    tokens_per_second: float | None = None
    total_inferences: int = 0
    success_rate: float | None = None
    last_benchmarked: datetime | None = None
    memory_usage: float | None = None


class ModelInfo(Value, frozen=True, kw_only=True):
    """What a provider says of one of its models. ``context_window`` and ``max_tokens`` are in tokens."""

    id: str
    name: str
    provider: str
    context_window: int | None = None
    max_tokens: int | None = None
    capabilities: tuple[ModelCapability, ...] = ()
    metadata: dict[str, object] = {}

    @property
    def key(self) -> str:
        """The canonical name, ``provider:model``."""
        return model_key(self.provider, self.id)


class RegistryEntry(Value, frozen=True, kw_only=True):
    """A known model as the registry shows it: the provider's facts, where it stands, how it has been doing."""

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


class ActiveModel(Value, frozen=True, kw_only=True):
    """A loaded model. ``memory_bytes`` and ``pid`` belong to the process of a local one."""

    key: str
    model: ModelInfo
    loaded_at: datetime
    total_inferences: int = 0
    performance_metrics: PerformanceMetrics | None = None
    status: ModelStatus = ModelStatus.LOADED
    in_flight: int = 0
    pinned: bool = False
    ttl_s: float | None = None
    pid: int | None = None
    memory_bytes: int | None = None


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
