"""Which models meet which conditions, found without looking at every one of them. Pure.

What is asked for most, the provider and what a model can do, is looked up; all other conditions are tried on what that
leaves, one model after the other and only as far as somebody reads on. So a page of a list costs what is on it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from noa.errors import ValidationError
from noa.models import ModelCapability, ModelInfo, ModelStatus, split_key

#: How many changes of single models are remembered.
REMEMBERED_CHANGES: Final = 256


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a model; what is not given asks nothing.

    ``name_pattern`` is a regular expression searched in id and name; a model of unknown context window fits no
    condition on it. ``tags`` are looked for in ``metadata['tags']``. ``status`` is known to the registry alone.
    """

    provider: str | None = None
    capability: ModelCapability | None = None
    status: ModelStatus | None = None
    min_context_window: int | None = None
    max_context_window: int | None = None
    name_pattern: str | None = None
    tags: frozenset[str] = frozenset()


class ModelIndex:
    """The keys of all models: of each provider in the order of its listing, and the providers as they came.

    ``model`` is what is known of a key's model.
    """

    def __init__(self, model: Callable[[str], ModelInfo]) -> None:
        #: Grows whenever something about what is listed changes.
        self.revision = 0
        self._model = model
        self._listings: dict[str, _Listing] = {}
        self._changed: deque[str] = deque(maxlen=REMEMBERED_CHANGES)

    # What changes.

    def relist(self, provider: str, models: Mapping[str, ModelInfo], changed: Collection[str]) -> None:
        """These, by key, are the provider's from now on; ``changed`` came, have gone, or are known otherwise."""
        self._listings[provider] = _Listing(models)
        self.revision += len(changed)
        self._changed.extend(changed)

    def forget(self, provider: str) -> None:
        """There is no such provider any more."""
        if self._listings.pop(provider, None) is not None:
            self.revision += 1
            self._changed.clear()

    def change(self, key: str, before: Collection[ModelCapability]) -> None:
        """Another thing is known of a listed model; ``before`` is what it could do until now."""
        self._listings[split_key(key)[0]].change(key, before, self._model(key).capabilities)
        self.revision += 1
        self._changed.append(key)

    def changed_since(self, revision: int) -> Collection[str] | None:
        """The models of which another thing is known than at an earlier ``revision``, or nothing any more.

        ``None`` if it may be any.
        """
        missed = self.revision - revision
        return None if missed > len(self._changed) else {*islice(reversed(self._changed), missed)}

    # What is asked.

    def keys(self, provider: str | None = None) -> Iterator[str]:
        """Every key, or every key of a provider."""
        for listing in self._of(provider):
            yield from listing.keys

    def find(self, conditions: Conditions, after: str | None = None) -> Iterator[str]:
        """The keys of the models that fit, of those that stand after the listed model ``after`` if that is given.

        Raises ``ValidationError`` for a bad pattern, at once.
        """
        return self._fitting(self._listed(conditions, after), _test(conditions))

    def among(self, keys: Iterable[str], conditions: Conditions) -> list[str]:
        """The same of these only, whether or not they are keys of listed models."""
        places = {provider: place for place, provider in enumerate(self._listings)}
        found = list[tuple[int, int, str]]()
        for key in keys:
            provider = key.partition(":")[0]
            place = self._listings[provider].places.get(key) if provider in places else None
            if place is not None and conditions.provider in (None, provider) and self._can(key, conditions.capability):
                found.append((places[provider], place, key))
        return [*self._fitting((key for _, _, key in sorted(found)), _test(conditions))]

    def count(self, provider: str) -> int:
        """How many models a provider has."""
        return sum(len(listing.keys) for listing in self._of(provider))

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many models by provider and by capability."""
        able: Counter[str] = Counter()
        for listing in self._listings.values():
            able.update({capability.value: len(places) for capability, places in listing.able.items() if places})
        return {provider: len(listing.keys) for provider, listing in self._listings.items()}, dict(able)

    def _of(self, provider: str | None) -> Collection[_Listing]:
        if provider is None:
            return self._listings.values()
        return [self._listings[provider]] if provider in self._listings else []

    def _listed(self, conditions: Conditions, after: str | None) -> Iterator[str]:
        passed = after is None
        for listing in self._of(conditions.provider):
            begin = 0
            if not passed:
                if after not in listing.places:
                    continue
                passed, begin = True, listing.places[after] + 1
            yield from listing.able_to(conditions.capability, begin)

    def _fitting(self, keys: Iterator[str], test: Callable[[ModelInfo], bool] | None) -> Iterator[str]:
        return keys if test is None else (key for key in keys if test(self._model(key)))

    def _can(self, key: str, capability: ModelCapability | None) -> bool:
        return capability is None or capability in self._model(key).capabilities


class _Listing:
    """The models of one provider, in the order in which it lists them; ``able`` has the places of those that can."""

    def __init__(self, models: Mapping[str, ModelInfo]) -> None:
        self.keys = list(models)
        self.places = {key: place for place, key in enumerate(self.keys)}
        self.able: dict[ModelCapability, list[int]] = {}
        for place, model in enumerate(models.values()):
            for capability in model.capabilities:
                self.able.setdefault(capability, []).append(place)

    def change(self, key: str, before: Collection[ModelCapability], now: Collection[ModelCapability]) -> None:
        place = self.places[key]
        for capability in set(before).difference(now):
            places = self.able[capability]
            del places[bisect_left(places, place)]
        for capability in set(now).difference(before):
            insort(self.able.setdefault(capability, []), place)

    def able_to(self, capability: ModelCapability | None, begin: int) -> Iterator[str]:
        """The keys from a place on, of all or of those that can do it."""
        if capability is None:
            return (self.keys[place] for place in range(begin, len(self.keys)))
        places = self.able.get(capability, [])
        return (self.keys[places[number]] for number in range(bisect_left(places, begin), len(places)))


def _test(conditions: Conditions) -> Callable[[ModelInfo], bool] | None:
    """What is left to ask of a model that is of the provider and has the capability; ``None`` if nothing is."""
    pattern = _pattern(conditions.name_pattern)
    least, most, tags = conditions.min_context_window, conditions.max_context_window, conditions.tags
    if pattern is None and least is None and most is None and not tags:
        return None

    def fits(model: ModelInfo) -> bool:
        window = model.context_window
        return (
            (least is None or (window is not None and window >= least))
            and (most is None or (window is not None and window <= most))
            and (pattern is None or bool(pattern.search(model.id) or pattern.search(model.name)))
            and (not tags or tags <= _tags(model))
        )

    return fits


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ValidationError(f"“{text}” is no regular expression: {error}.") from None


def _tags(model: ModelInfo) -> frozenset[str]:
    tags = model.metadata.get("tags", ())
    return frozenset(str(tag) for tag in tags) if isinstance(tags, list | tuple) else frozenset()
