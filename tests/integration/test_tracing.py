"""Traces reach a collector, join the caller's, go on upstream, and hold no word of a conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import Answer, ScriptedUpstream
from served import serving

collector_pb = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BODY = {"model": "openai:gpt", "max_tokens": 5, "messages": [{"role": "user", "content": "a secret thought"}]}


class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        sent = collector_pb.ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("gpt",)) as upstream:
        yield upstream


def manager_of(upstream: ScriptedUpstream, home: Path, endpoint: str | None) -> ModelManager:
    provider = ProviderConfig(type="openai", api_key=Secret("sk-canary"), base_url=f"{upstream.url}/v1", max_retries=0)
    configuration = Configuration(home=home, providers=(provider,), otlp_endpoint=endpoint)
    return ModelManager(configuration=configuration, runtime=FakeRuntime())


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_a_span_joins_the_callers_trace_and_goes_on_upstream(
    upstream: ScriptedUpstream, collector: Collector, tmp_path: Path
) -> None:
    told = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with manager_of(upstream, tmp_path, collector.url) as manager, serving(manager) as server:
        assert (await server.post("/v1/chat/completions", BODY, told)).status == 200
        assert (await server.post("/v1/messages", BODY, told)).status == 200
        assert (await server.post("/v1/messages", {**BODY, "stream": True}, told)).status == 200
        passed_on = [each.headers["traceparent"] for each in upstream.requests if each.method == "POST"]
        upstream.script("/v1/chat/completions", Answer(status=400, body=b'{"error": {"message": "No."}}'))
        assert (await server.post("/v1/chat/completions", BODY)).status == 400
    joined, translated, streamed, alone = collector.spans
    assert collector.services == {"noa"}
    for span, header in zip((joined, translated, streamed), passed_on, strict=True):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert header == f"00-{TRACE}-{span.span_id.hex()}-01"
    found = attributes(joined)
    assert joined.name == "chat gpt"
    assert (found["gen_ai.operation.name"], found["gen_ai.provider.name"]) == ("chat", "openai")
    assert (found["gen_ai.request.model"], found["gen_ai.usage.output_tokens"] > 0) == ("gpt", True)
    assert alone.trace_id.hex() != TRACE
    assert alone.parent_span_id == b""
    assert attributes(alone)["error.type"] == "VALIDATION_ERROR"
    assert "secret thought" not in str(collector.spans)
    assert "sk-canary" not in str(collector.spans)


async def test_without_a_collector_nothing_is_traced_or_told_upstream(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    told = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with manager_of(upstream, tmp_path, None) as manager, serving(manager) as server:
        assert manager.inference.tracing is None
        assert (await server.post("/v1/chat/completions", BODY, told)).status == 200
    assert "traceparent" not in upstream.requests[-1].headers


def test_the_variable_of_opentelemetry_switches_it_on(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "NOA_HOME": str(tmp_path)}
    assert Configuration.from_environment(environ=environ, cwd=tmp_path).otlp_endpoint == "http://collector:4318"
    assert Configuration.from_environment(environ={"NOA_HOME": str(tmp_path)}, cwd=tmp_path).otlp_endpoint is None
