"""``noa catalog``: what is known of models in general, fetched, compared and undone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from models_dev_document import document, encoded, many, model
from noa.catalog.models_dev import read_document
from noa.catalog.refresh import CatalogShelf
from scripted_server import ScriptedServer

Noa = Callable[..., Result]
TODAY = datetime.now(UTC).date()
CROWD = many(100)


@pytest.fixture
def fetched(tmp_path: Path) -> None:
    """A small catalogue is in use."""
    first = document(openai=[model("gpt")], crowd=CROWD)
    CatalogShelf(tmp_path / "home" / "catalog").put(read_document(encoded(first), as_of=TODAY))


def test_without_a_command_it_says_its_day_its_sources_and_how_much_it_has(noa: Noa) -> None:
    shown = noa("catalog")
    assert shown.exit_code == 0
    assert "came with Noa" in shown.stdout
    assert "models.dev" in shown.stdout
    assert "genai-prices" in shown.stdout
    about = msgspec.json.decode(noa("catalog", "--json").stdout)
    assert about["bundled"] is True
    assert about["models"] > about["prices"] > 1_000
    assert about["sources"][0]["licence"] == "MIT"


def test_a_model_is_shown_with_its_price_and_whose_and_of_when_it_is(noa: Noa) -> None:
    shown = noa("catalog", "show", "openai:gpt-4o")
    assert shown.exit_code == 0
    assert "window: 128000 tokens" in shown.stdout
    assert "$2.5 in, $10 out" in shown.stdout
    assert "(catalog, as of 2026-" in shown.stdout
    facts = msgspec.json.decode(noa("catalog", "show", "anthropic:claude-sonnet-4-5", "--json").stdout)
    assert facts["key"] == "claude:claude-sonnet-4-5"
    assert facts["facts"]["price"]["tiers"][0]["above"] == 200_000


def test_a_model_that_nobody_knows_is_not_found(noa: Noa) -> None:
    shown = noa("catalog", "show", "openai:whatever")
    assert shown.exit_code == 3
    assert "openai:whatever" in shown.stderr


@pytest.mark.usefixtures("fetched")
def test_a_refresh_shows_what_changes_and_undo_takes_it_back(noa: Noa, server: ScriptedServer) -> None:
    dearer = model("gpt", cost={"input": 5, "output": 20})
    server.answer("GET", "/api.json", document(openai=[dearer, model("new")], crowd=CROWD))
    source = f"{server.url}/api.json"
    refreshed = noa("catalog", "refresh", "--from", source)
    assert refreshed.exit_code == 0, refreshed.stderr
    assert "+ openai:new" in refreshed.stdout
    assert "openai:gpt: $2.5 in, $10 out → $5 in, $20 out" in refreshed.stdout
    assert "$5 in" in noa("catalog", "show", "openai:gpt").stdout
    assert noa("catalog", "undo").exit_code == 0
    assert "$2.5 in" in noa("catalog", "show", "openai:gpt").stdout
    changes = msgspec.json.decode(noa("catalog", "refresh", "--from", source, "--json").stdout)["changes"]
    assert changes["added"] == ["openai:new"]
    assert "Nothing has changed." in noa("catalog", "refresh", "--from", source).stdout


@pytest.mark.usefixtures("fetched")
def test_a_refresh_that_brings_rubbish_says_so_and_changes_nothing(noa: Noa, server: ScriptedServer) -> None:
    before = noa("catalog", "--json").stdout
    server.answer("GET", "/small", document(openai=[model("gpt")]))
    server.answer("GET", "/rubbish", ["not", "a", "catalogue"])
    for path, complaint in (("/small", "rather an error"), ("/rubbish", "models.dev"), ("/nowhere", "404")):
        refused = noa("catalog", "refresh", "--from", server.url + path)
        assert refused.exit_code == 1
        assert complaint in refused.stderr
    assert noa("catalog", "--json").stdout == before


def test_there_is_nothing_to_undo_before_a_refresh(noa: Noa) -> None:
    undone = noa("catalog", "undo")
    assert undone.exit_code == 1
    assert "came with Noa" in undone.stderr
