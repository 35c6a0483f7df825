"""OpenTelemetry traces, for those who ask for them: a span for each attempt to have a request served by a model.

Names and attributes are OpenTelemetry's for generative AI (``semantic-conventions-genai``, ``gen-ai-spans.md``), as far
as it has them. No text of a conversation is in a span.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from noa.models import split_key
from noa.state import RequestRecord
from noa.trace_context import OF_CALLER, TRACEPARENT
from noa.version import __version__

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

logger = logging.getLogger(__name__)

#: How long a collector may take for what it is sent, in seconds. It is sent in the background.
EXPORT_TIMEOUT_S: Final = 5.0
#: OpenTelemetry's words where ours differ.
_OPERATIONS: Final = {"completion": "text_completion", "probe": "chat"}
_PROVIDERS: Final = {"claude": "anthropic"}


class Span:
    """One attempt at one model. ``traceparent`` is what its upstream is told, so that its spans go below this one."""

    def __init__(self, span: trace.Span, traceparent: str | None) -> None:
        self._span = span
        self.traceparent = traceparent

    def end(self, record: RequestRecord) -> None:
        """The attempt is over."""
        figures: dict[str, str | int | float | None] = {
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
            "error.type": record.error_code,
            "noa.request.id": record.request_id,
            "noa.ttft_ms": record.ttft_ms,
            "noa.queue_ms": record.queue_ms,
            "noa.overhead_ms": record.overhead_ms,
            "noa.cost_usd": record.cost_usd,
        }
        self._span.set_attributes({name: value for name, value in figures.items() if value is not None})
        if not record.success:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, record.error_code))
        self._span.end()


class Tracing:
    """Makes spans, and has them sent."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("noa", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, operation: str, key: str, queue_s: float) -> Span:
        """An attempt at this model begins, for which the request has waited so long. Its parent is the caller's span.

        Without one from a caller it is the program's own, if that traces too.
        """
        from opentelemetry.trace import SpanKind, set_span_in_context

        provider, model_id = split_key(key)
        word = _OPERATIONS.get(operation, operation)
        told = OF_CALLER.get()
        span = self._tracer.start_span(
            f"{word} {model_id}",
            context=None if told is None else self._propagator.extract({TRACEPARENT: told}),
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": word,
                "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
                "gen_ai.request.model": model_id,
            },
            start_time=time.time_ns() - int(queue_s * 1e9),
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return Span(span, carrier.get(TRACEPARENT))

    async def aclose(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)


def open_tracing(endpoint: str | None) -> Tracing | None:
    """Traces that go to the collector at ``endpoint`` by OTLP over HTTP; ``None`` without one.

    Everything else is as OpenTelemetry's own variables say (``OTEL_SERVICE_NAME``, ``OTEL_EXPORTER_OTLP_HEADERS``,
    ``OTEL_TRACES_SAMPLER`` …). Where the extra ``noa[otel]`` is missing there are none: the variable is often set for
    a whole machine.
    """
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning("no traces are sent to %s: install OpenTelemetry with: pip install 'noa[otel]'", endpoint)
        return None
    exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_TIMEOUT_S)
    return Tracing(provider_to(BatchSpanProcessor(exporter)))


def provider_to(processor: SpanProcessor) -> TracerProvider:
    """What makes spans under Noa's name, unless ``OTEL_SERVICE_NAME`` says another, and hands them to this."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "noa"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider
