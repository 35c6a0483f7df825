"""Our errors in the body that Anthropic's clients expect."""

from __future__ import annotations

import msgspec

from noa.errors import (
    AIProviderError,
    AuthenticationError,
    ContextLengthError,
    ModelNotFoundError,
    ModelNotLoadedError,
    ModelUnavailableError,
    PayloadTooLargeError,
    ProviderAuthenticationError,
    ProviderTimeoutError,
    RateLimitError,
)

#: ``type`` of the errors that clients tell apart; a subclass speaks as its nearest ancestor here.
_TYPES: dict[type[AIProviderError], str] = {
    ProviderAuthenticationError: "api_error",
    AuthenticationError: "authentication_error",
    RateLimitError: "rate_limit_error",
    ModelNotFoundError: "not_found_error",
    ModelNotLoadedError: "not_found_error",
    ModelUnavailableError: "overloaded_error",
    PayloadTooLargeError: "request_too_large",
    ProviderTimeoutError: "timeout_error",
}

#: The words by which clients recognise that a conversation has to be shortened; the dialect has no type for it.
_TOO_LONG = "prompt is too long"


def encode_error(error: AIProviderError, *, request_id: str | None = None) -> tuple[int, bytes]:
    """The status and the body ``{"type": "error", "error": {type, message}, request_id}``."""
    status = error.inference_status or error.status
    kind = next((_TYPES[cls] for cls in type(error).__mro__ if cls in _TYPES), None)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "api_error"
    message = error.message
    if isinstance(error, ContextLengthError) and _TOO_LONG not in message:
        message = f"{_TOO_LONG}: {message}"
    body: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id is not None:
        body["request_id"] = request_id
    return status, msgspec.json.encode(body)
