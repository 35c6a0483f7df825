"""Fetching a newer catalogue: checked, compared, kept, and undone."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from models_dev_document import document, encoded, many, model
from noa.catalog import Catalog, refresh
from noa.catalog.models_dev import read_document
from noa.catalog.refresh import CatalogShelf
from noa.catalog.snapshot import Snapshot
from noa.errors import ConflictError, ProviderConnectionError, StorageError, ValidationError
from scripted_server import ScriptedServer

#: When every catalogue here was made.
MADE_ON = date(2026, 11, 23)
#: What every catalogue here has beside the models in question.
CROWD = many(100)


def snapshot(**providers: list[dict[str, Any]]) -> Snapshot:
    return read_document(encoded(document(**providers)), as_of=MADE_ON)


@pytest.fixture
def shelf(tmp_path: Path) -> CatalogShelf:
    return CatalogShelf(tmp_path / "catalog")


@pytest.fixture
def fetched(shelf: CatalogShelf) -> CatalogShelf:
    """A shelf with a catalogue that was fetched today."""
    shelf.put(snapshot(openai=[model("gpt"), model("old")], crowd=CROWD))
    return shelf


async def test_a_refresh_says_what_it_changes_and_is_used(fetched: CatalogShelf, tmp_path: Path) -> None:
    dearer = model("gpt", cost={"input": 5, "output": 10})
    source = tmp_path / "api.json"
    other = {**CROWD[0], "tool_call": False}
    source.write_bytes(encoded(document(openai=[dearer, model("new")], crowd=[other, *CROWD[1:]])))
    written = datetime(2026, 11, 24, 12, tzinfo=UTC)
    os.utime(source, (written.timestamp(), written.timestamp()))
    new, changes = await refresh.refresh(fetched, str(source))
    assert (changes.added, changes.removed) == (("openai:new",), ("openai:old",))
    assert [(change.key, change.input_before, change.input) for change in changes.price_changes] == [
        ("openai:gpt", 2.5, 5)
    ]
    assert changes.other_changes == 1
    assert new.as_of == written.date()
    facts = Catalog(fetched.current_path).facts("openai", "gpt")
    assert facts is not None
    assert facts.price is not None
    assert facts.price.input == 5


async def test_the_same_again_changes_nothing(fetched: CatalogShelf, tmp_path: Path) -> None:
    source = tmp_path / "api.json"
    source.write_bytes(encoded(document(openai=[model("gpt"), model("old")], crowd=CROWD)))
    _, changes = await refresh.refresh(fetched, str(source))
    assert changes.is_empty


async def test_undo_goes_back_one_by_one_and_then_says_that_there_is_none(shelf: CatalogShelf) -> None:
    with pytest.raises(ConflictError, match="came with Noa"):
        shelf.go_back()
    first, second = snapshot(a=[model("one")]), snapshot(a=[model("two")])
    shelf.put(first)
    shelf.put(second)
    assert shelf.in_use() == second
    assert shelf.go_back() == first
    assert shelf.go_back().sources[0].revision is not None, "what came with Noa says its revision"
    assert not shelf.current_path.exists()
    with pytest.raises(ConflictError):
        shelf.go_back()


async def test_what_was_fetched_first_is_not_undone_to_something_older(shelf: CatalogShelf) -> None:
    shelf.put(snapshot(a=[model("one")]))
    shelf.put(snapshot(a=[model("two")]))
    shelf.go_back()
    shelf.go_back()
    shelf.put(snapshot(a=[model("three")]))
    assert "a" not in shelf.go_back().services


IMPLAUSIBLE = {
    "half of the models are gone": document(crowd=many(10)),
    "a price beyond all bounds": document(openai=[model("gpt", cost={"input": 2_500_000, "output": 1})], crowd=CROWD),
    "a price below nothing": document(openai=[model("gpt", cost={"input": -1, "output": 1})], crowd=CROWD),
    "a window beyond all bounds": document(openai=[model("gpt", limit={"context": 1e15})], crowd=CROWD),
    "prices in another unit": document(crowd=many(100, 1e-6)),
}


@pytest.mark.parametrize("content", IMPLAUSIBLE.values(), ids=IMPLAUSIBLE)
async def test_what_is_not_plausible_is_refused_and_changes_nothing(
    fetched: CatalogShelf, tmp_path: Path, content: dict[str, Any]
) -> None:
    before = fetched.in_use()
    source = tmp_path / "api.json"
    source.write_bytes(encoded(content))
    with pytest.raises(ValidationError, match=r"news|plausible"):
        await refresh.refresh(fetched, str(source))
    assert fetched.in_use() == before
    assert not fetched.previous_path.exists()


async def test_it_comes_over_http(fetched: CatalogShelf) -> None:
    content = document(openai=[model("gpt")], crowd=CROWD)
    with ScriptedServer() as server:
        server.answer("GET", "/api.json", content)
        new, _ = await refresh.refresh(fetched, f"{server.url}/api.json")
    assert "gpt" in new.services["openai"].models
    assert fetched.in_use() == new


async def test_a_source_that_is_not_there_leaves_what_is_in_use(fetched: CatalogShelf) -> None:
    before = fetched.in_use()
    with ScriptedServer() as server:
        server.answer("GET", "/broken", {}, status=503)
        with pytest.raises(ProviderConnectionError, match="503"):
            await refresh.refresh(fetched, f"{server.url}/broken")
        url = server.url
    with pytest.raises(ProviderConnectionError, match="could not be fetched"):
        await refresh.refresh(fetched, url)
    with pytest.raises(ValidationError, match="neither"):
        await refresh.refresh(fetched, "ftp://127.0.0.1/api.json")
    with pytest.raises(ValidationError, match="cannot be read"):
        await refresh.refresh(fetched, "/nowhere/api.json")
    assert fetched.in_use() == before


async def test_an_answer_that_breaks_off_is_not_taken(fetched: CatalogShelf) -> None:
    before = fetched.in_use()
    whole = encoded(document(openai=[model("gpt")], crowd=CROWD))

    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    with ScriptedServer() as server:
        server.handle("GET", "/api.json", broken)
        with pytest.raises(ProviderConnectionError):
            await refresh.refresh(fetched, f"{server.url}/api.json")
    assert fetched.in_use() == before


async def test_an_answer_without_an_end_is_not_read_to_it(shelf: CatalogShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "MAX_DOCUMENT_BYTES", 1024 * 1024)

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b" " * 65536)
        return response

    with ScriptedServer() as server:
        server.handle("GET", "/api.json", endless)
        with pytest.raises(ValidationError, match="larger than 1 MiB"):
            await refresh.refresh(shelf, f"{server.url}/api.json")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalog").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="catalog"):
        CatalogShelf(tmp_path / "catalog").put(snapshot(a=[model("one")]))
