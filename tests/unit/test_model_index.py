"""What the index of models finds is what looking at every model finds, whatever happened to them before."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noa.errors import ValidationError
from noa.model_index import REMEMBERED_CHANGES, Conditions, ModelIndex
from noa.models import ModelCapability, ModelInfo, ModelStatus, Price, PriceSource, RegistryEntry
from noa.providers.protocol import Offer
from noa.registry import Registry
from noa.state import CapabilityProbed

AT = datetime(2026, 1, 1, tzinfo=UTC)
VISION, CHAT = ModelCapability.VISION, ModelCapability.CHAT_COMPLETION
PROVIDERS = ("one", "two", "three")

offers = st.builds(
    lambda name, window, able, tags, price: Offer(
        model=ModelInfo(
            id=name,
            name=name.upper(),
            provider="",
            context_window=window,
            capabilities=able,
            metadata={"tags": tags},
            price=price and Price(input=price, output=price, source=PriceSource.PROVIDER),
        )
    ),
    name=st.sampled_from("abcdef"),
    window=st.sampled_from((None, 10, 20)),
    able=st.sampled_from(((), (CHAT,), (VISION, CHAT))),
    tags=st.sampled_from(([], ["x"], ["x", "y"])),
    price=st.sampled_from((None, 1.0, 2.0)),
)
listings = st.tuples(st.sampled_from(PROVIDERS), st.lists(offers, max_size=6))
conditions = st.builds(
    Conditions,
    provider=st.sampled_from((None, *PROVIDERS, "nobody")),
    capability=st.sampled_from((None, CHAT, VISION)),
    status=st.sampled_from((None, ModelStatus.AVAILABLE, ModelStatus.LOADED, ModelStatus.FAILED)),
    min_context_window=st.sampled_from((None, 15)),
    max_context_window=st.sampled_from((None, 15)),
    name_pattern=st.sampled_from((None, "^[A-C]", "x")),
    tags=st.sampled_from((frozenset[str](), frozenset({"x"}), frozenset({"x", "y"}))),
)


class World:
    """A registry, and where its models stand."""

    def __init__(self) -> None:
        self.standing: dict[str, ModelStatus] = {}
        self.registry = Registry(
            lambda key: (self.standing.get(key, ModelStatus.AVAILABLE), None), lambda: self.standing.keys()
        )

    def merge(self, provider: str, listed: list[Offer]) -> None:
        models = [
            Offer(model=ModelInfo(**{field: getattr(each.model, field) for field in FIELDS}, provider=provider))
            for each in listed
        ]
        self.registry.merge(provider, models, AT)


FIELDS = ("id", "name", "context_window", "capabilities", "metadata", "price")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Providers that list again and again, models of which more is said or shown later, and some that are in use."""
    world = World()
    for provider, listed in draw(st.lists(listings, max_size=6)):
        world.merge(provider, listed)
        for key in draw(st.lists(st.sampled_from([*world.registry, "gone:a"]), max_size=3)):
            world.standing[key] = draw(st.sampled_from(ModelStatus))
            if key in world.registry and draw(st.booleans()):
                model = world.registry.offer(key).model
                able = draw(st.sampled_from(((), (CHAT,), (VISION,))))
                world.registry.amend(
                    key, ModelInfo(id=model.id, name=model.name, provider=model.provider, capabilities=able)
                )
            if draw(st.booleans()):
                world.registry.prove(
                    [CapabilityProbed(key=key, capability=VISION, supported=draw(st.booleans()), at=AT)]
                )
    return world


def fits(entry: RegistryEntry, asked: Conditions) -> bool:
    """As the words of ``Conditions`` say."""
    window, tags = entry.context_window, entry.metadata.get("tags", [])
    assert isinstance(tags, list)
    return (
        asked.provider in (None, entry.provider)
        and (asked.capability is None or asked.capability in entry.capabilities)
        and asked.status in (None, entry.status)
        and (asked.min_context_window is None or (window is not None and window >= asked.min_context_window))
        and (asked.max_context_window is None or (window is not None and window <= asked.max_context_window))
        and (
            asked.name_pattern is None
            or any(re.search(asked.name_pattern, each, re.IGNORECASE) for each in (entry.id, entry.name))
        )
        and asked.tags <= {*tags}
    )


@settings(max_examples=60)
@given(worlds(), conditions, st.integers(1, 4))
def test_pages_are_what_a_look_at_every_model_finds(world: World, asked: Conditions, limit: int) -> None:
    expected = [entry for entry in world.registry.models() if fits(entry, asked)]
    shown, after, more = list[RegistryEntry](), None, True
    while more and len(shown) <= len(expected):
        page = world.registry.page(asked, limit=limit, after=after)
        assert len(page.entries) == limit or not page.more
        shown, more = shown + page.entries, page.more
        after = shown[-1].key if shown else None
    assert shown == expected == world.registry.page(asked).entries


@settings(max_examples=60)
@given(worlds())
def test_counts_are_what_a_look_at_every_model_counts(world: World) -> None:
    models = world.registry.models()
    providers, capabilities, statuses = world.registry.counts()
    assert len(models) == len(world.registry) == sum(providers.values())
    assert set(world.registry) == {entry.key for entry in models}
    assert providers.items() >= {
        (each, sum(entry.provider == each for entry in models)) for each in {entry.provider for entry in models}
    }
    assert capabilities == {
        each.value: number
        for each in ModelCapability
        if (number := sum(each in entry.capabilities for entry in models))
    }
    assert statuses == {
        each.value: number for each in ModelStatus if (number := sum(entry.status is each for entry in models))
    }


def test_a_page_that_would_begin_after_what_does_not_fit_is_the_callers_mistake() -> None:
    world = World()
    world.merge("one", [Offer(model=ModelInfo(id=each, name=each, provider="one")) for each in "ab"])
    for after in ("one:c", "no key", "two:a"):
        with pytest.raises(ValidationError, match="begin again"):
            world.registry.page(Conditions(), after=after)
    with pytest.raises(ValidationError, match="begin again"):
        world.registry.page(Conditions(status=ModelStatus.LOADED), after="one:a")


# What has changed.


def test_a_look_at_files_that_are_the_same_changes_nothing() -> None:
    world = World()
    listed = [Offer(model=ModelInfo(id="a", name="a", provider="one"))]
    world.merge("one", listed)
    before = world.registry.revision
    world.merge("one", listed)
    world.registry.amend("one:a", listed[0].model)
    assert world.registry.revision == before


def test_whoever_knows_a_revision_is_told_what_changed_since_or_that_it_may_be_anything() -> None:
    models = {f"one:{each}": ModelInfo(id=each, name=each, provider="one") for each in "abc"}
    index = ModelIndex(models.__getitem__)
    index.relist("one", models, [*models])
    listed = index.revision
    assert index.changed_since(listed) == set()
    assert index.changed_since(listed - 3) == {*models}
    index.relist("two", {}, [f"two:{number}" for number in range(REMEMBERED_CHANGES)])
    assert index.changed_since(listed) is not None
    assert index.changed_since(listed - 1) is None
    listed = index.revision
    index.change("one:a", ())
    index.change("one:b", ())
    assert index.changed_since(listed) == {"one:a", "one:b"}
    assert index.changed_since(listed + 1) == {"one:b"}
    for _ in range(REMEMBERED_CHANGES):
        index.change("one:c", ())
    assert index.changed_since(listed) is None
    assert index.changed_since(listed + 2) == {"one:c"}
