"""The registry holds what providers say, finds it again, and remembers figures across restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import msgspec
import pytest

from noa.catalog.facts import CatalogFacts
from noa.errors import ModelNotFoundError, ValidationError
from noa.facts import Background
from noa.models import ModelCapability, ModelInfo, ModelStatus, PerformanceMetrics
from noa.providers.protocol import Locality, Offer
from noa.registry import Registry
from noa.selection.aliases import Names
from noa.state import CapabilityProbed

THEN = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def offer(
    model_id: str,
    provider: str = "fake",
    *,
    window: int | None = None,
    can: tuple[ModelCapability, ...] = (),
    tags: object = (),
) -> Offer:
    return Offer(
        model=ModelInfo(
            id=model_id,
            name=model_id.title(),
            provider=provider,
            context_window=window,
            capabilities=can,
            metadata={"tags": tags},
        )
    )


def registry_with(*offers: Offer, status: ModelStatus = ModelStatus.AVAILABLE) -> Registry:
    keys = [each.model.key for each in offers]
    registry = Registry(lambda _key: (status, None), lambda: keys if status is not ModelStatus.AVAILABLE else [])
    for provider in {each.model.provider for each in offers}:
        registry.merge(provider, [each for each in offers if each.model.provider == provider], THEN)
    return registry


def found(registry: Registry, **conditions: object) -> list[str]:
    return sorted(entry.key for entry in registry.search(**conditions))  # type: ignore[arg-type]  # one table for all


def test_a_merge_replaces_what_one_provider_offers_and_says_what_changed() -> None:
    registry = registry_with(offer("a"), offer("b"), offer("c", "other"))
    merged = registry.merge("fake", [offer("b"), offer("d")], LATER)
    assert merged.added == ("fake:d",)
    assert merged.removed == ("fake:a",)
    assert sorted(registry) == ["fake:b", "fake:d", "other:c"]
    assert "fake:a" not in registry
    assert registry.get("fake:a") is None


def test_a_merge_says_of_which_models_something_else_is_known_now() -> None:
    registry = registry_with(offer("a"), offer("b", window=100), offer("c", can=(ModelCapability.EMBEDDINGS,)))
    fresh = [offer("a"), offer("b", window=200), offer("c", can=(ModelCapability.VISION,)), offer("d")]
    assert registry.merge("fake", fresh, LATER).updated == ("fake:b", "fake:c")
    assert registry.merge("fake", fresh, LATER).updated == ()


def test_the_moment_of_registration_outlives_later_discoveries() -> None:
    registry = registry_with(offer("a"))
    registry.merge("fake", [offer("a", window=10)], LATER)
    entry = registry.get("fake:a")
    assert entry is not None
    assert entry.registered_at == THEN
    assert entry.context_window == 10


def test_a_model_that_is_in_use_is_known_though_its_provider_lists_it_no_longer() -> None:
    registry = registry_with(offer("a"))
    registry.merge("fake", [], LATER)
    assert registry.last_offer("fake:a").model.id == "a"
    with pytest.raises(ModelNotFoundError, match="fake:a"):
        registry.offer("fake:a")
    registry.merge("fake", [offer("a", window=5)], LATER)
    assert registry.last_offer("fake:a").model.context_window == 5


def test_a_provider_may_say_more_of_one_model_later() -> None:
    registry = registry_with(offer("a"))
    registry.amend("fake:a", offer("a", window=7).model)
    assert registry.offer("fake:a").model.context_window == 7
    registry.amend("fake:gone", offer("gone").model)
    assert "fake:gone" not in registry


def test_the_file_is_shown_of_owned_models_only() -> None:
    remote = offer("far")
    owned = Offer(model=ModelInfo(id="near", name="near", provider="fake"), locality=Locality.OWNED, path="near.gguf")
    registry = registry_with(remote, owned)
    entries = {entry.id: entry.file_path for entry in registry.models()}
    assert entries == {"far": None, "near": "near.gguf"}


@pytest.mark.parametrize(
    ("conditions", "keys"),
    [
        ({}, ["fake:big", "fake:small", "other:unknown"]),
        ({"provider": "fake"}, ["fake:big", "fake:small"]),
        ({"provider": "nobody"}, []),
        ({"capability": ModelCapability.VISION}, ["fake:big"]),
        ({"min_context_window": 1000}, ["fake:big"]),
        ({"max_context_window": 1000}, ["fake:small"]),
        ({"name_pattern": "^SM"}, ["fake:small"]),
        ({"tags": ["fast"]}, ["fake:small"]),
        ({"tags": ["fast", "dear"]}, []),
        ({"status": ModelStatus.AVAILABLE, "provider": "other"}, ["other:unknown"]),
        ({"status": ModelStatus.LOADED}, []),
    ],
)
def test_a_search_finds_what_fits_every_condition(conditions: dict[str, object], keys: list[str]) -> None:
    registry = registry_with(
        offer("small", window=500, tags=["fast", "cheap"]),
        offer("big", window=9000, can=(ModelCapability.VISION,), tags="fast"),
        offer("unknown", "other"),
    )
    assert found(registry, **conditions) == keys


def test_a_bad_pattern_is_the_callers_mistake() -> None:
    with pytest.raises(ValidationError, match="no regular expression"):
        registry_with(offer("a")).search(name_pattern="(")


def test_figures_go_to_disk_and_back() -> None:
    registry = registry_with(offer("a"))
    registry.touch("fake:a", THEN)
    registry.touch("fake:a", LATER)
    registry.put_metrics("fake:a", PerformanceMetrics(total_inferences=2, average_latency=5.0))
    other = registry_with(offer("a"))
    other.restore(registry.unwritten_usage())
    assert registry.unwritten_usage() == []
    entry = other.get("fake:a")
    assert entry is not None
    assert (entry.access_count, entry.last_accessed) == (2, LATER)
    assert entry.performance_metrics == PerformanceMetrics(total_inferences=2, average_latency=5.0)


def test_counts_are_by_provider_capability_and_status() -> None:
    vision = (ModelCapability.VISION,)
    registry = registry_with(offer("a", can=vision), offer("b", can=vision), offer("c", "other"))
    assert registry.counts() == ({"fake": 2, "other": 1}, {"vision": 2}, {"available": 3})


# What others know of the models.

TOOLS = ModelCapability.FUNCTION_CALLING


def probe_of(key: str, *, supported: bool, modified_ns: int | None = None) -> CapabilityProbed:
    return CapabilityProbed(key=key, capability=TOOLS, supported=supported, at=LATER, modified_ns=modified_ns)


def capabilities(registry: Registry, key: str) -> tuple[ModelCapability, ...]:
    entry = registry.get(key)
    assert entry is not None
    return entry.capabilities


def test_what_the_catalogue_knows_is_part_of_a_model_and_found_by() -> None:
    known = CatalogFacts(as_of=date(2026, 1, 1), context_window=9, capabilities=(ModelCapability.VISION,))
    registry = Registry(
        lambda _key: (ModelStatus.AVAILABLE, None),
        tuple,
        lambda provider, model_id: Background(catalog=known if (provider, model_id) == ("fake", "a") else None),
    )
    registry.merge("fake", [offer("a"), offer("b")], THEN)
    assert found(registry, capability=ModelCapability.VISION, min_context_window=9) == ["fake:a"]
    registry.amend("fake:a", offer("a", window=7).model)
    assert found(registry, capability=ModelCapability.VISION) == ["fake:a"]
    assert registry.offer("fake:a").model.context_window == 7


def test_what_a_probe_has_shown_counts_at_once_and_after_every_discovery() -> None:
    registry = registry_with(offer("a", can=(TOOLS,)))
    registry.prove([probe_of("fake:a", supported=False), probe_of("fake:gone", supported=True)])
    assert capabilities(registry, "fake:a") == ()
    registry.merge("fake", [offer("a", can=(TOOLS,))], LATER)
    assert capabilities(registry, "fake:a") == ()
    registry.prove([probe_of("fake:a", supported=True)])
    assert capabilities(registry, "fake:a") == (TOOLS,)


def test_what_was_probed_before_a_model_is_found_counts_when_it_is() -> None:
    registry = registry_with()
    registry.prove([probe_of("fake:a", supported=True)])
    registry.merge("fake", [offer("a")], LATER)
    assert capabilities(registry, "fake:a") == (TOOLS,)


def test_a_probe_of_a_file_says_nothing_of_another_file_of_that_name() -> None:
    registry = registry_with(Offer(model=offer("a").model, locality=Locality.OWNED, modified_ns=1))
    registry.prove([probe_of("fake:a", supported=True, modified_ns=1)])
    assert capabilities(registry, "fake:a") == (TOOLS,)
    registry.merge("fake", [Offer(model=offer("a").model, locality=Locality.OWNED, modified_ns=2)], LATER)
    assert capabilities(registry, "fake:a") == ()


def test_claims_are_the_evidence_without_probes() -> None:
    registry = registry_with(offer("a", can=(TOOLS,)))
    registry.prove([probe_of("fake:a", supported=False)])
    (claim,) = registry.claims("fake:a")
    assert (claim.supported, claim.source) == (True, "declared")
    with pytest.raises(ModelNotFoundError):
        registry.claims("fake:gone")


def test_a_model_goes_by_its_other_names_where_no_model_has_them_itself() -> None:
    def named(model_id: str, *other_ids: str) -> Offer:
        return msgspec.structs.replace(offer(model_id), other_ids=other_ids)

    registry = registry_with(named("phi:latest", "phi"), named("tiny:latest", "tiny"), named("tiny"))
    names = Names(providers={}, configured=(), advice={}, keys=(), keys_by_id={}, aliases=())

    def with_ids(keys_by_id: Mapping[str, Sequence[str]]) -> Names:
        return msgspec.structs.replace(names, keys_by_id=keys_by_id)

    assert registry.resolve("phi", with_ids) == registry.resolve("phi:latest", with_ids)
    assert registry.resolve("tiny", with_ids).endswith(":tiny")
