"""What a llama.cpp engine of ours refuses, in the words of whoever called Noa.

The engine speaks of its own flags and of the exceptions of its JSON library, and answers some mistakes of the caller
with status 500. Seen with llama.cpp's server, whose errors are ``{"error": {"code": 400, "message": …, "type": …}}``.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from noa.errors import AIProviderError, ProviderResponseError, UnsupportedError, ValidationError

_NO_EMBEDDINGS: Final = re.compile(r"does not support embeddings|Pooling type 'none'")
_ONLY_EMBEDDINGS: Final = re.compile(r"does not support (?:chat|completions?)")
_NO_MEDIA: Final = re.compile(r"(?i)(?P<kind>image|audio|video) input is not supported|does not support multimodal")
_JSON_EXCEPTION: Final = re.compile(r"\[json\.exception\.[\w.]+\]\s*")
_FIELD: Final = re.compile(r"^Field '(?P<name>[^']+)': ")
_MISSING: Final = re.compile(r"^key '(?P<name>[^']+)' not found")
#: Mistakes of the caller that the engine takes for its own.
_CALLERS_MISTAKE: Final = re.compile(r"^Failed to parse|json\.exception|^Invalid|^Expected|^Unsupported|^Unknown")


class _Problem(msgspec.Struct, frozen=True):
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    error: _Problem = _Problem()


def explain(error: AIProviderError, key: str) -> AIProviderError:
    """The error to raise for one that was read from the answer of the engine of ``key``.

    The engine's own bytes go no further: they are not in the form that OpenAI's clients read (``code`` is a number).
    """
    said = _said(error)
    error.upstream = None
    if said is None:
        return error
    told = _unsupported(said, key)
    if told is None and (_CALLERS_MISTAKE.search(said) or type(error) is ValidationError):
        told = _invalid(said, key)
    if told is None:
        return error
    told.provider = error.provider
    told.details = {**error.details, **told.details}
    return told


def _said(error: AIProviderError) -> str | None:
    """The engine's sentence, if this is an answer that blames the request."""
    if error.upstream is None or not isinstance(error, ValidationError | ProviderResponseError):
        return None
    try:
        return msgspec.json.decode(error.upstream.body, type=_Answer).error.message or None
    except msgspec.DecodeError:
        return None


def _unsupported(said: str, key: str) -> AIProviderError | None:
    if _NO_EMBEDDINGS.search(said):
        return UnsupportedError(f"{key} does not embed; load an embedding model.")
    if _ONLY_EMBEDDINGS.search(said):
        return UnsupportedError(f"{key} only embeds; load a model that chats.")
    if media := _NO_MEDIA.search(said):
        kind = (media["kind"] or "image").lower()
        return UnsupportedError(f"{key} takes no {kind} input; send text, or load a model that does.")
    return None


def _invalid(said: str, key: str) -> AIProviderError:
    sentence = _JSON_EXCEPTION.sub("", said).strip()
    if missing := _MISSING.match(sentence):
        name = missing["name"]
        return ValidationError(f"{key} cannot answer this: “{name}” is missing.", details={"param": name})
    details = {}
    if field := _FIELD.match(sentence):
        details["param"] = field["name"]
        sentence = f"“{field['name']}”: {sentence[field.end() :]}"
    sentence = " ".join(sentence.split())[:500].rstrip(".")
    return ValidationError(f"{key} refused the request: {sentence}.", details=details)
