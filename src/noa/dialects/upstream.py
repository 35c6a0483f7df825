"""What an upstream answers: reading the answer that was asked for, and turning a failure into one of ours.

OpenAI's and Anthropic's error bodies are both an object under ``error`` with ``type`` and ``message``; everybody else
varies it, and ``noa.dialects.refusal`` reads them all, so both dialects classify alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from noa.dialects.refusal import Refusal, describe, read_refusal
from noa.errors import (
    AIProviderError,
    ContextLengthError,
    ModelNotFoundError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ProviderAuthenticationError,
    ProviderResponseError,
    RateLimitError,
    UnsupportedError,
    ValidationError,
)

T = TypeVar("T")

_TOO_LONG = re.compile(
    r"(?i)prompt is too long|exceeds? (?:the )?(?:available )?context|maximum context length|context_length_exceeded"
    r"|input length and .max_tokens. exceed|longer than the (?:model's )?(?:maximum )?context"
)
#: Where a message counts tokens: "A tokens > B maximum" (Anthropic), "maximum context length is B … A tokens" (OpenAI).
_COUNTS = (
    re.compile(r"(?P<prompt>\d+) tokens > (?P<window>\d+)"),
    re.compile(r"context length (?:is|of) (?P<window>\d+) tokens.*?(?P<prompt>\d+) tokens", re.DOTALL),
)
_KEY_CODES = frozenset({"invalid_api_key", "authentication_error", "permission_error", "API_KEY_INVALID"})
_KEY_WORDS = re.compile(
    r"(?i)\b(?:incorrect|invalid|missing|wrong|expired) (?:api|access) ?(?:key|token)\b|api key not valid"
)
#: What an error inside a stream, which has no status of its own, would have had.
_STATUS_BY_TYPE = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "not_supported_error": 501,
    "unavailable_error": 503,
    "overloaded_error": 529,
    "timeout_error": 504,
}


def decode_answer(decoder: msgspec.json.Decoder[T], body: bytes | str, what: str, provider: str | None) -> T:
    """Read an upstream's answer. Raises ``ProviderResponseError`` when it is no ``what`` ("chat completion")."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderResponseError(
            f"{_subject(provider)} answered with something that is no {what}: {error}.", provider=provider
        ) from error


def decode_error(status: int, body: bytes, *, provider: str, retry_after_s: float | None = None) -> AIProviderError:
    """The error of ours that an upstream's failure is.

    ``status`` is its HTTP status and ``retry_after_s`` what its ``Retry-After`` header says. ``details`` of the result
    carry ``upstream_status``, ``upstream_type``, ``upstream_code`` and ``param`` as far as they are known. A refused
    key is reported without the upstream's words, which may repeat a part of it.
    """
    return _classify(read_refusal(status, body), provider, retry_after_s)


def stream_error(error: object, provider: str) -> AIProviderError:
    """The error of ours that an ``error`` object inside a stream is."""
    refusal = describe(502, error)
    for name in (refusal.code, refusal.type):
        if name is not None and (name in _STATUS_BY_TYPE or re.fullmatch("[45][0-9][0-9]", name)):
            status = _STATUS_BY_TYPE.get(name) or int(name)
            return _classify(msgspec.structs.replace(refusal, status=status), provider, None)
    return _classify(refusal, provider, None)


def truncated(provider: str | None) -> ProviderResponseError:
    """The error for a stream that stops without having ended."""
    return ProviderResponseError(
        f"The answer of {provider or 'the provider'} ended before it was finished; what came of it is incomplete.",
        provider=provider,
    )


def _subject(provider: str | None) -> str:
    return provider or "The provider"


def _classify(refusal: Refusal, provider: str, retry_after_s: float | None) -> AIProviderError:
    details = _details(refusal)
    retry_after_s = refusal.retry_after_s if retry_after_s is None else retry_after_s
    if _refuses_key(refusal):
        return ProviderAuthenticationError(
            f"{provider} refused the key that Noa sent it; check that the key is valid and may use this model.",
            provider=provider,
            details={name: value for name, value in details.items() if name != "param"},
        )
    if refusal.status in (400, 413, 422) and _exceeds_context(refusal):
        return _context_error(refusal, provider, details)
    if refusal.status < 500 and refusal.code == "model_not_found":
        return _not_found(refusal, provider, details, retry_after_s)
    make = _BY_STATUS.get(refusal.status, _unexpected)
    return make(refusal, provider, details, retry_after_s)


def _refuses_key(refusal: Refusal) -> bool:
    if refusal.status in (401, 403) or refusal.named(_KEY_CODES):
        return True
    return refusal.status == 400 and refusal.message is not None and bool(_KEY_WORDS.search(refusal.message))


def _exceeds_context(refusal: Refusal) -> bool:
    if refusal.named(frozenset({"context_length_exceeded", "exceed_context_size_error"})):
        return True
    return refusal.message is not None and bool(_TOO_LONG.search(refusal.message))


def _details(refusal: Refusal) -> dict[str, object]:
    facts: dict[str, object | None] = {
        "upstream_status": refusal.status,
        "upstream_type": refusal.type,
        # Some services repeat the status here, which says nothing and is no code that anybody looks for.
        "upstream_code": None if refusal.code and refusal.code.isdecimal() else refusal.code,
        "param": refusal.param,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _context_error(refusal: Refusal, provider: str, details: dict[str, object]) -> ContextLengthError:
    prompt, window = refusal.prompt_tokens, refusal.context_window
    for pattern in _COUNTS:
        match = pattern.search(refusal.message or "")
        if match and prompt is None and window is None:
            prompt, window = int(match["prompt"]), int(match["window"])
    if prompt is not None and window is not None:
        details = {**details, "prompt_tokens": prompt, "context_window": window}
        text = f"The prompt has {prompt} tokens, and the model's context at {provider} holds {window}; shorten it."
    else:
        text = f"The prompt does not fit the model's context at {provider}{_said(refusal)}; shorten it."
    return ContextLengthError(text, provider=provider, details=details)


def _said(refusal: Refusal) -> str:
    return f" ({refusal.message.rstrip('.')})" if refusal.message else ""


def _not_found(refusal: Refusal, provider: str, details: dict[str, object], _: float | None) -> AIProviderError:
    if refusal.is_json:
        text = f"{provider} does not have this model{_said(refusal)}."
    else:
        text = f"{provider} knows neither this model nor this address; check the model's name and the base URL."
    return ModelNotFoundError(text, provider=provider, details=details)


def _invalid(refusal: Refusal, provider: str, details: dict[str, object], _: float | None) -> AIProviderError:
    said = refusal.message or f"it answered {refusal.status} without saying why"
    return ValidationError(f"{provider} refused the request: {said}", provider=provider, details=details)


def _too_large(refusal: Refusal, provider: str, details: dict[str, object], _: float | None) -> AIProviderError:
    return PayloadTooLargeError(
        f"The request is larger than {provider} takes{_said(refusal)}.", provider=provider, details=details
    )


def _rate_limited(
    refusal: Refusal, provider: str, details: dict[str, object], retry_after_s: float | None
) -> AIProviderError:
    out_of_credit = refusal.status == 402 or refusal.named(frozenset({"insufficient_quota", "billing_error"}))
    what = "says that the account has no credit left" if out_of_credit else "asks to slow down"
    return RateLimitError(
        f"{provider} {what}{_said(refusal)}.",
        provider=provider,
        retryable=not out_of_credit,
        details=details,
        retry_after_s=retry_after_s,
    )


def _unsupported(refusal: Refusal, provider: str, details: dict[str, object], _: float | None) -> AIProviderError:
    return UnsupportedError(f"{provider} cannot do this{_said(refusal)}.", provider=provider, details=details)


def _unavailable(
    refusal: Refusal, provider: str, details: dict[str, object], retry_after_s: float | None
) -> AIProviderError:
    return ModelUnavailableError(
        f"{provider} cannot serve this model just now{_said(refusal)}.",
        provider=provider,
        details=details,
        retry_after_s=retry_after_s,
    )


def _unexpected(
    refusal: Refusal, provider: str, details: dict[str, object], retry_after_s: float | None
) -> AIProviderError:
    if refusal.status < 400:
        text = f"{provider} redirects the request, which Noa does not follow; check its base URL."
    elif refusal.message is None:
        text = (
            f"{provider} answered {refusal.status} without an error that can be read; if it lasts, check its base URL."
        )
    else:
        text = f"{provider} failed with status {refusal.status}: {refusal.message}"
    retryable = refusal.status >= 500 or refusal.status == 408
    return ProviderResponseError(
        text, provider=provider, retryable=retryable, details=details, retry_after_s=retry_after_s
    )


_BY_STATUS: dict[int, Callable[[Refusal, str, dict[str, Any], float | None], AIProviderError]] = {
    400: _invalid,
    402: _rate_limited,
    404: _not_found,
    410: _not_found,
    413: _too_large,
    415: _invalid,
    422: _invalid,
    429: _rate_limited,
    501: _unsupported,
    503: _unavailable,
    529: _unavailable,
}
