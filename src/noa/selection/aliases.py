"""What a name means: a key, an alias, or a bare model id; and what may be an alias."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from noa.errors import AIProviderError, ConfigurationError, ModelNotFoundError, ValidationError
from noa.models import model_key
from noa.selection.wish import is_auto

#: The reserved alias for the model in use.
CURRENT = "current"
#: Words that stand where a name could in the paths of the management API, so that a model of that name had none.
ROUTE_WORDS: Final = frozenset({"loaded", "statistics", "load", "unload", "switch", "discover", "save-state", "select"})

#: Of more models than this an unknown id is compared with that many whose ids begin like it, with as many characters.
MOST_COMPARED: Final = 1_000
BEGINNING: Final = 3

_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What a name is looked up in.

    ``providers`` maps every name of every known provider to the canonical one. ``configured`` are those that are set
    up here, ``advice`` says for each of the others what to set. ``keys_by_id`` maps a bare model id to its keys.
    """

    providers: Mapping[str, str]
    configured: Collection[str]
    advice: Mapping[str, str]
    keys: Collection[str]
    keys_by_id: Mapping[str, Sequence[str]]
    aliases: Collection[str]


def resolve(name: str | None, names: Names) -> str:
    """The alias or key that ``name`` means. ``None`` and the empty string mean ``current``.

    A name is split at its first separator (``:``, or ``/`` as some write it) only if what stands left of it is a known
    provider; if that is not set up, only if the whole is nobody's bare id. Raises ``ConfigurationError`` for a provider
    that is known but not set up, ``ValidationError`` for a bare id that several providers have or for ``auto``, and
    ``ModelNotFoundError`` otherwise.
    """
    if not name or name == CURRENT:
        return CURRENT
    if is_auto(name):
        raise ValidationError(
            f"“{name[:80]}” is no model: it lets Noa choose one for each request. Ask for it where a request names "
            "its model, or see what would be chosen: noa select"
        )
    if name in names.aliases or name in names.keys:
        return name
    for separator in ":/":
        prefix, found, model_id = name.partition(separator)
        if found and model_id and prefix in names.providers:
            provider = names.providers[prefix]
            # Aggregators' and Ollama's ids begin with vendors' names: “mistral/large”, “mistral:7b”.
            if provider not in names.configured and name in names.keys_by_id:
                break
            return _of_provider(provider, model_id, names)
    return _bare(name, names)


def canonical_name(name: str, providers: Mapping[str, str]) -> str:
    """A name in the form in which keys are written, if it begins with a provider's name; any other as it stands.

    ``providers`` maps every name of every known provider to the canonical one.
    """
    for separator in ":/":
        prefix, found, model_id = name.partition(separator)
        if found and model_id and prefix in providers:
            return model_key(providers[prefix], model_id)
    return name


def check_alias(name: str, providers: Collection[str]) -> None:
    """Raise ``ValidationError`` if this may not be an alias. ``providers`` are all names of all known providers."""
    if not _ALIAS.fullmatch(name):
        raise ValidationError(
            f"“{name[:80]}” cannot be an alias: it takes 1 to 64 of a-z, 0-9, “.”, “_” and “-”, and begins with a "
            "letter or a digit.",
            details={"field": "name"},
        )
    if name in providers:
        raise ValidationError(f"“{name}” cannot be an alias: it is a provider’s name.", details={"field": "name"})
    if name.startswith("auto") or name in ROUTE_WORDS:
        raise ValidationError(f"“{name}” cannot be an alias: Noa uses the name itself.", details={"field": "name"})


def _of_provider(provider: str, model_id: str, names: Names) -> str:
    if provider not in names.configured:
        raise ConfigurationError(f"{provider} is not set up: {names.advice[provider]}", provider=provider)
    key = model_key(provider, model_id)
    if key in names.keys:
        return key
    others = [each for each in names.keys_by_id.get(model_id, ()) if each.startswith(f"{provider}:")]
    if len(others) == 1:
        return others[0]
    raise _not_found(f"{provider} has no model “{model_id}”", model_id, provider, names)


def _bare(name: str, names: Names) -> str:
    keys = names.keys_by_id.get(name, ())
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise ValidationError(f"“{name}” is offered more than once; say which: {', '.join(sorted(keys))}.")
    raise _not_found(f"There is no model “{name}”", name, None, names)


def _comparable(model_id: str, provider: str | None, names: Names) -> Mapping[str, str]:
    """The keys by the ids that may be meant by one that nobody has: to compare very many would hold everybody up."""
    theirs = "" if provider is None else f"{provider}:"
    if len(names.keys) <= MOST_COMPARED:
        return {key.partition(":")[2]: key for key in names.keys if key.startswith(theirs)}
    alike = (each for each in names.keys_by_id if each.startswith(model_id[:BEGINNING]))
    return {
        each: key
        for each in itertools.islice(alike, MOST_COMPARED)
        for key in names.keys_by_id[each]
        if key.startswith(theirs)
    }


def _not_found(sentence: str, model_id: str, provider: str | None, names: Names) -> AIProviderError:
    by_id = _comparable(model_id, provider, names)
    begun = [key for each, key in by_id.items() if model_id and each.startswith(model_id)]
    close = begun if len(begun) == 1 else [by_id[each] for each in difflib.get_close_matches(model_id, by_id, n=3)]
    hint = f"; did you mean {' or '.join(close)}?" if close else ". See what there is with: noa ls"
    return ModelNotFoundError(sentence + hint, provider=provider, details={"suggestions": close})
