"""The in-memory index of known models: facts, figures, search. Where a model stands is the scheduler's alone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from noa.errors import ModelNotFoundError, ValidationError
from noa.facts import Lookup, enrich, is_about, nothing_known
from noa.model_index import Conditions, ModelIndex
from noa.models import (
    CapabilityEvidence,
    ModelCapability,
    ModelInfo,
    ModelStatus,
    PerformanceMetrics,
    RegistryEntry,
    model_key,
)
from noa.providers.protocol import Locality, Offer
from noa.selection.aliases import Names, resolve
from noa.state import CapabilityProbed, ModelUsage

#: Says where a model stands and, if it failed, why.
StatusOf = Callable[[str], tuple[ModelStatus, str | None]]
#: The keys of all that ever were loaded, or began to be: of many, the few that do not just stand by as available.
Begun = Callable[[], Collection[str]]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a model's use."""

    metrics: PerformanceMetrics | None = None
    access_count: int = 0
    last_accessed: datetime | None = None


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What a discovery changed: the keys that came, those that went, and those of which something else is known now."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    updated: tuple[str, ...] = ()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's own words of a model, and when it said them."""

    offer: Offer
    at: datetime


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the models that a search found. ``more`` says that there are others after them."""

    entries: list[RegistryEntry]
    more: bool = False


class Registry:
    """Every model that some provider offers, with what others know of it: ``lookup`` says that."""

    def __init__(self, status_of: StatusOf, begun: Begun, lookup: Lookup = nothing_known) -> None:
        self._status_of = status_of
        self._begun = begun
        self._lookup = lookup
        self._said: dict[str, Said] = {}
        self._probed: dict[str, dict[ModelCapability, CapabilityProbed]] = {}
        self._offers: dict[str, Offer] = {}
        self._departed: dict[str, Offer] = {}
        self._registered_at: dict[str, datetime] = {}
        self._figures: dict[str, Figures] = {}
        self._changed: set[str] = set()
        self._keys_by_id: dict[str, list[str]] = {}
        self._oldest: tuple[int, datetime | None] = (0, None)
        self._index = ModelIndex(lambda key: self._offers[key].model)

    # What providers say.

    def merge(self, provider: str, offers: Iterable[Offer], at: datetime) -> Merged:
        """Replace what a provider offers by what it says now."""
        before = [*self._index.keys(provider)]
        fresh = {model_key(provider, offer.model.id): offer for offer in offers}
        removed = set(before).difference(fresh)
        for key in removed:
            self._departed[key] = self._offers.pop(key)
            del self._said[key]
        known = {key: self._offers[key] for key in fresh if key in self._offers}
        for key, offer in fresh.items():
            self._take(key, Said(offer=offer, at=at))
            self._departed.pop(key, None)
            self._registered_at.setdefault(key, at)
        updated = [key for key, offer in known.items() if _facts(offer) != _facts(self._offers[key])]
        # Files are looked at every second, and are mostly the same: that must not cost what all models cost.
        added = tuple(fresh.keys() - known.keys())
        if before != [*fresh]:
            listed = {key: self._offers[key].model for key in fresh}
            self._index.relist(provider, listed, [*added, *removed, *updated])
        else:
            self._changed_from((key, known[key]) for key in updated)
        if added or removed or any(_ids(known[key]) != _ids(fresh[key]) for key in known):
            self._index_ids()
        return Merged(added=added, removed=tuple(removed), updated=tuple(updated))

    def drop(self, provider: str) -> tuple[str, ...]:
        """There is no such provider any more. Gives the keys of what it had."""
        removed = self.merge(provider, (), datetime.now(UTC)).removed
        self._index.forget(provider)
        return removed

    def look_up_by(self, lookup: Lookup, changed: Iterable[str]) -> None:
        """Have this say from now on what others know of a model; it says something else of those that ``changed``."""
        self._lookup = lookup
        for key in self._said.keys() & set(changed):
            known = self._offers[key]
            self._take(key, self._said[key])
            self._changed_from([(key, known)])

    def amend(self, key: str, model: ModelInfo) -> None:
        """A provider said more of one model."""
        if key in self._said:
            said, known = self._said[key], self._offers[key]
            self._take(key, Said(offer=msgspec.structs.replace(said.offer, model=model), at=said.at))
            self._changed_from([(key, known)])

    def _take(self, key: str, said: Said) -> None:
        self._said[key] = said
        self._offers[key] = self._enriched(said, self._probed.get(key, {}).values())

    def _changed_from(self, known: Iterable[tuple[str, Offer]]) -> None:
        """Note which of these are offered as something else now."""
        for key, offer in known:
            if _facts(offer) != _facts(self._offers[key]):
                self._index.change(key, offer.model.capabilities)

    def _enriched(self, said: Said, probed: Iterable[CapabilityProbed]) -> Offer:
        offer, model = said.offer, said.offer.model
        counted = [probe for probe in probed if is_about(probe, offer)]
        background = self._lookup(model.provider, model.id)
        return msgspec.structs.replace(offer, model=enrich(model, background=background, probed=counted, at=said.at))

    # What probes have shown.

    def prove(self, probes: Iterable[CapabilityProbed]) -> None:
        """Let these count from now on, each instead of an earlier one of its model and capability."""
        changed = set()
        for probe in probes:
            self._probed.setdefault(probe.key, {})[probe.capability] = probe
            changed.add(probe.key)
        for key in changed & self._said.keys():
            known = self._offers[key]
            self._take(key, self._said[key])
            self._changed_from([(key, known)])

    def claims(self, key: str) -> tuple[CapabilityEvidence, ...]:
        """The evidence for what a model can do, probes left out. Raises ``ModelNotFoundError``."""
        self.offer(key)
        return self._enriched(self._said[key], ()).model.evidence

    def _index_ids(self) -> None:
        self._keys_by_id = {}
        for key, offer in self._offers.items():
            self._keys_by_id.setdefault(offer.model.id, []).append(key)
        exact = set(self._keys_by_id)
        for key, offer in self._offers.items():
            for other in set(offer.other_ids) - exact:
                self._keys_by_id.setdefault(other, []).append(key)

    # What was measured.

    def touch(self, key: str, at: datetime) -> None:
        """Somebody used the model."""
        self._changed.add(key)
        figures = self._figures.get(key, Figures())
        self._figures[key] = msgspec.structs.replace(figures, access_count=figures.access_count + 1, last_accessed=at)

    def restore(self, usage: Iterable[ModelUsage]) -> None:
        """Take over what was written of the models' use before a restart."""
        for each in usage:
            self._figures[each.key] = Figures(
                metrics=each.metrics, access_count=each.access_count, last_accessed=each.last_accessed
            )

    def unwritten_usage(self) -> list[ModelUsage]:
        """What changed of the models' use since this was last asked."""
        changed, self._changed = self._changed, set()
        return [
            ModelUsage(
                key=key,
                metrics=figures.metrics or PerformanceMetrics(),
                access_count=figures.access_count,
                last_accessed=figures.last_accessed,
            )
            for key in changed
            if (figures := self._figures.get(key)) is not None
        ]

    def write_again(self, usage: Iterable[ModelUsage]) -> None:
        """These could not be written."""
        self._changed |= {each.key for each in usage}

    def put_metrics(self, key: str, metrics: PerformanceMetrics) -> None:
        """Set a model's performance figures."""
        self._changed.add(key)
        self._figures[key] = msgspec.structs.replace(self._figures.get(key, Figures()), metrics=metrics)

    def figures(self, key: str) -> Figures:
        """What is remembered of a model's use."""
        return self._figures.get(key, Figures())

    @property
    def all_figures(self) -> Mapping[str, Figures]:
        """What is remembered of every model's use."""
        return self._figures

    # Questions.

    @property
    def revision(self) -> int:
        """Grows whenever something about what is offered changes."""
        return self._index.revision

    def changed_since(self, revision: int) -> Collection[str] | None:
        """The models of which another thing is known than at an earlier ``revision``; ``None`` if it may be any."""
        return self._index.changed_since(revision)

    def registered_at(self, key: str) -> datetime:
        """Since when an offered model is known."""
        return self._registered_at[key]

    @property
    def oldest(self) -> datetime | None:
        """Since when the model that is known for the longest time is known, if there is any."""
        revision, since = self._oldest
        if revision != self.revision:
            since = min((self._registered_at[key] for key in self._offers), default=None)
            self._oldest = (self.revision, since)
        return since

    def __len__(self) -> int:
        return len(self._offers)

    def __contains__(self, key: object) -> bool:
        return key in self._offers

    def __iter__(self) -> Iterator[str]:
        """Every key, in the order of the providers' listings."""
        return self._index.keys()

    def offer(self, key: str) -> Offer:
        """The provider's own words. Raises ``ModelNotFoundError``."""
        try:
            return self._offers[key]
        except KeyError:
            raise ModelNotFoundError(f"No provider offers “{key}” now. See what there is with: noa ls") from None

    def last_offer(self, key: str) -> Offer:
        """The same of a model that is in use, even if its provider does not list it any more."""
        return self._departed[key] if key in self._departed else self.offer(key)

    def last_path(self, key: str) -> str | None:
        """The weights file of a model that is offered no longer, as it was."""
        return self._departed[key].path if key in self._departed else None

    def get(self, key: str) -> RegistryEntry | None:
        """One model, or ``None`` if it is unknown."""
        return self._entry(key, self._offers[key]) if key in self._offers else None

    def resolve(self, name: str | None, names: Callable[[Mapping[str, Sequence[str]]], Names]) -> str:
        """The alias or key that a name means; ``names`` adds what the registry does not know."""
        return resolve(name, names(self._keys_by_id))

    def models(self) -> list[RegistryEntry]:
        """Every known model."""
        return [self._entry(key, self._offers[key]) for key in self]

    def models_by_capability(self, capability: ModelCapability) -> list[RegistryEntry]:
        """The models that can do it."""
        return self.search(capability=capability)

    def search(
        self,
        *,
        provider: str | None = None,
        capability: ModelCapability | None = None,
        status: ModelStatus | None = None,
        min_context_window: int | None = None,
        max_context_window: int | None = None,
        name_pattern: str | None = None,
        tags: Iterable[str] = (),
    ) -> list[RegistryEntry]:
        """The models that fit every condition given (see ``Conditions``).

        Raises ``ValidationError`` for a bad pattern.
        """
        conditions = Conditions(
            provider=provider,
            capability=capability,
            status=status,
            min_context_window=min_context_window,
            max_context_window=max_context_window,
            name_pattern=name_pattern,
            tags=frozenset(tags),
        )
        return [self._entry(key, self._offers[key]) for key in self._find(conditions)]

    def page(self, conditions: Conditions, *, limit: int | None = None, after: str | None = None) -> Page:
        """At most ``limit`` of the models that fit; those that stand after the model ``after``, which must fit as well.

        Takes no longer where there are very many. Raises ``ValidationError`` for a bad pattern, or an ``after`` that
        does not fit (any more).
        """
        if after is not None and not self._among([after], conditions):
            raise ValidationError("cursor is none of this list; begin again without it.", details={"field": "cursor"})
        keys = self._find(conditions, after)
        shown = [*itertools.islice(keys, limit)]
        return Page(entries=[self._entry(key, self._offers[key]) for key in shown], more=next(keys, None) is not None)

    def used(self, capability: ModelCapability) -> list[RegistryEntry]:
        """Those of the models that can do it of which something was measured, or that somebody has used."""
        keys = self._index.among(self._figures, Conditions(capability=capability))
        return [self._entry(key, self._offers[key]) for key in keys]

    def _find(self, conditions: Conditions, after: str | None = None) -> Iterator[str]:
        status = conditions.status
        if status is None or status is ModelStatus.AVAILABLE:
            begun = () if status is None else self._begun()
            return (
                key
                for key in self._index.find(conditions, after)
                if key not in begun or self._status_of(key)[0] is status
            )
        found = self._among(self._begun(), conditions)
        return iter(found[found.index(after) + 1 :] if after is not None else found)

    def _among(self, keys: Iterable[str], conditions: Conditions) -> list[str]:
        found = self._index.among(keys, conditions)
        status = conditions.status
        return found if status is None else [key for key in found if self._status_of(key)[0] is status]

    def count(self, provider: str) -> int:
        """How many models a provider has."""
        return self._index.count(provider)

    def counts(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """How many models by provider, by capability and by status."""
        statuses = Counter(self._status_of(key)[0].value for key in self._begun() if key in self._offers)
        if standing_by := len(self._offers) - statuses.total():
            statuses[ModelStatus.AVAILABLE.value] += standing_by
        return *self._index.counts(), dict(statuses)

    def _entry(self, key: str, offer: Offer) -> RegistryEntry:
        status, error = self._status_of(key)
        figures = self.figures(key)
        model = offer.model
        return RegistryEntry(
            key=key,
            id=model.id,
            name=model.name,
            provider=model.provider,
            context_window=model.context_window,
            max_tokens=model.max_tokens,
            capabilities=model.capabilities,
            metadata=model.metadata,
            status=status,
            registered_at=self._registered_at[key],
            last_accessed=figures.last_accessed,
            access_count=figures.access_count,
            performance_metrics=figures.metrics,
            file_path=offer.path if offer.locality is Locality.OWNED else None,
            file_size=offer.size_bytes,
            checksum=None,
            error=error,
            evidence=model.evidence,
            sources=model.sources,
            price=model.price,
        )


def _facts(offer: Offer) -> tuple[object, ...]:
    """What others go by; not why it is known, which has the time of the latest look in it."""
    model = offer.model
    return (
        *(model.name, model.context_window, model.max_tokens, frozenset(model.capabilities), model.price),
        *(offer.path, offer.size_bytes),
    )


def _ids(offer: Offer) -> tuple[str, tuple[str, ...]]:
    """What a model goes by at its provider."""
    return offer.model.id, offer.other_ids
