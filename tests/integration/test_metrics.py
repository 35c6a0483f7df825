"""What a request took is split rightly, shown for its model, and counted for Prometheus under the right names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from managed import OWL, PARROT, birds
from noa.config.known_models import KnownModel
from noa.errors import ProviderResponseError
from noa.lease import Lease
from noa.leased_model import chat_request
from noa.models import Price, PriceSource
from noa.providers.fake import FakeModel, FakeProvider
from noa.state import RequestRecord
from served import Served, manager_of, serving

DEPLOY = Path(__file__).parents[2] / "deploy"
GEN_AI = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "fake", "gen_ai_request_model": "owl"}


class Time:
    """A clock that only moves when told to, or when the provider sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        for module in ("noa.attempt", "noa.inference"):
            monkeypatch.setattr(f"{module}.time", SimpleNamespace(perf_counter=lambda: self.now_s))

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


async def scraped(server: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = (await server.get("/metrics")).body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_time_of_a_request_is_split_into_the_wait_the_upstream_and_our_own(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    provider = FakeProvider([FakeModel(id="owl")], latency_s=2.0, piece_delay_s=0.5, sleep=time.sleep)
    records: list[RequestRecord] = []
    async with manager_of(provider) as manager:
        manager.observe(records.append)
        acquire = manager.engine.acquire

        async def slowly(*arguments: Any, **options: Any) -> Lease:
            await time.sleep(4.0)
            return await acquire(*arguments, **options)

        monkeypatch.setattr(manager.engine, "acquire", slowly)
        request = chat_request("one two three", {})
        async with manager.inference.serve(OWL, "chat", streamed=streamed) as serving:
            await time.sleep(0.25)
            if streamed:
                async for _ in serving.stream(request):
                    pass
            else:
                await serving.complete(request)
            await time.sleep(1.0)
        live = manager.live_spread(OWL)
    [record] = records
    first_token_ms, per_token_ms = (2250.0, 1000.0) if streamed else (None, None)
    assert (record.queue_ms, record.latency_ms, record.overhead_ms) == (4000.0, 4250.0, 1250.0)
    assert (record.ttft_ms, record.tpot_ms) == (first_token_ms, per_token_ms)
    assert (live.queue_ms.p50, live.overhead_ms.p50, live.latency_ms.p50) == (4000.0, 1250.0, 4250.0)
    assert (live.ttft_ms.p50, live.tpot_ms.samples) == (first_token_ms, int(streamed))
    assert live.last_at == record.at


async def test_the_time_of_a_failure_says_nothing_and_what_a_program_measured_itself_counts() -> None:
    bird = birds()
    async with manager_of(bird) as manager:
        bird.fail(ProviderResponseError("Nonsense.", provider="fake"))
        with pytest.raises(ProviderResponseError):
            await manager.chat("hoo", OWL)
        assert manager.live_spread(OWL).latency_ms.samples == 0, "the time of a failure says nothing"
        manager.record_inference(OWL, 100.0, 10, success=True)
        spread = manager.live_spread(OWL)
    assert (spread.latency_ms.p50, spread.ttft_ms.p50, spread.overhead_ms.p50) == (100.0, None, None)


async def test_a_models_live_figures_are_told_with_what_is_in_flight_and_unknown_is_null() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        fresh = (await server.get(f"/api/v1/models/{PARROT}/metrics")).json
        assert (fresh["metrics"], fresh["inFlight"], fresh["live"]["lastAt"]) == (None, 0, None)
        assert fresh["live"]["ttftMs"] == {
            "p50": None, "p90": None, "p95": None, "p99": None, "min": None, "max": None, "samples": 0,
        }  # fmt: skip
        await manager.chat("hoo", OWL)
        async with manager.inference.serve(OWL, "chat"):
            answer = (await server.get(f"/api/v1/models/{OWL}/metrics")).json
        assert answer["inFlight"] == 1
        assert answer["live"]["overheadMs"]["samples"] == answer["live"]["queueMs"]["samples"] == 1
        assert answer["live"]["overheadMs"]["p90"] is None
        assert answer["metrics"]["totalCompletionTokens"] == 1


async def test_a_request_is_counted_under_the_names_of_the_quick_start_of_opentelemetry_and_our_own() -> None:
    price = Price(input=1_000_000.0, output=2_000_000.0, source=PriceSource.CONFIGURED)
    bird = birds()
    async with (
        manager_of(bird, known_models={OWL: KnownModel(price=price)}) as manager,
        serving(manager) as server,
    ):
        async for _ in manager.stream("hoo hoo", OWL):
            pass
        await manager.chat("hoo", PARROT)
        bird.fail(ProviderResponseError("Nonsense.", provider="fake"))
        with pytest.raises(ProviderResponseError):
            await manager.chat("hoo", OWL)
        figures = await scraped(server)
    assert figures[of("inference_latency_seconds_count", model=OWL)] == 1
    assert figures[of("gen_ai_client_operation_duration_seconds_count", **GEN_AI, error_type="")] == 1
    failed = of("gen_ai_client_operation_duration_seconds_count", **GEN_AI, error_type=ProviderResponseError.code)
    assert figures[failed] == 1
    assert figures[of("gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type="input")] == 2
    assert figures[of("gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type="output")] == 2
    assert figures[of("gen_ai_server_time_to_first_token_seconds_count", **GEN_AI)] == 1
    assert figures[of("gen_ai_server_time_per_output_token_seconds_count", **GEN_AI)] == 1
    assert figures[of("noa_queue_time_seconds_count", model=OWL)] == 2
    assert figures[of("noa_overhead_seconds_count", model=OWL)] == 1
    assert figures[of("noa_cost_usd_total", model=OWL)] == 2 * 1 + 2 * 2
    assert figures[of("noa_unpriced_requests_total", model=PARROT)] == 1
    assert figures[of("noa_unpriced_requests_total", model=OWL)] == 0


async def test_gauges_show_the_models_by_status_and_forget_the_loads_of_those_that_are_gone() -> None:
    async with (
        manager_of(birds(owned=True), max_loaded_models=2) as manager,
        serving(manager) as server,
    ):
        await manager.load_model(OWL)
        async with manager.inference.serve(OWL, "chat"):
            figures = await scraped(server)
        assert figures[of("noa_models", status="loaded")] == figures[of("models_loaded")] == 1
        assert figures[of("noa_models", status="available")] == 2
        assert figures[of("noa_models", status="failed")] == 0
        assert figures[of("noa_requests_in_flight", model=OWL)] == 1
        assert figures[of("noa_requests_waiting")] == 0
        assert figures[of("model_loads_total", provider="fake", model="owl")] == 1
        await manager.unload_model(OWL)
        assert of("noa_requests_in_flight", model=OWL) not in await scraped(server)


async def test_what_a_caller_writes_never_becomes_a_label() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        body = {"model": "made-up-name", "messages": [{"role": "user", "content": "hoo"}]}
        assert (await server.post("/v1/chat/completions", body)).status == 404
        await server.post("/v1/chat/completions", {**body, "model": OWL})
        text = (await server.get("/metrics")).body.decode()
    assert "made-up-name" not in text
    assert OWL in text


def series_in(expression: str) -> set[str]:
    """The names of the series that a PromQL expression reads."""
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)", "", expression)
    words = set(re.findall(r"[a-zA-Z_:][\w:]*", without_labels))
    return {word for word in words if "_" in word} - {"histogram_quantile", "label_replace"}


def expressions() -> list[tuple[str, str]]:
    dashboard = json.loads((DEPLOY / "grafana" / "noa.json").read_text(encoding="utf-8"))
    rules = yaml.safe_load((DEPLOY / "prometheus" / "noa.rules.yml").read_text(encoding="utf-8"))
    panels = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    variables = [
        (variable["name"], re.sub(r"^label_values\((.*), *\w+\)$", r"\1", variable["query"]["query"]))
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    alerts = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    return [*panels, *variables, *alerts]


async def test_the_dashboard_and_the_alerts_read_only_figures_that_there_are() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        async for _ in manager.stream("hoo hoo", OWL):
            pass
        text = (await server.get("/metrics")).body.decode()
    shown = set(re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE)) | set(
        re.findall(r"^(\w+)", text, flags=re.MULTILINE)
    )
    assert len(expressions()) > 15
    missing = {(title, name) for title, expression in expressions() for name in series_in(expression) - shown}
    assert missing == set()


async def test_every_figure_is_described_and_every_one_described_is_there() -> None:
    async with manager_of(birds()) as manager, serving(manager) as server:
        text = (await server.get("/metrics")).body.decode()
    shown = set(re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE))
    page = (DEPLOY.parent / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    described = {
        name for row in re.findall(r"^\| (`[a-z]+_.+?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert described == shown


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "noa.json").read_text(encoding="utf-8"))
    assert dashboard["id"] is None, "Grafana gives it a number of its own"
    assert dashboard["uid"] == "noa"
    assert dashboard["schemaVersion"] >= 36
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies upon another panel"
        taken |= cells
        assert panel["type"] in {"timeseries", "stat", "row", "bargauge", "table"}
        for target in panel.get("targets", []):
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["refId"]


def test_the_scrape_example_and_the_rules_are_what_prometheus_reads() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    [job] = scrape["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert scrape["rule_files"] == ["noa.rules.yml"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "noa.rules.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert {"alert", "expr", "for", "labels", "annotations"} <= rule.keys()
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert {"summary", "description"} == rule["annotations"].keys()
