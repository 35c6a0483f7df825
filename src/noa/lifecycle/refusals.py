"""What a waiter is told when it does not get what it asked for."""

from __future__ import annotations

from noa.errors import ConflictError, ModelNotFoundError, ModelUnavailableError
from noa.lifecycle.slots import RESIDENT, Slot
from noa.models import ModelStatus


def unknown(key: str) -> ModelNotFoundError:
    """Nobody offers it."""
    return ModelNotFoundError(f"No provider offers “{key}” now. See what there is with: noa ls")


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


def unloaded_meanwhile(key: str) -> ConflictError:
    """Somebody unloads what this one wants loaded."""
    return ConflictError(f"{key} was unloaded by somebody else meanwhile.")
