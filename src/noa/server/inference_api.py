"""The management API's own inference routes: the original's bodies, answered as OpenAI answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from noa.dialects import sse
from noa.errors import AIProviderError, ValidationError
from noa.manager import ModelManager
from noa.models import Value, model_key, split_key
from noa.presets import canonical_provider
from noa.server.errors import encode_envelope
from noa.server.openai_api import CHAT, EMBEDDINGS
from noa.server.relay import Face
from noa.server.request_body import read


def _error_event(error: AIProviderError) -> bytes:
    return sse.encode(encode_envelope(error)[1])


#: OpenAI's answers with the management API's errors.
CHAT_FACE: Final[Face] = msgspec.structs.replace(
    CHAT, encode_error=encode_envelope, error_event=_error_event, keeps_refusals=False
)
EMBEDDINGS_FACE: Final[Face] = msgspec.structs.replace(
    EMBEDDINGS, encode_error=encode_envelope, error_event=_error_event, keeps_refusals=False
)


class ChatBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A conversation to continue. ``config`` holds OpenAI's parameters: ``temperature``, ``max_tokens``, ``top_p`` …"""

    messages: list[dict[str, Any]]
    model: str | None = None
    provider: str | None = None
    config: dict[str, Any] = msgspec.field(default_factory=dict)


class EmbeddingsBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts to embed."""

    input: str | list[str]
    model: str | None = None
    provider: str | None = None


def chat_request(body: bytes, manager: ModelManager, *, stream: bool) -> bytes:
    """The request in OpenAI's dialect. Raises ``ValidationError`` naming the field that is wrong."""
    asked = read(body, ChatBody)
    if not asked.messages:
        raise ValidationError("messages must hold at least one message.", details={"field": "messages"})
    for name in ("messages", "model", "stream"):
        if name in asked.config:
            raise ValidationError(f"config.{name} stands in the wrong place.", details={"field": f"config.{name}"})
    wire = {**asked.config, "messages": asked.messages, "stream": stream}
    return _encoded(wire, model_name(manager, asked.provider, asked.model))


def embeddings_request(body: bytes, manager: ModelManager) -> bytes:
    """The request in OpenAI's dialect. Raises ``ValidationError`` naming the field that is wrong."""
    asked = read(body, EmbeddingsBody)
    return _encoded({"input": asked.input}, model_name(manager, asked.provider, asked.model))


def model_name(manager: ModelManager, provider: str | None, model: str | None) -> str | None:
    """The name to ask for. A provider alone means its default model, or the current one if that is of this provider."""
    if provider is None or model is not None:
        return model if provider is None or model is None else model_key(provider, model)
    canonical = canonical_provider(provider) or provider
    configured = manager.configuration.provider_config(canonical)
    if configured is not None and configured.default_model is not None:
        return model_key(canonical, configured.default_model)
    current = manager.engine.current_key
    if current is not None and split_key(current)[0] == canonical:
        return current
    raise ValidationError(f"Say which model of {provider} to use.", details={"field": "model"})


def _encoded(wire: dict[str, Any], model: str | None) -> bytes:
    return msgspec.json.encode(wire if model is None else {**wire, "model": model})
