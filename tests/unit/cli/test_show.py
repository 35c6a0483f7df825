"""``noa show``: all that is known of one model, on one screen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import msgspec
import pytest
from aiohttp import web
from click.testing import Result

from noa.cli import probing
from noa.client_answers import ServerEvent
from noa.models import (
    ActiveModel,
    CapabilityEvidence,
    EvidenceSource,
    FactSources,
    ModelCapability,
    ModelInfo,
    ModelStatus,
    PerformanceMetrics,
    Price,
    PriceSource,
    PriceTier,
    ProbeOutcome,
    ProbePlan,
    ProbeResult,
    RegistryEntry,
)
from scripted_server import ScriptedServer

Noa = Callable[..., Result]

KEY = "llama.cpp:sub/x"
MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ENTRY = RegistryEntry(
    key=KEY,
    id="sub/x",
    name="x",
    provider="llama.cpp",
    context_window=8192,
    max_tokens=None,
    capabilities=(ModelCapability.CHAT_COMPLETION,),
    metadata={},
    status=ModelStatus.FAILED,
    registered_at=MOMENT,
    file_path="x.gguf",
    file_size=2048,
    error="The file is corrupt.",
)


@pytest.fixture
def fleet(server: ScriptedServer) -> ScriptedServer:
    server.answer("GET", f"/api/v1/models/{KEY}", ENTRY)
    server.answer("GET", "/api/v1/models/loaded", {"models": [], "count": 0, "currentModel": None})
    aliases = [{"name": name, "key": key, "since": MOMENT} for name, key in (("fast", "a:b"), ("prod", KEY))]
    server.answer("GET", "/api/v1/aliases", {"aliases": aliases, "count": 2})
    server.answer("GET", f"/api/v1/models/{KEY}/logs", {"success": True, "key": KEY, "lines": ["bad magic"]})
    return server


def test_a_model_that_failed_shows_why_and_the_end_of_its_log(fleet: ScriptedServer, noa: Noa) -> None:
    result = noa("show", KEY)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        KEY,
        "  failed",
        "  error: The file is corrupt.",
        "  can: chat_completion",
        "  window: 8192 tokens, answers: at most —",
        "  price: —",
        "  file: x.gguf (2.0 KiB)",
        "  aliases: prod",
        "  measured: nothing yet",
        "  log:",
        "    bad magic",
    ]
    assert next(each.query for each in fleet.received if each.path.endswith("/logs")) == {"tail": "5"}


def test_a_loaded_model_shows_how_it_is_doing(fleet: ScriptedServer, noa: Noa) -> None:
    metrics = PerformanceMetrics(average_latency=12.3, tokens_per_second=41.26, total_inferences=7, success_rate=1.0)
    fleet.answer(
        "GET", f"/api/v1/models/{KEY}", msgspec.structs.replace(ENTRY, performance_metrics=metrics, error=None)
    )
    info = ModelInfo(id="sub/x", name="x", provider="llama.cpp")
    active = ActiveModel(key=KEY, model=info, loaded_at=MOMENT, pinned=True)
    fleet.answer("GET", "/api/v1/models/loaded", {"models": [active], "count": 1, "currentModel": active})
    shown = noa("show", KEY).stdout
    assert "kept: pinned" in shown
    assert "measured: 12 ms, 41.3 tokens/s, 100% succeed, over 7 requests" in shown
    assert "error" not in shown


def test_json_has_a_stable_shape(fleet: ScriptedServer, noa: Noa) -> None:
    shown = msgspec.json.decode(noa("show", KEY, "--json").stdout)
    assert shown.keys() == {"model", "active", "aliases", "log"}
    assert (shown["model"]["key"], shown["active"], shown["aliases"], shown["log"]) == (
        KEY,
        None,
        ["prod"],
        ["bad magic"],
    )


def test_the_model_in_use_can_be_named_as_such(fleet: ScriptedServer, noa: Noa) -> None:
    info = ModelInfo(id="sub/x", name="x", provider="llama.cpp")
    fleet.answer("GET", "/api/v1/models/current", {"model": ActiveModel(key=KEY, model=info, loaded_at=MOMENT)})
    assert noa("show", "current").stdout.splitlines()[0] == KEY
    fleet.answer("GET", "/api/v1/models/current", {"model": None})
    assert noa("show", "current").exit_code == 3


def test_an_unknown_model_exits_with_3_and_a_provider_is_no_model(server: ScriptedServer, noa: Noa) -> None:
    server.refuse("GET", "/api/v1/models/nope", 404, "MODEL_NOT_FOUND", "There is no model “nope”.")
    assert noa("show", "nope").exit_code == 3
    refused = noa("show", "openai")
    assert refused.exit_code == 2
    assert "noa ls --provider openai" in refused.stderr


# What it rests on, and what it costs.

EVIDENCE = (
    CapabilityEvidence(
        capability=ModelCapability.CHAT_COMPLETION, supported=True, source=EvidenceSource.DECLARED, at=MOMENT
    ),
    CapabilityEvidence(
        capability=ModelCapability.VISION,
        supported=False,
        source=EvidenceSource.PROBED,
        at=MOMENT,
        detail="it saw red",
    ),
)
PRICE = Price(
    input=2.5,
    output=10.0,
    cache_read=1.25,
    tiers=(PriceTier(above=200_000, input=5.0),),
    source=PriceSource.CATALOG,
    as_of=date(2026, 11, 1),
    note="half of it at night",
)
PLAN = ProbePlan(
    key=KEY,
    capabilities=(ModelCapability.VISION,),
    requests=1,
    prompt_tokens=3000,
    completion_tokens=256,
    cost_usd=0.01006,
    price=PRICE,
)
RESULT = ProbeResult(
    capability=ModelCapability.VISION, outcome=ProbeOutcome.UNSUPPORTED, detail="it saw red", at=MOMENT
)
PROBE = f"/api/v1/models/{KEY}/probe"


def plan(fleet: ScriptedServer, cost_usd: float | None) -> None:
    """Let probing cost so much."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        planned = (await request.json()).get("plan")
        body: object = {"plan": msgspec.structs.replace(PLAN, cost_usd=cost_usd)}
        if not planned:
            body = {"success": True, "key": KEY, "results": [RESULT], "capabilities": []}
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    fleet.handle("POST", PROBE, answer)
    fleet.stream("GET", "/api/v1/events", [])


def probed(fleet: ScriptedServer) -> int:
    return sum(each.path == PROBE and not each.json.get("plan") for each in fleet.received)


def test_what_a_model_can_do_is_shown_with_its_evidence_and_its_price_with_its_date(
    fleet: ScriptedServer, noa: Noa
) -> None:
    window = FactSources(context_window=EvidenceSource.CATALOG)
    known = msgspec.structs.replace(ENTRY, evidence=EVIDENCE, price=PRICE, sources=window)
    fleet.answer("GET", f"/api/v1/models/{KEY}", known)
    shown = noa("show", KEY).stdout.splitlines()
    assert "    chat_completion   yes  declared 2026-11-20" in shown
    assert "    vision            no   probed 2026-11-20: it saw red" in shown
    assert "  window: 8192 tokens (catalog), answers: at most —" in shown
    price = "  price: $2.5 in, $10 out, $1.25 read from cache per million tokens (catalog, as of 2026-11-01)"
    assert price in shown
    assert "    half of it at night" in shown
    assert "    beyond 200000 tokens of prompt: $5 in" in shown
    model = msgspec.json.decode(noa("show", KEY, "--json").stdout)["model"]
    assert model["evidence"][1]["source"] == "probed"
    assert model["price"]["asOf"] == "2026-11-01"


def test_a_model_that_runs_here_is_free(fleet: ScriptedServer, noa: Noa) -> None:
    own = Price(input=0, output=0, source=PriceSource.LOCAL)
    fleet.answer("GET", f"/api/v1/models/{KEY}", msgspec.structs.replace(ENTRY, price=own))
    assert "  price: free, it runs here" in noa("show", KEY).stdout.splitlines()


def test_a_free_model_is_probed_without_a_question(fleet: ScriptedServer, noa: Noa) -> None:
    plan(fleet, 0)
    result = noa("show", KEY, "--probe")
    assert result.exit_code == 0
    assert f"{KEY}: vision unsupported: it saw red" in result.stderr
    assert result.stdout.startswith(KEY)
    assert probed(fleet) == 1


@pytest.mark.parametrize(("cost_usd", "said"), [(0.01006, "at most $0.0101"), (None, "price is unknown")])
def test_what_probing_may_cost_is_said_before_it_is_done(
    fleet: ScriptedServer, noa: Noa, cost_usd: float | None, said: str
) -> None:
    plan(fleet, cost_usd)
    refused = noa("show", KEY, "--probe")
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert "--yes" in refused.stderr
    assert probed(fleet) == 0
    agreed = noa("show", KEY, "--probe", "--yes")
    assert (agreed.exit_code, probed(fleet)) == (0, 1)
    assert said in agreed.stderr


@pytest.mark.parametrize(("answer", "times"), [("n\n", 0), ("y\n", 1)])
def test_who_is_there_is_asked(
    fleet: ScriptedServer, noa: Noa, monkeypatch: pytest.MonkeyPatch, answer: str, times: int
) -> None:
    plan(fleet, 0.5)
    monkeypatch.setattr(probing, "interactive", lambda _stream: True)
    result = noa("show", KEY, "--probe", stdin=answer)
    assert result.exit_code == 0
    assert result.stdout.startswith(KEY)
    assert probed(fleet) == times


def test_progress_is_that_of_this_model() -> None:
    data = {"key": KEY, "capability": "vision", "done": 1, "total": 6}
    event = ServerEvent(type="probing-progress", sequence=1, time=MOMENT, data=data)
    assert probing.progress_of(event) == f"{KEY}: vision tried, 1 of 6"
    assert probing.progress_of(msgspec.structs.replace(event, type="model-loaded")) is None
