"""Our errors in the body that OpenAI's clients expect."""

from __future__ import annotations

import msgspec

from noa.errors import (
    AIProviderError,
    AuthenticationError,
    ContextLengthError,
    ModelNotFoundError,
    ModelNotLoadedError,
    ModelUnavailableError,
    ProviderAuthenticationError,
    RateLimitError,
)

#: ``type`` and ``code`` of the errors that clients tell apart; a subclass speaks as its nearest ancestor here.
_NAMES: dict[type[AIProviderError], tuple[str, str]] = {
    ProviderAuthenticationError: ("server_error", "provider_authentication_error"),
    AuthenticationError: ("authentication_error", "invalid_api_key"),
    RateLimitError: ("rate_limit_error", "rate_limit_exceeded"),
    ModelNotFoundError: ("not_found_error", "model_not_found"),
    ModelNotLoadedError: ("not_found_error", "model_not_loaded"),
    ContextLengthError: ("invalid_request_error", "context_length_exceeded"),
    ModelUnavailableError: ("server_error", "model_unavailable"),
}


def encode_error(error: AIProviderError) -> tuple[int, bytes]:
    """The status and the body ``{"error": {message, type, param, code}}``."""
    status = error.inference_status or error.status
    named = next((_NAMES[cls] for cls in type(error).__mro__ if cls in _NAMES), None)
    upstream_code = error.details.get("upstream_code")
    code: object
    if named is not None:
        kind, code = named
        if upstream_code == "insufficient_quota":
            code = upstream_code
    else:
        kind = "invalid_request_error" if status < 500 else "server_error"
        code = upstream_code or error.code.lower()
    body = {"message": error.message, "type": kind, "param": error.details.get("param"), "code": code}
    return status, msgspec.json.encode({"error": body})
