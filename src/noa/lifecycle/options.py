"""How two wishes for the shape of one model go together."""

from __future__ import annotations

from noa.errors import ConflictError
from noa.lifecycle.slots import Slot
from noa.models import LoadOptions, ModelStatus


def mismatch(slot: Slot, options: LoadOptions) -> ConflictError | None:
    """A model that is loaded cannot be loaded with another shape beside itself."""
    if slot.status not in {ModelStatus.LOADING, ModelStatus.LOADED}:
        return None
    for name in ("context_size", "slots", "threads", "gpu_layers", "cache_type"):
        asked, present = getattr(options, name), getattr(slot.options, name)
        if asked is not None and asked != present:
            has = "left to Noa" if present is None else present
            return ConflictError(f"{slot.key} is loaded with {name} {has}, not {asked}; unload it first.")
    return None


def merged(present: LoadOptions, asked: LoadOptions) -> LoadOptions:
    """A second load of a loaded model changes what it says of keeping it: pin and time to live."""
    return LoadOptions(
        warmup=present.warmup or asked.warmup,
        ttl_s=asked.ttl_s if asked.ttl_s is not None else present.ttl_s,
        pin=asked.pin or present.pin,
        priority=present.priority,
        context_size=present.context_size,
        slots=present.slots,
        threads=present.threads,
        gpu_layers=present.gpu_layers,
        cache_type=present.cache_type,
    )
