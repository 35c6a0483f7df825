"""Errors on the wire: the management API's envelope, and the caller's dialect on ``/v1``."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from noa.dialects import anthropic, openai
from noa.errors import AIProviderError, AuthenticationError, MethodNotAllowedError, RouteNotFoundError
from noa.server.exchange import Exchange, RawHeader

#: Writes an error: its status and its body.
ErrorEncoder = Callable[[AIProviderError], tuple[int, bytes]]

#: Clients of the inference routes give up, or wait for minutes, at longer hints than this (seconds).
LONGEST_HINT_S: Final = 60

#: How a program is asked for the key.
BEARER: Final = b"Bearer"


def encode_envelope(error: AIProviderError) -> tuple[int, bytes]:
    """The management API's form: ``{"error": {message, code, provider, retryable, details}}``."""
    body = {
        "message": error.message,
        "code": error.code,
        "provider": error.provider,
        "retryable": error.retryable,
        "details": error.details,
    }
    return error.status, msgspec.json.encode({"error": body})


def encoder_for(exchange: Exchange) -> ErrorEncoder:
    """The form of errors that a caller expects."""
    if exchange.path != "/v1" and not exchange.path.startswith("/v1/"):
        return encode_envelope
    return anthropic.encode_error if exchange.is_anthropic else openai.encode_error


def headers_of(error: AIProviderError, *, longest_s: float = math.inf, challenge: bytes = BEARER) -> list[RawHeader]:
    """The headers that belong to an error: when to try again, which methods there are, how a key is asked for."""
    headers: list[RawHeader] = []
    if error.retry_after_s is not None:
        seconds = math.ceil(min(max(error.retry_after_s, 1), longest_s))
        headers.append((b"retry-after", str(seconds).encode()))
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", ", ".join(map(str, _allowed(error))).encode()))
    if type(error) is AuthenticationError:
        headers.append((b"www-authenticate", challenge))
    return headers


async def answer_error(
    exchange: Exchange, error: AIProviderError, encode: ErrorEncoder, *, challenge: bytes = BEARER
) -> None:
    """Answer with an error; ``challenge`` is how to ask for the key if that is what is missing."""
    if encode is anthropic.encode_error:
        # This dialect names the request in the body too.
        encode = partial(anthropic.encode_error, request_id=exchange.request_id)
    status, body = encode(error)
    longest_s = math.inf if encode is encode_envelope else LONGEST_HINT_S
    await exchange.answer(status, body, headers=headers_of(error, longest_s=longest_s, challenge=challenge))


def internal_error(request_id: str) -> AIProviderError:
    """What a caller is told of a mistake of ours; the log says the rest."""
    return AIProviderError(
        f"Something went wrong inside Noa; its log has the details under request {request_id}.",
        details={"requestId": request_id},
    )


def no_route(method: str, path: str, meant: str | None = None) -> RouteNotFoundError:
    """The error for a path that leads nowhere; ``meant`` is the one that it looks like."""
    advice = f"; did you mean {meant}?" if meant else ". See what there is at /api-docs."
    return RouteNotFoundError(f"There is nothing at {method} {path}{advice}")


def wrong_method(method: str, path: str, allowed: list[str]) -> MethodNotAllowedError:
    """The error for a path that takes other methods."""
    sentence = f"{path} takes {' or '.join(allowed)}, not {method}."
    return MethodNotAllowedError(sentence, details={"allowed": allowed})


def _allowed(error: MethodNotAllowedError) -> list[object]:
    allowed = error.details.get("allowed")
    return allowed if isinstance(allowed, list) else []
