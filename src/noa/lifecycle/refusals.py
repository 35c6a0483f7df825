"""What a waiter is told when it does not get what it asked for."""

from __future__ import annotations

from collections.abc import Sequence

from noa.errors import ConflictError, ModelLoadError, ModelNotFoundError, ModelUnavailableError
from noa.lifecycle.aliases import CURRENT
from noa.lifecycle.slots import RESIDENT, Slot
from noa.models import LoadOptions, ModelStatus


def unknown(key: str) -> ModelNotFoundError:
    """Nobody offers it."""
    return ModelNotFoundError(f"No provider offers “{key}” now. See what there is with: noa ls")


def absent(alias: str, key: str, why: str, loaded: Sequence[str], provider: str | None = None) -> ModelUnavailableError:
    """An alias means a model that is not there now. It keeps its meaning; ``loaded`` are those that could serve."""
    choose = "noa switch KEY" if alias == CURRENT else f"noa alias set {alias} KEY"
    instead = f" ({' and '.join(loaded)} {'is' if len(loaded) == 1 else 'are'} loaded)" if loaded else ""
    sentence = f"“{alias}” means {key}, but {why} Or choose another model{instead}: {choose}"
    return ModelUnavailableError(sentence, provider=provider, details={"model": key}, retry_after_s=10)


def nothing_loaded() -> ModelUnavailableError:
    """The name means the current model, and there is none."""
    sentence = "No model is loaded. Load one (noa load KEY), or name one in the request."
    return ModelUnavailableError(sentence, retry_after_s=5)


def line_too_long(name: str, waiting: int) -> ModelUnavailableError:
    """So many wait already that one more would only time out."""
    return ModelUnavailableError(f"{waiting} requests wait already; try “{name}” again shortly.", retry_after_s=1)


def cooling_down(slot: Slot, wait_s: float) -> ModelUnavailableError:
    """It failed to load a moment ago."""
    reason = slot.error.message if slot.error else "it failed to start"
    sentence = f"{slot.key} failed to load and is tried again in {wait_s:.0f} s: {reason}"
    return ModelUnavailableError(sentence, retry_after_s=wait_s)


def too_late(key: str, slot: Slot | None, now: float) -> ModelUnavailableError:
    """The time to wait is over; what it waited for depends on where the model stands."""
    if slot is not None and slot.status not in RESIDENT and slot.cool_until > now:
        return cooling_down(slot, slot.cool_until - now)
    if slot is not None and slot.status is ModelStatus.LOADING:
        return ModelUnavailableError(f"{key} is still loading; try again.", retry_after_s=2)
    if slot is not None and slot.status is ModelStatus.LOADED:
        return ModelUnavailableError(f"{key} is busy with other requests; try again.", retry_after_s=1)
    sentence = f"There is no room for {key}: every loaded model is in use or pinned. Unload one, or raise the limit."
    return ModelUnavailableError(sentence, retry_after_s=5)


def shut_out(key: str, pins: Sequence[str]) -> ModelUnavailableError:
    """Pinned models have the room that it needs, and they go for nobody."""
    pinned = f"{' and '.join(pins)} {'is' if len(pins) == 1 else 'are'} pinned"
    sentence = f"There is no room for {key}: {pinned}. Unload one (noa unload {pins[0]}), or raise the limit."
    return ModelUnavailableError(sentence, details={"pinned": list(pins)}, retry_after_s=30)


def too_large(slot: Slot, options: LoadOptions, budget_bytes: int) -> ModelLoadError:
    """It would not fit even if nothing else were loaded."""
    needed_bytes = slot.size_for(options)
    sentence = (
        f"{slot.key} needs {_gib(needed_bytes)} of memory and all models together may take {_gib(budget_bytes)};"
        " load it with a smaller context, fewer slots or cache type q8_0 or q4_0, or raise the memory budget."
    )
    return ModelLoadError(sentence, retryable=False, details={"neededBytes": needed_bytes, "budgetBytes": budget_bytes})


def too_large_to_serve(slot: Slot, options: LoadOptions, budget_bytes: int) -> ModelUnavailableError:
    """The same for a request, which cannot help it: somebody must change a setting meanwhile."""
    error = too_large(slot, options, budget_bytes)
    return ModelUnavailableError(error.message, retryable=False, details=error.details, retry_after_s=60)


def _gib(size_bytes: int) -> str:
    mib = size_bytes / 1024**2
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def no_such_alias(name: str) -> ModelNotFoundError:
    """There is nothing to drop."""
    return ModelNotFoundError(f"There is no alias “{name}”. See what there is with: noa alias ls")


def withdrawn(key: str) -> ModelUnavailableError:
    """Its provider was taken out of the configuration; only those who used it before still do."""
    provider = key.partition(":")[0]
    sentence = f"{provider} was taken out of the configuration, and {key} with it."
    return ModelUnavailableError(sentence, provider=provider, retry_after_s=5)


def unloaded_meanwhile(key: str) -> ConflictError:
    """Somebody unloads what this one wants loaded."""
    return ConflictError(f"{key} was unloaded by somebody else meanwhile.")
