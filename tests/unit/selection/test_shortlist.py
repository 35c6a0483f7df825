"""Of very many models those are looked at that are worth it, also after something has changed."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from noa.chooser import Chooser
from noa.models import ModelCapability, ModelInfo, ModelStatus, Price, PriceSource
from noa.providers.protocol import Offer
from noa.registry import Registry
from noa.selection.shortlist import Shortlists
from noa.selection.wish import Objective, Wish

CHAT, VISION = ModelCapability.CHAT_COMPLETION, ModelCapability.VISION
NOW = datetime(2026, 11, 23, tzinfo=UTC)

models = st.builds(
    lambda price, able, window: ModelInfo(
        id="", name="", provider="p", context_window=window, capabilities=able, price=price_of(price)
    ),
    price=st.sampled_from((None, 0.0, 1.0, 2.0, 3.0)),
    able=st.sampled_from(((), (CHAT,), (CHAT, VISION))),
    window=st.sampled_from((None, 10, 100)),
)
wishes = st.sampled_from(
    (Wish(), Wish(capabilities=(CHAT,)), Wish(capabilities=(CHAT,), min_context=50), Wish(providers=("q",)))
)


class Few(Shortlists):
    SIZE = 3


def price_of(usd: float | None) -> Price | None:
    return None if usd is None else Price(input=usd, output=usd, source=PriceSource.CONFIGURED)


def cheapest(known: dict[str, ModelInfo], wish: Wish) -> list[str]:
    def price(model: ModelInfo) -> tuple[float, str]:
        known_price = None if model.price is None else model.price.input
        return float("inf") if known_price is None else known_price, model.id

    fit = [
        model
        for model in known.values()
        if {*wish.capabilities} <= {*model.capabilities}
        and (not wish.providers or model.provider in wish.providers)
        and (wish.min_context is None or (model.context_window or 0) >= wish.min_context)
    ]
    return [model.key for model in heapq.nsmallest(Few.SIZE, fit, key=price)]


@settings(max_examples=60)
@given(st.lists(models, min_size=5, max_size=8), st.data())
def test_a_list_that_was_kept_is_the_one_that_would_be_drawn_up_now(
    listed: list[ModelInfo], data: st.DataObject
) -> None:
    known = {f"p:{n}": msgspec.structs.replace(model, id=str(n)) for n, model in enumerate(listed)}
    shortlists = Few(known.get)
    changed: set[str] | None = None
    for revision in range(1, data.draw(st.integers(5, 20))):
        wish = data.draw(wishes)
        assert [*shortlists.of(wish, revision, changed, known)] == cheapest(known, wish)
        changed = set(data.draw(st.lists(st.sampled_from(sorted(known)), max_size=2))) if known else set()
        for key in changed:
            known[key] = msgspec.structs.replace(data.draw(models), id=known[key].id)


def test_one_change_of_very_many_models_is_not_a_look_at_all_of_them() -> None:
    known = {f"p:{n}": ModelInfo(id=str(n), name="", provider="p", price=price_of(n)) for n in range(10)}
    shortlists = Few(known.get)
    first = [*shortlists.of(Wish(), 1, None, known)]
    known["p:9"] = msgspec.structs.replace(known["p:9"], price=price_of(8.5))
    assert [*shortlists.of(Wish(), 2, {"p:9"}, ())] == first


def test_a_model_nobody_used_is_chosen_by_what_it_costs_now() -> None:
    registry = Registry(lambda _key: (ModelStatus.AVAILABLE, None), tuple)
    listed = [
        Offer(model=ModelInfo(id=f"{n:03}", name="", provider="p", capabilities=(CHAT,), price=price_of(1 + n)))
        for n in range(200)
    ]
    registry.merge("p", listed, NOW)
    trouble: dict[str, str] = {}
    chooser = Chooser(registry, lambda _key: None, trouble.get, policies={})
    wish = Wish(capabilities=(CHAT,), prefer=Objective.COST)
    assert chooser.choose(wish).order[:2] == ("p:000", "p:001")
    registry.amend("p:001", msgspec.structs.replace(registry.offer("p:001").model, price=price_of(50)))
    assert chooser.choose(wish).order[:2] == ("p:000", "p:002")
    registry.amend("p:150", msgspec.structs.replace(registry.offer("p:150").model, price=price_of(0.5)))
    assert chooser.choose(wish).chosen == "p:150"
    trouble["p:150"] = "its breaker is open"
    decision = chooser.choose(wish)
    assert decision.chosen == "p:000"
    assert [each.key for each in decision.candidates if each.for_now] == ["p:150"]
    longer = chooser.choose(msgspec.structs.replace(wish, prompt_tokens=5_000, output_tokens=0))
    costs = {each.key: each.predicted_cost_usd for each in longer.candidates}
    assert costs["p:000"] == 0.005
    registry.merge("p", listed[1:], NOW)
    trouble.clear()
    assert chooser.choose(wish).chosen == "p:001"
    registry.merge("q", [Offer(model=msgspec.structs.replace(listed[0].model, provider="q", price=price_of(0)))], NOW)
    assert chooser.choose(wish).chosen == "q:000"
    registry.merge("q", (), NOW)
    assert chooser.choose(wish).chosen == "p:001"
