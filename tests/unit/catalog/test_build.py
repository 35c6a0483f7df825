"""The script that builds what comes with Noa: models.dev's files merged as it merges them, genai-prices on top."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models_dev_document import document, encoded, model
from noa.catalog.models_dev import read_document, read_providers
from noa.catalog.snapshot import Rates, Row, Snapshot

ROOT = Path(__file__).resolve().parents[3]
JULY, NOVEMBER = date(2026, 7, 2), date(2026, 11, 10)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_catalog", ROOT / "scripts" / "build_catalog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What genai-prices has, as far as it is read.


@dataclass
class Equals:
    equals: str


@dataclass
class StartsWith:
    starts_with: str


@dataclass
class Or:
    or_: Sequence[object]


@dataclass
class And:
    and_: Sequence[object]


@dataclass
class Figures:
    input_mtok: Any = None
    output_mtok: Any = None
    cache_read_mtok: Any = None
    requests_kcount: Any = None


@dataclass
class Tier:
    start: int
    price: float


@dataclass
class Tiered:
    base: float
    tiers: Sequence[Tier]


@dataclass
class From:
    start_date: date

    def active(self, moment: Any) -> bool:
        return bool(moment.date() >= self.start_date)


@dataclass
class Daily:
    start_time: time
    end_time: time


@dataclass
class Conditional:
    prices: Figures
    constraint: object = None


@dataclass
class Priced:
    id: str
    match: object
    prices: Any
    name: str | None = None
    context_window: int | None = None


@dataclass
class Provider:
    models: Sequence[Priced]
    id: str = "openai"
    extra: dict[str, object] = field(default_factory=dict)


def on_top(script: ModuleType, listed: Sequence[str], *priced: Priced, **fields: Any) -> Snapshot:
    base = read_document(encoded(document(openai=[model(each, **fields) for each in listed])), as_of=JULY)
    overlaid: Snapshot = script.overlaid(base, [Provider(priced)], version="1", as_of=NOVEMBER)
    return overlaid


def entry(snapshot: Snapshot, model_id: str = "gpt") -> Row:
    return snapshot.services["openai"].models[model_id]


def quoted(row: Row) -> tuple[float | None, float | None, date | None]:
    assert row.price is not None
    return row.price.input, row.price.output, row.price.as_of


NEW = Figures(input_mtok=3, output_mtok=9)
OLD: tuple[float | None, float | None, date | None] = (2.5, 10, None)


def test_a_model_lies_on_what_is_known_of_it_everywhere(script: ModuleType, tmp_path: Path) -> None:
    known, listed = tmp_path / "models" / "maker", tmp_path / "providers" / "shop" / "models" / "maker"
    for folder in (known, listed):
        folder.mkdir(parents=True)
    (known / "gpt.toml").write_text(
        'name = "GPT"\nreasoning = true\ntool_call = true\n[limit]\ncontext = 100\noutput = 10\n'
        '[modalities]\ninput = ["text", "image"]\noutput = ["text"]\n'
    )
    (listed / "gpt.toml").write_text(
        'base_model = "maker/gpt"\nbase_model_omit = ["limit.output"]\n'
        "[limit]\ncontext = 50\n[cost]\ninput = 1\noutput = 2\n"
    )
    (listed.parent / "dangling.toml").symlink_to(tmp_path / "nowhere.toml")
    (tmp_path / "providers" / "shop" / "provider.toml").write_text('name = "Shop"\n')
    service = read_providers(script.read_models_dev(tmp_path), as_of=JULY).services["shop"]
    assert [*service.models] == ["maker/gpt"]
    row = service.models["maker/gpt"]
    assert (row.context, row.output, row.reasoning) == (50, None, True)
    assert quoted(row) == (1, 2, None)


def test_its_figures_come_on_top_with_their_day(script: ModuleType) -> None:
    found = on_top(script, ["gpt", "other"], Priced("gpt", Equals("gpt"), NEW))
    assert quoted(entry(found)) == (3, 9, NOVEMBER)
    assert entry(found).context == 128_000
    assert quoted(entry(found, "other")) == OLD
    assert [source.name for source in found.sources] == ["models.dev", "genai-prices"]


@pytest.mark.parametrize(
    ("listed", "match", "taken"),
    [
        ("gpt-2026-01-01", Or([Equals("x"), Equals("gpt-2026-01-01")]), True),
        ("gpt-2026-01-01", Equals("gpt"), True),
        ("gpt-20260101", StartsWith("gpt"), True),
        ("gpt", StartsWith("gpt"), True),
        ("gpt-turbo", StartsWith("gpt"), False),
        ("gpt-turbo", And([Equals("gpt-turbo")]), False),
        ("GPT", Equals("gpt"), True),
        ("gpt-latest", Equals("gpt-latest"), False),
    ],
)
def test_only_an_id_that_it_names_is_taken_for_its_model(
    script: ModuleType, listed: str, match: object, taken: bool
) -> None:
    found = on_top(script, [listed], Priced("some-id", match, NEW))
    assert quoted(entry(found, listed)) == ((3, 9, NOVEMBER) if taken else OLD)


def test_what_only_it_knows_is_added_with_its_other_names(script: ModuleType) -> None:
    found = on_top(
        script, ["gpt"], Priced("new", Or([Equals("new"), Equals("new-1")]), NEW, name="New", context_window=7)
    )
    row = entry(found, "new")
    assert (row.name, row.context, row.can) == ("New", 7, ())
    assert found.services["openai"].also == {"new-1": "new"}


def test_tiers_of_single_prices_become_tiers_of_all(script: ModuleType) -> None:
    prices = Figures(
        input_mtok=Tiered(1, [Tier(200, 2), Tier(400, 3)]), output_mtok=Tiered(5, [Tier(400, 6)]), cache_read_mtok=0.5
    )
    row = entry(on_top(script, ["gpt"], Priced("gpt", Equals("gpt"), prices)))
    assert quoted(row) == (1, 5, NOVEMBER)
    assert row.price is not None
    assert row.price.tiers == (
        Rates(above=200, input=2, output=5, cache_read=0.5),
        Rates(above=400, input=3, output=6, cache_read=0.5),
    )


def test_of_dated_prices_the_one_in_force_is_taken(script: ModuleType) -> None:
    prices = [
        Conditional(Figures(input_mtok=1, output_mtok=1)),
        Conditional(Figures(input_mtok=2, output_mtok=2), From(date(2026, 9, 1))),
        Conditional(Figures(input_mtok=3, output_mtok=3), From(date(2027, 1, 1))),
    ]
    assert quoted(entry(on_top(script, ["gpt"], Priced("gpt", Equals("gpt"), prices))))[:2] == (2, 2)


def test_of_prices_that_go_by_the_hour_the_dearest_is_taken_and_said_to_be(script: ModuleType) -> None:
    prices = [
        Conditional(Figures(input_mtok=1, output_mtok=1)),
        Conditional(Figures(input_mtok=2, output_mtok=2), Daily(time(1), time(4))),
    ]
    row = entry(on_top(script, ["gpt"], Priced("gpt", Equals("gpt"), prices)))
    assert quoted(row)[:2] == (2, 2)
    assert row.price is not None
    assert row.price.note is not None


def test_a_fee_for_each_request_leaves_the_price_unknown(script: ModuleType) -> None:
    prices = Figures(input_mtok=1, output_mtok=1, requests_kcount=5)
    found = on_top(script, ["gpt"], Priced("gpt", Equals("gpt"), prices), Priced("only", Equals("only"), prices))
    assert entry(found).price is None
    assert "only" not in found.services["openai"].models


def test_an_embedding_without_a_price_for_output_has_none_to_pay(script: ModuleType) -> None:
    found = on_top(script, ["gpt"], Priced("gpt", Equals("gpt"), Figures(input_mtok=1)), family="text-embedding")
    assert quoted(entry(found)) == (1, 0, NOVEMBER)


def test_a_snapshot_that_costs_something_else_keeps_its_price(script: ModuleType) -> None:
    dear = model("gpt-2026-01-01", cost={"input": 5, "output": 15})
    base = read_document(encoded(document(openai=[model("gpt"), dear])), as_of=JULY)
    found = script.overlaid(base, [Provider([Priced("gpt", Equals("gpt"), NEW)])], version="1", as_of=NOVEMBER)
    assert quoted(entry(found)) == (3, 9, NOVEMBER)
    assert quoted(entry(found, "gpt-2026-01-01")) == (5, 15, None)
