"""Anthropic's own request fields, said in OpenAI's dialect as far as they have a counterpart there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from noa.errors import UnsupportedError

#: Fields without an effect on the answer: where it is accounted, cached, traced, computed, and how fast.
_ACCOUNTING: Final = frozenset({
    "metadata", "service_tier", "cache_control", "diagnostics", "user_profile_id", "workspace_id", "inference_geo",
    "speed",
})  # fmt: skip
#: What a budget for thinking, in tokens, amounts to as an effort; beyond the last it is a high one.
_EFFORTS: Final = ((2_048, "low"), (8_192, "medium"))


def translate_extra(extra: Mapping[str, Any], *, is_llama_cpp: bool = False) -> dict[str, Any]:
    """The fields as this dialect has them. Raises ``UnsupportedError`` naming one that it has not.

    A budget for thinking becomes an effort, the one measure of reasoning that this dialect knows, unless an effort is
    given too. llama.cpp takes the budget itself.
    """
    translated: dict[str, Any] = {}
    for name, value in extra.items():
        if value is None or name in _ACCOUNTING:
            continue
        if name == "thinking":
            thinking = _llama_thinking(value) if is_llama_cpp else _thinking(value)
            translated = thinking | translated
        elif name in _TRANSLATIONS:
            translated.update(_TRANSLATIONS[name](value))
        else:
            raise _no_counterpart(name)
    return translated


def _thinking(value: object) -> dict[str, Any]:
    """To leave it to the model, or to do without, is what this dialect does anyway."""
    kind = _kind(value)
    if kind != "enabled":
        return {}
    budget = _budget(value)
    return {"reasoning_effort": next((effort for limit, effort in _EFFORTS if budget <= limit), "high")}


def _llama_thinking(value: object) -> dict[str, Any]:
    """The template decides whether there is thinking at all, and the sampler ends it at the budget."""
    kind = _kind(value)
    if kind == "adaptive":
        return {}
    wanted: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": kind == "enabled"}}
    if kind == "enabled":
        wanted["thinking_budget_tokens"] = _budget(value)
    return wanted


def _kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("adaptive", "disabled", "enabled"):
        return str(kind)
    raise _no_counterpart("thinking")


def _budget(value: object) -> int:
    budget = value.get("budget_tokens") if isinstance(value, dict) else None
    if isinstance(budget, int) and not isinstance(budget, bool) and budget > 0:
        return budget
    raise UnsupportedError(
        "thinking.budget_tokens must be a whole number, 1 or more.", details={"param": "thinking.budget_tokens"}
    )


def _output_config(value: object) -> dict[str, Any]:
    if isinstance(value, dict) and not value.keys() - {"effort"}:
        return {"reasoning_effort": value["effort"]} if value.get("effort") else {}
    raise _no_counterpart("output_config")


def _context_management(value: object) -> dict[str, Any]:
    """To keep all thinking is what happens anyway, since all of it goes back as the caller sends it."""
    edits = value.get("edits", []) if isinstance(value, dict) else None
    if not isinstance(edits, list):
        raise _no_counterpart("context_management")
    for edit in edits:
        if not (isinstance(edit, dict) and edit.get("type") == _CLEAR_THINKING and edit.get("keep") == "all"):
            raise _no_counterpart("context_management")
    return {}


def _top_k(value: object) -> dict[str, Any]:
    """No field of OpenAI's own, but compatible services share it."""
    return {"top_k": value}


def _no_counterpart(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} has no counterpart in OpenAI's dialect, which this model's provider speaks; leave it out.",
        details={"param": name},
    )


_CLEAR_THINKING: Final = "clear_thinking_20251015"
_TRANSLATIONS: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "top_k": _top_k,
    "output_config": _output_config,
    "context_management": _context_management,
}
