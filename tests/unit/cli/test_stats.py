"""``noa stats``: what was used, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest
from click.testing import Result

from noa.cli.stats import dollars
from scripted_server import ScriptedServer

Noa = Callable[..., Result]
PATH = "/api/v1/status/usage"


def total(group: str | None, **facts: Any) -> dict[str, Any]:
    plain = {"requests": 2, "failures": 0, "promptTokens": 10, "completionTokens": 4, "cachedTokens": 0}
    return {**plain, "group": group, "countedRequests": 2, "costUsd": 0.5, "pricedRequests": 2, **facts}


def answer(*groups: dict[str, Any], by: str = "model") -> dict[str, Any]:
    return {"by": by, "groups": list(groups), "count": len(groups)}


def test_models_are_shown_with_their_requests_tokens_and_costs(server: ScriptedServer, noa: Noa) -> None:
    nothing = {"promptTokens": None, "completionTokens": None, "cachedTokens": None, "countedRequests": 0}
    unknown = total("x:y", requests=1, costUsd=None, pricedRequests=0, **nothing)
    server.answer("GET", PATH, answer(total("openai:gpt-4o", costUsd=1.256), unknown))
    shown = noa("stats")
    assert shown.exit_code == 0, shown.stderr
    header, first, second = shown.stdout.splitlines()
    assert header.split() == ["MODEL", "REQUESTS", "FAILED", "TOKENS", "IN", "CACHED", "TOKENS", "OUT", "COST"]
    assert first.split() == ["openai:gpt-4o", "2", "0", "10", "0", "4", "$1.26"]
    assert second.split() == ["x:y", "1", "0", "—", "—", "—", "—"]
    assert "Of 1 requests the cost is not known" in shown.stderr


def test_it_can_be_summed_up_otherwise_and_since_when(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", PATH, answer(total(None), by="key"))
    assert "(none)" in noa("stats", "--by", "key", "--since", "24h", "--model", "openai:gpt-4o").stdout
    query = server.received[-1].query
    assert (query["by"], query["key"]) == ("key", "openai:gpt-4o")
    assert datetime.fromisoformat(query["since"]).tzinfo is not None
    assert msgspec.json.decode(noa("stats", "--since", "2026-11-23", "--json").stdout)["count"] == 1
    assert server.received[-1].query["since"] == "2026-11-23T00:00:00+00:00"
    assert noa("stats", "--since", "yesterday").exit_code == 2
    assert noa("stats", "--by", "colour").exit_code == 2


def test_that_nothing_was_used_is_said(server: ScriptedServer, noa: Noa) -> None:
    server.answer("GET", PATH, answer())
    shown = noa("stats")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "No request" in shown.stderr


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(None, "—"), (0, "$0.00"), (1.256, "$1.26"), (0.12345, "$0.1235"), (0.000123, "$0.000123"), (2.5e-6, "$2.50e-06")],
)
def test_small_amounts_keep_their_figures(amount: float | None, shown: str) -> None:
    assert dollars(amount) == shown
