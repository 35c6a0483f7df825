"""OpenAI's own request fields, said in Anthropic's dialect as far as they have a counterpart there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from noa.errors import UnsupportedError

#: Fields without an effect on the answer: where it is accounted, stored, cached, traced.
_ACCOUNTING: Final = frozenset({
    "metadata", "service_tier", "store", "stream_options", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention",
})  # fmt: skip
#: Fields with the values that ask for what Anthropic does anyway.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
}
#: Anthropic's word for each effort; the least there is stands for ``minimal``.
_EFFORTS: Final = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max",
}  # fmt: skip


def translate_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as this dialect has them. Raises ``UnsupportedError`` naming one that it has not.

    An effort asks for thinking as well: without ``thinking`` Anthropic's models take it for the answer alone. Those
    older than adaptive thinking refuse it themselves. ``thinking`` is Anthropic's own, as clients add it to a request
    of OpenAI's, and goes before.
    """
    translated: dict[str, Any] = {}
    for name, value in extra.items():
        if value is None or name in _ACCOUNTING or value in _NEUTRAL.get(name, ()):
            continue
        translate = _TRANSLATIONS.get(name)
        if translate is None:
            raise no_counterpart(name)
        translated = translate(value) | translated if name == "reasoning_effort" else translated | translate(value)
    return translated


def no_counterpart(name: str) -> UnsupportedError:
    """The error for a field that this dialect cannot say."""
    return UnsupportedError(
        f"{name} has no counterpart in Anthropic's dialect, which this model's provider speaks; leave it out.",
        details={"param": name},
    )


def _effort(value: object) -> dict[str, Any]:
    if value == "none":
        return {"thinking": {"type": "disabled"}}
    if not isinstance(value, str) or value not in _EFFORTS:
        raise no_counterpart("reasoning_effort")
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": _EFFORTS[value]}}


def _thinking(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise no_counterpart("thinking")
    return {"thinking": value}


def _top_k(value: object) -> dict[str, Any]:
    return {"top_k": value}


_TRANSLATIONS: Final[dict[str, Callable[[object], dict[str, Any]]]] = {
    "reasoning_effort": _effort,
    "thinking": _thinking,
    "top_k": _top_k,
}
