"""Everything that can go wrong, as one tree.

Each class carries the HTTP ``status`` and the ``code`` it answers with; this file is the only table of them. The names
and codes of the quick start's API keep their meaning (its root is ``AIProviderError``)::

    AIProviderError                    500 INTERNAL_ERROR
    ├── ValidationError                400 VALIDATION_ERROR
    │   └── UnsupportedError           400 VALIDATION_ERROR        the model or provider cannot do this
    ├── ConfigurationError             400 CONFIGURATION_ERROR
    │   └── StateInUseError            409 STATE_IN_USE            another manager holds the state
    ├── AuthenticationError            401 AUTHENTICATION_ERROR    the caller's key
    │   └── ProviderAuthenticationError 401 AUTHENTICATION_ERROR   Noa's key at a provider (502 on the inference routes)
    ├── RateLimitError                 429 RATE_LIMIT_ERROR
    ├── ModelNotFoundError             404 MODEL_NOT_FOUND         also an unknown provider
    ├── ModelNotLoadedError            404 MODEL_NOT_LOADED
    ├── ContextLengthError             400 CONTEXT_LENGTH_EXCEEDED
    ├── ModelLoadError                 500 MODEL_LOAD_ERROR
    ├── ModelUnavailableError          503 MODEL_UNAVAILABLE       loading, cooling down, draining or full
    ├── ConflictError                  409 CONFLICT                compare-and-set lost, or a drain took too long
    ├── ProviderConnectionError        503 CONNECTION_ERROR        nothing answered
    │   └── ProviderTimeoutError       504 CONNECTION_ERROR
    ├── ProviderResponseError          502 PROVIDER_ERROR          an answer that makes no sense, or a provider's 5xx
    ├── CallerKeyNotFoundError         404 KEY_NOT_FOUND           no caller's key has this name
    ├── RouteNotFoundError             404 NOT_FOUND
    ├── MethodNotAllowedError          405 METHOD_NOT_ALLOWED
    ├── PayloadTooLargeError           413 PAYLOAD_TOO_LARGE
    ├── UnsupportedEncodingError       415 UNSUPPORTED_ENCODING    a body compressed in a way Noa does not read
    ├── HostNotAllowedError            421 HOST_NOT_ALLOWED
    └── StorageError                   507 STORAGE_ERROR           the change is not on disk, so it did not happen

A message is one sentence for a person: what happened, to which model, what to do. No message, detail or representation
may hold a secret; whoever raises one passes text through that is known to be free of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamAnswer:
    """An upstream's refusal as it came, for callers who speak its dialect. Never one that refuses a key."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


class AIProviderError(Exception):
    """Root of the tree: any failure of Noa or of a provider behind it.

    ``provider`` is the provider that failed, or ``None`` when the failure is Noa's own. ``retryable`` says whether the
    same request may succeed later without a change. ``details`` holds JSON-ready facts for programs.
    ``retry_after_s`` is how long to wait before trying again, where that is known. ``upstream`` is the answer that the
    failure was read from, where there was one and it may be shown.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    #: What the inference routes (``/v1``) answer where that differs from the management API.
    inference_status: ClassVar[int | None] = None
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        retryable: bool | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.retryable = self.default_retryable if retryable is None else retryable
        self.details: Mapping[str, object] = dict(details or {})
        self.retry_after_s = retry_after_s
        self.upstream: UpstreamAnswer | None = None


class ValidationError(AIProviderError):
    """The request itself is wrong: a missing field, a wrong type, malformed JSON."""

    status = 400
    code = "VALIDATION_ERROR"


class UnsupportedError(ValidationError):
    """The request is well formed, but this model or provider cannot do what it asks."""


class ConfigurationError(AIProviderError):
    """A setting is missing or wrong; the message names the setting."""

    status = 400
    code = "CONFIGURATION_ERROR"


class StateInUseError(ConfigurationError):
    """Another manager holds the state folder; ``details['url']`` says where it listens, if it does."""

    status = 409
    code = "STATE_IN_USE"


class AuthenticationError(AIProviderError):
    """The caller's key is missing or wrong."""

    status = 401
    code = "AUTHENTICATION_ERROR"


class ProviderAuthenticationError(AuthenticationError):
    """A provider refused the key Noa sent it. On ``/v1`` it is a bad gateway: the caller's own key is fine."""

    inference_status = 502


class RateLimitError(AIProviderError):
    """A provider, or Noa, asks to slow down; ``retry_after_s`` says for how long, if it is known."""

    status = 429
    code = "RATE_LIMIT_ERROR"
    default_retryable = True


class ModelNotFoundError(AIProviderError):
    """No model, or no provider, has this name."""

    status = 404
    code = "MODEL_NOT_FOUND"


class ModelNotLoadedError(AIProviderError):
    """The model is known, but it is not loaded."""

    status = 404
    code = "MODEL_NOT_LOADED"


class ContextLengthError(AIProviderError):
    """The prompt does not fit the model's context window."""

    status = 400
    code = "CONTEXT_LENGTH_EXCEEDED"


class ModelLoadError(AIProviderError):
    """A model could not be loaded: a corrupt file, no engine, out of memory, credentials that don't work."""

    status = 500
    code = "MODEL_LOAD_ERROR"


class ModelUnavailableError(AIProviderError):
    """The model cannot serve just now; ``retry_after_s`` says when to try again."""

    status = 503
    code = "MODEL_UNAVAILABLE"
    default_retryable = True


class ConflictError(AIProviderError):
    """Somebody else changed it first, or the model stayed busy beyond the deadline of the change."""

    status = 409
    code = "CONFLICT"


class ProviderConnectionError(AIProviderError):
    """A provider could not be reached."""

    status = 503
    code = "CONNECTION_ERROR"
    default_retryable = True


class ProviderTimeoutError(ProviderConnectionError):
    """A provider took the connection but sent nothing for too long."""

    status = 504


class ProviderResponseError(AIProviderError):
    """A provider answered with an error of its own, or with something that is no answer."""

    status = 502
    code = "PROVIDER_ERROR"
    default_retryable = True


class CallerKeyNotFoundError(AIProviderError):
    """No key for callers has this name."""

    status = 404
    code = "KEY_NOT_FOUND"


class RouteNotFoundError(AIProviderError):
    """Nothing of the API is at this path."""

    status = 404
    code = "NOT_FOUND"


class MethodNotAllowedError(AIProviderError):
    """The path exists, but not for this method; ``details['allowed']`` lists those it takes."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class PayloadTooLargeError(AIProviderError):
    """The request's body is larger than Noa takes."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"


class UnsupportedEncodingError(AIProviderError):
    """The request's body is compressed in a way that Noa does not read; the message names the header."""

    status = 415
    code = "UNSUPPORTED_ENCODING"


class HostNotAllowedError(AIProviderError):
    """The Host header names a host that is not ours (DNS rebinding looks like this)."""

    status = 421
    code = "HOST_NOT_ALLOWED"


class StorageError(AIProviderError):
    """The change could not be written to disk, so it was not made."""

    status = 507
    code = "STORAGE_ERROR"
