"""The other names under which a service serves a model that it also lists under a plain one. Pure.

Only forms that the services document, and in which the plain name is the same model at the same price. Nothing is
guessed from likeness: a fine-tuned model (``ft:gpt-4o:…``), a variant (``:free``, ``-fast``) or a relative costs
something else, so each of them is known by its own name or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: A dated snapshot: ``-2024-08-06`` as OpenAI has it, ``-20241022`` as Anthropic has it.
_DATED = re.compile(r"(?P<plain>.+)-20\d{2}(?:-\d{2}-\d{2}|\d{4})")
#: Google numbers the stable versions of a model: ``gemini-2.0-flash-001``
#: (https://ai.google.dev/gemini-api/docs/models#model-versions).
_NUMBERED = re.compile(r"(?P<plain>gemini-.+)-\d{3}")


def undated(model_id: str) -> str:
    """The id without the date of a snapshot at its end."""
    match = _DATED.fullmatch(model_id)
    return match["plain"] if match else model_id


def plain_names(service: str, model_id: str) -> Iterator[str]:
    """The names to look a model up by, the most exact first."""
    yield model_id
    # Gemini's listing has a collection's name before each id, and its compatible address takes both.
    bare = model_id.removeprefix("models/") if service == "google" else model_id
    if bare != model_id:
        yield bare
    if service == "google" and (match := _NUMBERED.fullmatch(bare)):
        yield match["plain"]
    if (plain := undated(bare)) != bare:
        yield plain
