"""What a server refuses, as the very error of ours that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from noa import errors
from noa.errors import AIProviderError, AuthenticationError, ProviderAuthenticationError, RateLimitError
from noa.models import Value


class _Problem(Value, frozen=True, kw_only=True):
    message: str
    code: str | None = None
    provider: str | None = None
    retryable: bool | None = None
    details: dict[str, Any] | None = None


class _Envelope(Value, frozen=True, kw_only=True):
    error: _Problem


def error_from_answer(status: int, body: bytes, retry_after: str | None = None) -> AIProviderError | None:
    """Rebuild the error that a server answered with, in either of its shapes; ``None`` if ``body`` is no such answer.

    ``retry_after`` is the header of that name, in seconds.
    """
    try:
        problem = msgspec.json.decode(body, type=_Envelope).error
    except msgspec.DecodeError:
        return None
    return _error_class(status, problem)(
        problem.message,
        provider=problem.provider,
        retryable=problem.retryable,
        details=problem.details,
        retry_after_s=float(retry_after) if retry_after is not None and retry_after.isdecimal() else None,
    )


#: Every class of the tree, the general before the special, as ``noa.errors`` defines them.
_CLASSES = tuple(each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AIProviderError))
#: The inference routes use the codes that OpenAI's clients know; these differ from ours in more than their case.
_INFERENCE_CODES: Mapping[str, type[AIProviderError]] = {
    "INVALID_API_KEY": AuthenticationError,
    "RATE_LIMIT_EXCEEDED": RateLimitError,
}


def _error_class(status: int, problem: _Problem) -> type[AIProviderError]:
    """The class that fits best: of this code and status, of this code, or else of this status."""
    code = (problem.code or "").upper()
    of_code = [each for each in _CLASSES if each.code == code]
    candidates = (
        *(each for each in of_code if each.status == status),
        *of_code,
        *((_INFERENCE_CODES[code],) if code in _INFERENCE_CODES else ()),
        *(each for each in _CLASSES if each.status == status),
    )
    chosen = next(iter(candidates), AIProviderError)
    if chosen is AuthenticationError and problem.provider is not None:
        return ProviderAuthenticationError
    return chosen
