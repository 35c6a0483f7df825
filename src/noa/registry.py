"""The in-memory index of known models: facts, figures, search. Where a model stands is the scheduler's alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from noa.errors import ModelNotFoundError, ValidationError
from noa.facts import Lookup, enrich, is_about, nothing_known
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


class Registry:
    """Every model that some provider offers, with what others know of it: ``lookup`` says that."""

    def __init__(self, status_of: StatusOf, lookup: Lookup = nothing_known) -> None:
        #: Grows whenever something about what is offered changes.
        self.revision = 0
        self._status_of = status_of
        self._lookup = lookup
        self._said: dict[str, Said] = {}
        self._probed: dict[str, dict[ModelCapability, CapabilityProbed]] = {}
        self._offers: dict[str, Offer] = {}
        self._departed: dict[str, Offer] = {}
        self._registered_at: dict[str, datetime] = {}
        self._figures: dict[str, Figures] = {}
        self._changed: set[str] = set()
        self._keys_by_id: dict[str, list[str]] = {}
        self._keys_by_provider: dict[str, list[str]] = {}

    # What providers say.

    def merge(self, provider: str, offers: Iterable[Offer], at: datetime) -> Merged:
        """Replace what a provider offers by what it says now."""
        self.revision += 1
        before = set(self._keys_by_provider.get(provider, ()))
        fresh = {model_key(provider, offer.model.id): offer for offer in offers}
        for key in before - fresh.keys():
            self._departed[key] = self._offers.pop(key)
            del self._said[key]
        updated = []
        for key, offer in fresh.items():
            known = self._offers.get(key)
            self._take(key, Said(offer=offer, at=at))
            if known is not None and _facts(known) != _facts(self._offers[key]):
                updated.append(key)
            self._departed.pop(key, None)
            self._registered_at.setdefault(key, at)
        self._keys_by_provider[provider] = list(fresh)
        self._index_ids()
        return Merged(added=tuple(fresh.keys() - before), removed=tuple(before - fresh.keys()), updated=tuple(updated))

    def amend(self, key: str, model: ModelInfo) -> None:
        """A provider said more of one model."""
        if key in self._said:
            said = self._said[key]
            self._take(key, Said(offer=msgspec.structs.replace(said.offer, model=model), at=said.at))

    def _take(self, key: str, said: Said) -> None:
        self.revision += 1
        self._said[key] = said
        self._offers[key] = self._enriched(said, self._probed.get(key, {}).values())

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
            self._take(key, self._said[key])

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
            for key, figures in self._figures.items()
            if key in changed
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

    def __len__(self) -> int:
        return len(self._offers)

    def __contains__(self, key: object) -> bool:
        return key in self._offers

    def __iter__(self) -> Iterator[str]:
        """Every key, in the order of the providers' listings."""
        return iter(self._offers)

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
        return [self._entry(key, offer) for key, offer in self._offers.items()]

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
        """The models that fit every condition given.

        ``name_pattern`` is a regular expression searched in id and name; a model of unknown context window fits no
        condition on it. ``tags`` are looked for in ``metadata['tags']``. Raises ``ValidationError`` for a bad pattern.
        """
        pattern = _pattern(name_pattern)
        wanted_tags = frozenset(tags)

        def fits(offer: Offer) -> bool:
            model = offer.model
            window = model.context_window
            return (
                (capability is None or capability in model.capabilities)
                and (min_context_window is None or (window is not None and window >= min_context_window))
                and (max_context_window is None or (window is not None and window <= max_context_window))
                and (pattern is None or bool(pattern.search(model.id) or pattern.search(model.name)))
                and wanted_tags <= _tags(model)
            )

        keys = self._offers if provider is None else self._keys_by_provider.get(provider, ())
        found = [self._entry(key, self._offers[key]) for key in keys if fits(self._offers[key])]
        return found if status is None else [entry for entry in found if entry.status is status]

    def counts(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """How many models by provider, by capability and by status."""
        providers = {provider: len(keys) for provider, keys in self._keys_by_provider.items()}
        capabilities = Counter(each.value for offer in self._offers.values() for each in offer.model.capabilities)
        statuses = Counter(self._status_of(key)[0].value for key in self._offers)
        return providers, dict(capabilities), dict(statuses)

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


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ValidationError(f"“{text}” is no regular expression: {error}.") from None


def _facts(offer: Offer) -> tuple[object, ...]:
    """What others go by; not why it is known, which has the time of the latest look in it."""
    model = offer.model
    return (
        *(model.name, model.context_window, model.max_tokens, frozenset(model.capabilities), model.price),
        *(offer.path, offer.size_bytes),
    )


def _tags(model: ModelInfo) -> frozenset[str]:
    tags = model.metadata.get("tags", ())
    return frozenset(str(tag) for tag in tags) if isinstance(tags, list | tuple) else frozenset()
