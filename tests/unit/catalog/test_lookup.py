"""The catalogue that comes with Noa, and how models are found in it."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

import msgspec
import pytest

from models_dev_document import document, encoded, model
from noa.catalog import Catalog, services_of
from noa.catalog.catalog import BUNDLED, FREE
from noa.catalog.models_dev import read_document
from noa.catalog.names import plain_names
from noa.catalog.services import LOCAL, catalog_name
from noa.catalog.snapshot import Service, pack, rows, unpack
from noa.config import ProviderConfig
from noa.models import ModelCapability, Price, PriceSource
from noa.presets import PRESETS

LATER = date(2100, 1, 1)


def catalog_of(path: Path, content: dict[str, object], as_of: date = LATER) -> Catalog:
    path.write_bytes(pack(read_document(encoded(content), as_of=as_of)))
    return Catalog(path)


def test_what_comes_with_noa_knows_a_model_with_its_window_abilities_and_dated_price() -> None:
    facts = Catalog().facts("openai", "gpt-4o")
    assert facts is not None
    assert (facts.context_window, facts.max_tokens, facts.reasoning) == (128_000, 16_384, False)
    assert {ModelCapability.CHAT_COMPLETION, ModelCapability.FUNCTION_CALLING, ModelCapability.VISION} <= {
        *facts.capabilities
    }
    assert facts.price is not None
    assert (facts.price.input, facts.price.output, facts.price.cache_read) == (2.5, 10, 1.25)
    assert facts.price.source is PriceSource.CATALOG
    assert facts.price.as_of is not None
    assert facts.price.as_of >= facts.as_of


def test_what_comes_with_noa_is_small_whole_and_of_one_form() -> None:
    content = BUNDLED.read_bytes()
    snapshot = unpack(content)
    assert len(content) < 300 * 1024
    assert pack(snapshot) == content, "built by another version of the script; build it again"
    assert snapshot.model_count > 4_000
    assert {source.licence for source in snapshot.sources} == {"MIT"}
    assert all(source.name in (BUNDLED.parent / "NOTICE.md").read_text(encoding="utf-8") for source in snapshot.sources)


def test_every_service_that_noa_knows_is_in_the_catalogue_or_is_meant_not_to_be() -> None:
    listed = {*Catalog().outline.services, LOCAL, None}
    absent = {preset.name for preset in PRESETS if catalog_name(preset.name) not in listed}
    assert absent <= {"hyperbolic", "sambanova"}, "give it the catalogue's name in noa/catalog/services.py"


@pytest.mark.parametrize(
    ("provider", "asked", "same_as"),
    [
        ("openai", "gpt-4o-2099-08-06", "gpt-4o"),
        ("claude", "claude-sonnet-4-5-20990929", "claude-sonnet-4-5"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("openrouter", "openai/gpt-4o-2099-08-06", "openai/gpt-4o"),
        ("gemini", "models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gemini", "models/gemini-2.5-flash-007", "gemini-2.5-flash"),
    ],
)
def test_a_model_is_found_under_the_other_names_its_service_has_for_it(provider: str, asked: str, same_as: str) -> None:
    catalog = Catalog()
    found, listed = catalog.facts(provider, asked), catalog.facts(provider, same_as)
    assert found is not None
    assert listed is not None
    assert found.price == listed.price


def test_a_snapshot_that_is_listed_by_itself_has_its_own_price() -> None:
    catalog = Catalog()
    first, latest = catalog.facts("openai", "gpt-4o-2024-05-13"), catalog.facts("openai", "gpt-4o")
    assert first is not None
    assert first.price is not None
    assert latest is not None
    assert latest.price is not None
    assert (first.price.input, latest.price.input) == (5, 2.5)


@pytest.mark.parametrize(
    ("provider", "model_id"),
    [
        ("openai", "ft:gpt-4o-2024-08-06:acme::abc"),
        ("openai", "gpt-4o-turbo"),
        ("openai", "GPT-4o"),
        ("openai", "openai/gpt-4o"),
        ("openai", "gpt-4o-2024"),
        ("openrouter", "gpt-4o"),
        ("openrouter", "openai/gpt-4o:nitro"),
        ("azure", "gpt-4o"),
        ("somebody", "gpt-4o"),
    ],
)
def test_nothing_is_guessed_from_likeness(provider: str, model_id: str) -> None:
    assert Catalog().facts(provider, model_id) is None


def test_the_names_to_look_up_begin_with_the_exact_one() -> None:
    assert [*plain_names("google", "models/gemini-2.0-flash-001")] == [
        "models/gemini-2.0-flash-001",
        "gemini-2.0-flash-001",
        "gemini-2.0-flash",
    ]
    assert [*plain_names("openai", "gpt-4-0613")] == ["gpt-4-0613"]


def test_models_of_ones_own_machine_are_free_and_say_so() -> None:
    catalog = Catalog()
    for provider in ("llama.cpp", "ollama"):
        facts = catalog.facts(provider, "whatever")
        assert facts is not None
        assert facts.price == FREE == Price(input=0, output=0, source=PriceSource.LOCAL)
        assert facts.capabilities == ()


def test_a_model_that_a_local_server_only_passes_on_has_no_known_price() -> None:
    facts = Catalog().facts("ollama", "gpt-oss:120b-cloud")
    assert facts is not None
    assert facts.price is None


def test_a_provider_of_ones_own_is_a_known_service_only_at_its_address() -> None:
    services = services_of(
        [
            ProviderConfig(type="openai", name="openai", base_url="http://127.0.0.1:9/v1"),
            ProviderConfig(type="openai", name="work"),
            ProviderConfig(type="groq", name="fast"),
            ProviderConfig(type="openai", name="vendor", base_url="https://api.mistral.ai/v1"),
            ProviderConfig(type="openai", name="cellar", base_url="http://192.0.2.1/v1"),
            ProviderConfig(type="llama.cpp", name="attic", base_url="http://192.0.2.1"),
            ProviderConfig(type="something", name="plugin"),
        ]
    )
    assert services == {
        "openai": "openai",
        "work": "openai",
        "fast": "groq",
        "vendor": "mistral",
        "cellar": None,
        "attic": LOCAL,
        "plugin": None,
    }
    catalog = Catalog(services=services)
    assert catalog.facts("work", "gpt-4o") == catalog.facts("openai", "gpt-4o")
    assert catalog.facts("cellar", "gpt-4o") is None


def test_a_fetched_catalogue_is_used_as_soon_as_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json.gz"
    catalog = Catalog(path)
    assert catalog.facts("openai", "gpt-new") is None
    catalog_of(path, document(openai=[model("gpt-new")]))
    facts = catalog.facts("openai", "gpt-new")
    assert facts is not None
    assert facts.price is not None
    assert facts.price.as_of == LATER
    path.unlink()
    assert catalog.facts("openai", "gpt-new") is None
    assert catalog.is_bundled


def test_a_fetched_catalogue_older_than_what_comes_with_noa_is_not_used(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog.json.gz", document(openai=[model("gpt-old")]), as_of=date(2020, 1, 1))
    assert catalog.is_bundled
    assert catalog.facts("openai", "gpt-old") is None


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\x1f\x8b\x08\x00"])
def test_a_damaged_fetched_catalogue_is_named_once_and_not_used(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "catalog.json.gz"
    path.write_bytes(damage)
    catalog = Catalog(path)
    with caplog.at_level(logging.WARNING):
        assert catalog.facts("openai", "gpt-4o") is not None
        assert catalog.facts("openai", "gpt-4") is not None
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_a_service_whose_entries_are_damaged_spoils_the_fetched_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "catalog.json.gz"
    catalog_of(path, document(openai=[model("gpt-new")]))
    snapshot = unpack(path.read_bytes())
    broken = Service(models={"gpt-new": "not a row"})  # type: ignore[dict-item]  # what must not be believed
    path.write_bytes(pack(msgspec.structs.replace(snapshot, services={"openai": broken})))
    assert Catalog(path).facts("openai", "gpt-new") is None


def test_every_price_that_comes_with_noa_is_one() -> None:
    for (service, model_id), row in rows(unpack(BUNDLED.read_bytes())).items():
        if row.price is not None:
            assert row.price.input is not None, (service, model_id)
            assert 0 <= row.price.input < 1_000, (service, model_id)
            assert [tier.above for tier in row.price.tiers] == sorted({tier.above for tier in row.price.tiers})
