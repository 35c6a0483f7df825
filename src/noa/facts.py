"""What is known of a model, brought together: for each fact the most trusted of those who say something of it.

Who is trusted before whom is the order of ``EvidenceSource``: the user, a probe, the provider, the weights file, the
catalogue, and last what a name suggests. Each fact is judged apart. What nobody says stays unknown, and a model that
nobody knows is served all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time

import msgspec

from noa.catalog.facts import CatalogFacts
from noa.config.known_models import KnownModel
from noa.models import CapabilityEvidence, EvidenceSource, FactSources, ModelCapability, ModelInfo
from noa.providers.protocol import Offer
from noa.state import CapabilityProbed

_TRUST = {source: rank for rank, source in enumerate(EvidenceSource)}
_ORDER = {capability: rank for rank, capability in enumerate(ModelCapability)}


class Background(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a model besides what its provider says: by the user, and by the catalogue."""

    configured: KnownModel | None = None
    catalog: CatalogFacts | None = None


#: Of a model that nobody else knows.
NOTHING = Background()
#: Looks up what the user and the catalogue say of a model, by provider and id.
Lookup = Callable[[str, str], Background]


def nothing_known(_provider: str, _model_id: str) -> Background:
    """A look-up that finds nothing."""
    return NOTHING


def enrich(
    model: ModelInfo,
    *,
    background: Background = NOTHING,
    probed: Iterable[CapabilityProbed] = (),
    at: datetime,
) -> ModelInfo:
    """The model with everything that is known of it, and where each fact comes from.

    ``model`` is what its provider said ``at`` that moment; what it gives no source for is its own declaration.
    """
    configured, catalog = background.configured, background.catalog
    sources = model.sources
    said = (*_configured(configured, at), *map(evidence_of, probed), *_told(model, at), *_catalogued(catalog))
    evidence = _most_trusted(said, first=model.capabilities)
    context_window, window_source = _number(
        (EvidenceSource.CONFIGURED, configured.context_window if configured else None),
        (sources.context_window or EvidenceSource.DECLARED, model.context_window),
        (EvidenceSource.CATALOG, catalog.context_window if catalog else None),
    )
    max_tokens, max_source = _number(
        (EvidenceSource.CONFIGURED, configured.max_tokens if configured else None),
        (sources.max_tokens or EvidenceSource.DECLARED, model.max_tokens),
        (EvidenceSource.CATALOG, catalog.max_tokens if catalog else None),
    )
    prices = (configured.price if configured else None, model.price, catalog.price if catalog else None)
    return msgspec.structs.replace(
        model,
        context_window=context_window,
        max_tokens=max_tokens,
        capabilities=tuple(each.capability for each in evidence if each.supported),
        evidence=evidence,
        sources=FactSources(context_window=window_source, max_tokens=max_source),
        price=next((price for price in prices if price is not None), None),
    )


def evidence_of(probe: CapabilityProbed) -> CapabilityEvidence:
    """What a probe found, as evidence."""
    return CapabilityEvidence(
        capability=probe.capability,
        supported=probe.supported,
        source=EvidenceSource.PROBED,
        at=probe.at,
        detail=probe.detail,
    )


def is_about(probe: CapabilityProbed, offer: Offer) -> bool:
    """Whether a probe was of what is offered now: another file of the same name is another model."""
    return (probe.file_bytes, probe.modified_ns) == (offer.size_bytes, offer.modified_ns)


def contradicted(before: Sequence[CapabilityEvidence], probe: CapabilityProbed) -> CapabilityEvidence | None:
    """Who said otherwise of what a probe has found; ``before`` is the evidence without probes."""
    return next(
        (each for each in before if each.capability is probe.capability and each.supported is not probe.supported), None
    )


def _most_trusted(
    said: Iterable[CapabilityEvidence], *, first: Sequence[ModelCapability]
) -> tuple[CapabilityEvidence, ...]:
    """One line for each capability, in the order of ``first`` and then in that of the enumeration."""
    best: dict[ModelCapability, CapabilityEvidence] = {}
    for each in sorted(said, key=lambda each: _TRUST[each.source]):
        best.setdefault(each.capability, each)
    place = {capability: rank - len(first) for rank, capability in enumerate(first)}
    return tuple(sorted(best.values(), key=lambda each: place.get(each.capability, _ORDER[each.capability])))


def _number(*said: tuple[EvidenceSource, int | None]) -> tuple[int | None, EvidenceSource | None]:
    known = [(number, source) for source, number in said if number is not None]
    return min(known, key=lambda each: _TRUST[each[1]], default=(None, None))


def _told(model: ModelInfo, at: datetime) -> Iterable[CapabilityEvidence]:
    for each in model.evidence:
        yield each if each.at is not None else msgspec.structs.replace(each, at=at)
    spoken_of = {each.capability for each in model.evidence}
    for capability in model.capabilities:
        if capability not in spoken_of:
            yield CapabilityEvidence(capability=capability, supported=True, source=EvidenceSource.DECLARED, at=at)


def _configured(facts: KnownModel | None, at: datetime) -> Iterable[CapabilityEvidence]:
    if facts is None or facts.capabilities is None:
        return
    for capability in ModelCapability:
        supported = capability in facts.capabilities
        yield CapabilityEvidence(capability=capability, supported=supported, source=EvidenceSource.CONFIGURED, at=at)


def _catalogued(facts: CatalogFacts | None) -> Iterable[CapabilityEvidence]:
    if facts is None:
        return
    at = _midnight(facts.as_of)
    for supported, capabilities in ((True, facts.capabilities), (False, facts.lacks)):
        for capability in capabilities:
            yield CapabilityEvidence(capability=capability, supported=supported, source=EvidenceSource.CATALOG, at=at)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
