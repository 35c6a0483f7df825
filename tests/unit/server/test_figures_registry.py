"""What is scraped from us says nothing that nobody asked for, and changes nothing of what others have."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from noa.server.metrics import Figures


def test_no_series_says_when_it_began_and_those_of_the_host_still_do() -> None:
    ours, hosts = Figures(), CollectorRegistry()
    for registry in (ours, hosts):
        Counter("things_total", "Things.", registry=registry).inc()
        Histogram("took_seconds", "Time.", registry=registry).observe(1)
    text = generate_latest(ours).decode()
    assert "things_total 1.0" in text
    assert "took_seconds_count 1.0" in text
    assert "_created" not in text
    assert "things_created" in generate_latest(hosts).decode()
