"""What is known of a model: the most trusted word for each fact, and whose it is."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from noa.catalog.facts import CatalogFacts
from noa.config.known_models import KnownModel
from noa.facts import Background, contradicted, enrich, evidence_of
from noa.models import (
    CapabilityEvidence,
    EvidenceSource,
    FactSources,
    ModelCapability,
    ModelInfo,
    Price,
    PriceSource,
)
from noa.state import CapabilityProbed

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
EARLIER = datetime(2026, 11, 1, tzinfo=UTC)
CHAT, TOOLS, SIGHT = ModelCapability.CHAT_COMPLETION, ModelCapability.FUNCTION_CALLING, ModelCapability.VISION
LISTED = Price(input=3.0, output=9.0, source=PriceSource.CATALOG, as_of=date(2026, 10, 1))
AGREED = Price(input=1.0, output=2.0, source=PriceSource.CONFIGURED)


def model(**facts: object) -> ModelInfo:
    return ModelInfo(id="m", name="m", provider="p", **facts)  # type: ignore[arg-type]  # one table for all


def claim(capability: ModelCapability, source: EvidenceSource, *, supported: bool = True) -> CapabilityEvidence:
    return CapabilityEvidence(capability=capability, supported=supported, source=source)


def probe(capability: ModelCapability, *, supported: bool) -> CapabilityProbed:
    return CapabilityProbed(key="p:m", capability=capability, supported=supported, at=EARLIER, detail="seen")


def sources(known: ModelInfo) -> dict[str, tuple[bool, str]]:
    return {each.capability.value: (each.supported, each.source.value) for each in known.evidence}


def test_a_model_that_nobody_knows_stays_unknown() -> None:
    known = enrich(model(), at=AT)
    assert (known.capabilities, known.evidence, known.context_window, known.price) == ((), (), None, None)


def test_what_a_provider_says_without_a_source_is_its_declaration_of_that_moment() -> None:
    known = enrich(model(capabilities=(TOOLS, CHAT), context_window=10), at=AT)
    assert known.capabilities == (TOOLS, CHAT)
    assert known.evidence[0] == CapabilityEvidence(
        capability=TOOLS, supported=True, source=EvidenceSource.DECLARED, at=AT
    )
    assert known.sources == FactSources(context_window=EvidenceSource.DECLARED)


@pytest.mark.parametrize("most_trusted", range(6))
def test_of_those_who_say_something_of_a_capability_the_most_trusted_is_believed(most_trusted: int) -> None:
    order = [each.value for each in EvidenceSource]
    saying = order[most_trusted:]
    told = [claim(TOOLS, EvidenceSource(each)) for each in saying if each in ("declared", "metadata", "assumed")]
    told[:1] = [claim(TOOLS, each.source, supported=each.source != saying[0]) for each in told[:1]]
    known = enrich(
        model(evidence=tuple(told), capabilities=()),
        background=Background(
            configured=KnownModel(capabilities=()) if "configured" in saying else None,
            catalog=CatalogFacts(
                as_of=date(2026, 10, 1),
                lacks=(TOOLS,) if saying[0] == "catalog" else (),
                capabilities=() if saying[0] == "catalog" else (TOOLS,),
            )
            if "catalog" in saying
            else None,
        ),
        probed=[probe(TOOLS, supported=saying[0] != "probed")] if "probed" in saying else [],
        at=AT,
    )
    assert sources(known)["function_calling"] == (False, saying[0])
    assert TOOLS not in known.capabilities


def test_each_capability_is_judged_apart() -> None:
    known = enrich(
        model(evidence=(claim(CHAT, EvidenceSource.ASSUMED), claim(TOOLS, EvidenceSource.ASSUMED))),
        background=Background(catalog=CatalogFacts(as_of=date(2026, 10, 1), capabilities=(SIGHT,), lacks=(TOOLS,))),
        at=AT,
    )
    assert sources(known) == {
        "chat_completion": (True, "assumed"),
        "function_calling": (False, "catalog"),
        "vision": (True, "catalog"),
    }
    assert known.capabilities == (CHAT, SIGHT)


def test_every_line_of_evidence_is_dated() -> None:
    known = enrich(
        model(evidence=(claim(CHAT, EvidenceSource.METADATA),)),
        background=Background(catalog=CatalogFacts(as_of=date(2026, 10, 1), capabilities=(SIGHT,))),
        probed=[probe(TOOLS, supported=True)],
        at=AT,
    )
    assert {each.capability: each.at for each in known.evidence} == {
        CHAT: AT,
        SIGHT: datetime(2026, 10, 1, tzinfo=UTC),
        TOOLS: EARLIER,
    }


def test_what_a_user_lists_is_all_that_a_model_can_do() -> None:
    known = enrich(
        model(capabilities=(CHAT, TOOLS)), background=Background(configured=KnownModel(capabilities=(CHAT,))), at=AT
    )
    assert known.capabilities == (CHAT,)
    assert sources(known)["function_calling"] == (False, "configured")


def test_numbers_and_prices_follow_the_same_order() -> None:
    catalog = CatalogFacts(as_of=date(2026, 10, 1), context_window=300, max_tokens=30, price=LISTED)
    told = model(context_window=200, sources=FactSources(context_window=EvidenceSource.ASSUMED))
    known = enrich(told, background=Background(catalog=catalog), at=AT)
    assert (known.context_window, known.max_tokens, known.price) == (300, 30, LISTED)
    assert known.sources == FactSources(context_window=EvidenceSource.CATALOG, max_tokens=EvidenceSource.CATALOG)
    declared = enrich(model(context_window=200), background=Background(catalog=catalog), at=AT)
    assert (declared.context_window, declared.max_tokens) == (200, 30)
    configured = Background(configured=KnownModel(context_window=100, price=AGREED), catalog=catalog)
    own = enrich(model(context_window=200), background=configured, at=AT)
    assert (own.context_window, own.sources.context_window, own.price) == (100, EvidenceSource.CONFIGURED, AGREED)


def test_a_contradiction_names_who_said_otherwise() -> None:
    said = (claim(CHAT, EvidenceSource.DECLARED), claim(TOOLS, EvidenceSource.CATALOG))
    assert contradicted(said, probe(TOOLS, supported=False)) is said[1]
    assert contradicted(said, probe(TOOLS, supported=True)) is None
    assert contradicted(said, probe(SIGHT, supported=True)) is None


def test_a_probe_becomes_evidence_with_what_was_seen() -> None:
    assert evidence_of(probe(TOOLS, supported=False)) == CapabilityEvidence(
        capability=TOOLS, supported=False, source=EvidenceSource.PROBED, at=EARLIER, detail="seen"
    )
