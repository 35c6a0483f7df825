"""``noa profile``: what it asks the server for, what it refuses to spend, and what it shows and writes."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from aiohttp import web
from click.testing import Result

from machine import Machine
from noa.cli.profile_chart import Label, Line, draw, shortened
from noa.cli.profile_picture import svg
from noa.cli.profile_table import milliseconds, money, spread_of
from noa.measurement.profile_plan import ProfileMode
from noa.measurement.samples import Distribution, Sample
from noa.measurement.spending import Expense
from noa.measurement.summary import ProfileMetrics, summarise
from noa.models import Price, PriceSource
from scripted_server import ScriptedServer

Noa = Callable[..., Result]

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LOCAL, DEAR, ODD = "llama.cpp:smol", "openai:gpt-4", "other:<b>&\x1b[31m"
PRICE = Price(input=1.0, output=2.0, source=PriceSource.CATALOG)


def measured(ttft_ms: float = 100.0, count: int = 8, levels: tuple[int, ...] = (), failures: int = 0) -> ProfileMetrics:
    gaps = (10.0,) * 31
    samples = [
        Sample(
            success=number >= failures,
            error_code=None if number >= failures else "PROVIDER_ERROR",
            started_ms=1000.0 * number,
            ended_ms=ttft_ms + number + 310,
            e2e_ms=ttft_ms + number + 310,
            ttft_ms=ttft_ms + number,
            first_answer_ms=ttft_ms + number,
            gaps_ms=gaps,
            prompt_tokens=100,
            completion_tokens=32,
            stage="test" if level == 1 else f"x{level}",
            concurrency=level,
        )
        for level in (1, *levels)
        for number in range(count)
    ]
    mode = ProfileMode.FULL if levels else ProfileMode.QUICK
    return summarise(samples, at=NOON, mode=mode, max_tokens=32)


def expense(cost_usd: float | None) -> Expense:
    return Expense(requests=11, prompt_tokens=1500, completion_tokens=352, cost_usd=cost_usd, price=PRICE)


@pytest.fixture
def models(server: ScriptedServer) -> ScriptedServer:
    """One that is free, one that costs something, and one whose price nobody knows."""
    server.stream("GET", "/api/v1/events", [])
    for key, cost_usd in ((LOCAL, 0.0), (DEAR, 0.02), ("other:odd", None)):
        answer = {"key": key, "metrics": measured(), "estimate": expense(cost_usd), "message": "", "success": True}
        server.answer("POST", f"/api/v1/models/{key}/profile", answer)
    return server


def bodies(server: ScriptedServer) -> list[dict[str, object]]:
    return [request.json for request in server.received if request.path.endswith("/profile")]


def test_models_stand_side_by_side(noa: Noa, models: ScriptedServer) -> None:
    result = noa("profile", LOCAL, DEAR, "--max-cost", "0.05", "-n", "8")
    assert result.exit_code == 0, result.output
    header, first, second = result.stdout.splitlines()[:3]
    assert header.startswith("KEY ")
    assert re.search(r"TTFT +TPOT +E2E +TOK/S +PROMPT TOK/S +SUCCESS +COLD START +MEMORY +COST$", header.rstrip())
    assert first.startswith(f"{LOCAL} ")
    assert second.startswith(f"{DEAR} ")
    assert re.search(r"104 ms +10\.0 ms +414 ms +77\.4 ", first)
    assert " 8/8 " in first
    estimates, profiles = bodies(models)[:2], bodies(models)[2:]
    assert all(body["estimate"] is True for body in estimates)
    assert profiles == [{"testCount": 8, "mode": "quick", "maxTokens": 32, "coldStart": False, "maxCost": 0.05}] * 2


def test_one_model_is_shown_in_full(noa: Noa, models: ScriptedServer) -> None:
    models.answer("POST", f"/api/v1/models/{LOCAL}/profile", {
        "key": LOCAL, "metrics": measured(levels=(2,), failures=1), "estimate": expense(0.0),
    })  # fmt: skip
    result = noa("profile", LOCAL, "--full", "--cold")
    assert result.exit_code == 0, result.output
    assert "first token: p50 104 ms, 101 ms to 107 ms (7)" in result.stdout
    assert "2 at once: " in result.stdout
    assert "1 of 8 requests failed: PROVIDER_ERROR" in result.stdout
    assert bodies(models)[-1] == {"testCount": 10, "mode": "full", "maxTokens": 32, "coldStart": True}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((DEAR,), "costs about $0.0200; set a limit with --max-cost"),
        (("other:odd",), "The price of other:odd is not known"),
        (("other:odd", "--max-cost", "1"), "The price of other:odd is not known"),
    ],
)
def test_nothing_is_spent_that_nobody_agreed_to(
    noa: Noa, models: ScriptedServer, arguments: tuple[str, ...], sentence: str
) -> None:
    result = noa("profile", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert all(body["estimate"] is True for body in bodies(models))


def test_yes_is_an_agreement(noa: Noa, models: ScriptedServer) -> None:
    assert noa("profile", DEAR, "other:odd", "--yes").exit_code == 0
    assert [("maxCost" in body, "estimate" in body) for body in bodies(models)] == [(False, False)] * 2


def test_one_that_fails_does_not_take_the_others_with_it(noa: Noa, models: ScriptedServer) -> None:
    models.refuse("POST", f"/api/v1/models/{DEAR}/profile", 500, "MODEL_LOAD_ERROR", "It cannot be loaded.")
    result = noa("profile", DEAR, LOCAL, "--yes")
    assert result.exit_code == 6
    assert f"\n{LOCAL} " in result.stdout
    assert "It cannot be loaded." in result.stderr


def test_json_is_the_whole_of_it(noa: Noa, models: ScriptedServer) -> None:
    found = msgspec.json.decode(noa("profile", LOCAL, "--json").stdout)
    assert found["interrupted"] is False
    [one] = found["profiles"]
    assert (one["key"], one["metrics"]["ttftMs"]["samples"]) == (LOCAL, 8)


def test_a_page_and_a_picture_are_written(noa: Noa, models: ScriptedServer, tmp_path: Path) -> None:
    page, picture = tmp_path / "models.html", tmp_path / "models.png"
    result = noa("profile", LOCAL, DEAR, "--yes", "--html", str(page), "--png", str(picture))
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert LOCAL in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_without_pillow_a_picture_is_refused_before_anything_is_measured(
    noa: Noa, models: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    result = noa("profile", LOCAL, "--png", str(tmp_path / "x.png"))
    assert result.exit_code == 1
    assert "pip install 'noa[plots]'" in result.stderr
    assert not models.received


def test_the_history_shows_profiles_by_the_same_formulas(noa: Noa, server: ScriptedServer) -> None:
    past = [
        {"at": NOON, "formulaVersion": 2, "metrics": measured()},
        {"at": NOON, "formulaVersion": 1, "metrics": {"old": True}},
    ]
    server.answer("GET", f"/api/v1/models/{LOCAL}/history", {"key": LOCAL, "history": [], "profiles": past})
    server.answer("GET", f"/api/v1/models/{DEAR}/history", {"key": DEAR, "history": [], "profiles": []})
    result = noa("profile", LOCAL, DEAR, "--history")
    assert result.exit_code == 0, result.output
    assert len([line for line in result.stdout.splitlines() if " quick " in line]) == 1
    assert f"{DEAR} was not profiled yet" in result.stderr


def test_ctrl_c_ends_a_profile_and_shows_what_it_has(server: ScriptedServer, tmp_path: Path) -> None:
    asked, stopped = threading.Event(), asyncio.Event()
    server.stream("GET", "/api/v1/events", [])

    async def make(request: web.BaseRequest) -> web.StreamResponse:
        if b'"estimate":true' in await request.read():
            answer: dict[str, object] = {"key": LOCAL, "estimate": expense(0.0)}
        else:
            asked.set()
            await stopped.wait()
            answer = {"key": LOCAL, "metrics": msgspec.structs.replace(measured(count=2), stopped="asked")}
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def stop(_: web.BaseRequest) -> web.StreamResponse:
        stopped.set()
        return web.Response(body=b"{}", content_type="application/json")

    server.handle("POST", f"/api/v1/models/{LOCAL}/profile", make)
    server.handle("DELETE", f"/api/v1/models/{LOCAL}/profile", stop)
    with Machine.at(tmp_path, NOA_URL=server.url).start("profile", LOCAL, "--json") as command:
        assert asked.wait(30)
        command.send_signal(signal.SIGINT)
        stdout, stderr = command.communicate(timeout=30)
    found = msgspec.json.decode(stdout)
    assert (command.returncode, found["interrupted"]) == (130, True), stderr
    assert [(one["key"], one["metrics"]["testCount"]) for one in found["profiles"]] == [(LOCAL, 2)]


# The picture.


def test_the_picture_is_well_formed_whatever_a_model_is_called() -> None:
    drawn = svg(draw({ODD: measured(levels=(2, 4)), LOCAL: measured(50, count=3), "a:b": measured(failures=8)}))
    root = ElementTree.fromstring(drawn)
    assert "\x1b" not in drawn
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert any("<b>&" in text for text in texts)
    assert texts.count("not measured") == 3


def test_everything_lies_on_the_picture() -> None:
    picture = draw({f"provider:model-{number}": measured(10.0**number, levels=(2, 4, 8)) for number in range(5)})
    for mark in picture.marks:
        points = mark.points if isinstance(mark, Line) else ((mark.x, mark.y),)
        assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in points), mark
    assert len({mark.text for mark in picture.marks if isinstance(mark, Label)}) > 20


def test_long_names_keep_both_ends() -> None:
    assert shortened("openrouter:meta-llama/llama-3.3-70b:free", 20) == "openroute…3-70b:free"


def test_figures_are_as_exact_as_they_are_worth() -> None:
    assert [milliseconds(value) for value in (None, 1.23, 99.96, 123.4, 12_345)] == [
        "—", "1.2 ms", "100.0 ms", "123 ms", "12.3 s",
    ]  # fmt: skip
    assert [money(usd) for usd in (None, 0, 0.00123, 1.234)] == ["—", "free", "$0.0012", "$1.23"]
    assert spread_of(Distribution()) == "—"
