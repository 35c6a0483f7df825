"""An upstream's failure in its own words, whatever shape it gives them.

Besides OpenAI's ``{"error": {…}}``: ``error`` as text (Ollama, Hugging Face), ``detail`` as text or as FastAPI's list
(vLLM, NVIDIA), a ``message`` beside them or alone (Cerebras, Cohere) or with ``detail`` inside (Mistral), all of it in
a list (Gemini) or under ``errors`` (Cloudflare), with another service's words in ``metadata.raw`` (OpenRouter).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

#: An upstream's own words are quoted up to this many characters.
MAX_QUOTED: Final = 500
#: How deep the words are looked for.
_MAX_DEPTH: Final = 5

_KEYLIKE = re.compile(r"(?i)\b(?:(?:sk|pk|rk|gsk|xai|hf|key)[-_]|AIza|bearer\s+(?=\S*\d))[A-Za-z0-9*._-]{8,}")
#: Google's ``RetryInfo``.
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream's failure as it described it; everything but ``status`` may be unknown."""

    status: int
    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    prompt_tokens: int | None = None
    context_window: int | None = None
    retry_after_s: float | None = None
    is_json: bool = False

    def named(self, names: frozenset[str]) -> bool:
        """Whether its type or code is one of these."""
        return self.type in names or self.code in names


def read_refusal(status: int, body: bytes) -> Refusal:
    """Read the body of an error answer. A web page says nothing to anybody, so its words are left out."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[: 8 * MAX_QUOTED].decode(errors="replace").strip()
        is_page = text.startswith("<")
        return Refusal(status=status, message=None if is_page or not text else _quote(text))
    return describe(status, document)


def describe(status: int, error: object) -> Refusal:
    """Read a decoded error, or the object around it."""
    layers, words = _unwrap(error)
    code = _fact(layers, "code")
    return Refusal(
        status=status,
        message=_quote(words) if words else None,
        type=_word(_fact(layers, "type")),
        code=_word(code if code is not None else _fact(layers, "status")),
        param=_word(_fact(layers, "param")),
        prompt_tokens=_count(_fact(layers, "n_prompt_tokens")),
        context_window=_count(_fact(layers, "n_ctx")),
        retry_after_s=_retry_delay(layers),
        is_json=True,
    )


def _unwrap(error: object) -> tuple[list[Mapping[str, Any]], str | None]:
    """The objects around an error's words, the innermost first, and the words."""
    layers: list[Mapping[str, Any]] = []
    words: str | None = None
    for _ in range(_MAX_DEPTH):
        if isinstance(error, list) and error:
            error = error[0]
        if not isinstance(error, dict):
            break
        layers.insert(0, error)
        words = _words(error) or words
        error = error.get("error") or error.get("detail") or error.get("errors") or error.get("message")
    if isinstance(error, str):
        # Beside a sentence, “Bad Request” says nothing.
        words = words or error
    elif not layers:
        words = msgspec.json.encode(error).decode()
    return layers, words


def _words(layer: Mapping[str, Any]) -> str | None:
    said = layer.get("message") or layer.get("msg")
    if not isinstance(said, str):
        return None
    if isinstance(place := layer.get("loc"), list):
        return f"{'.'.join(map(str, place))}: {said}"
    metadata = layer.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{said.rstrip('.')}: {raw}" if isinstance(raw, str) and raw else said


def _fact(layers: list[Mapping[str, Any]], name: str) -> object:
    """What the innermost layer that has a plain value of this name says; FastAPI's own types name no error."""
    for layer in layers:
        value = layer.get(name)
        if value is not None and not isinstance(value, dict | list) and "loc" not in layer:
            return value
    return None


def _retry_delay(layers: list[Mapping[str, Any]]) -> float | None:
    for layer in layers:
        details = layer.get("details")
        for each in details if isinstance(details, list) else ():
            delay = each.get("retryDelay") if isinstance(each, dict) else None
            if isinstance(delay, str) and (match := _SECONDS.fullmatch(delay)):
                return float(match[1])
    return None


def _quote(text: str) -> str:
    """An upstream's text on one line, bounded, with anything that looks like a key taken out."""
    line = " ".join(_KEYLIKE.sub("[key]", text[: 8 * MAX_QUOTED]).split())
    return line if len(line) <= MAX_QUOTED else line[: MAX_QUOTED - 1] + "…"


def _word(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return _quote(str(value))[:100] or None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
