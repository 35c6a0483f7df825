"""The page of the metrics: what ``GET /metrics`` shows, asked of the very registry that it shows."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from scripts.reference import markdown
from scripts.reference.markdown import code, told

from noa.config import Configuration
from noa.manager import ModelManager
from noa.server.metrics import Metrics

_KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def page() -> str:
    """The page."""
    return markdown.page(
        "Metrics",
        "What `GET /metrics` shows. How to scrape it, when to be woken by it and how to see it in Grafana is in "
        "[Monitoring](../monitoring.md). Labels have few values: models and providers are those that exist, never what "
        "a caller wrote.",
        markdown.table(("Name", "Kind", "Labels", "Meaning"), sorted(_rows())),
        "`gen_ai_token_type` is `input` or `output`, and `error_type` a code of [Errors](errors.md). A histogram `x` "
        "is shown as `x_bucket` (with the label `le`), `x_count` and `x_sum`. Names that begin with `gen_ai_` are "
        "OpenTelemetry's for generative AI, which are still in development, so they may be renamed there, and then "
        "here.",
    )


def _rows() -> Iterator[list[str]]:
    metrics = Metrics(ModelManager(configuration=Configuration(), enable_persistence=False))
    for figure in metrics.registry._collector_to_names:  # noqa: SLF001  # the library tells it nowhere else
        assert isinstance(figure, MetricWrapperBase)
        yield _row(figure)


def _row(figure: MetricWrapperBase) -> list[str]:
    (family,) = figure.describe()
    name = family.name + ("_total" if isinstance(figure, Counter) else "")
    labels = ", ".join(code(label) for label in figure._labelnames)  # noqa: SLF001  # as above
    return [code(name), _KINDS[type(figure)], labels, told(family.documentation, name)]
