"""What requests cost, through the server and as a library: the provider's own count times the price that is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from noa.config import Configuration, ProviderConfig, Secret
from noa.config.known_models import KnownModel
from noa.manager import ModelManager
from noa.models import Price, PriceSource, PriceTier
from noa.runtime.fake import FakeRuntime
from scripted_upstream import ScriptedUpstream, events_answer, json_answer
from served import Served, serving, until

GPT, MINE, NEW, CLAUDE, EMBED = "gpt-4o", "mine", "brand-new", "claude-sonnet-4-5", "text-embedding-3-small"
CHAT = "/v1/chat/completions"
MINE_PRICE = Price(
    input=1, output=2, reasoning=4, tiers=(PriceTier(above=100, input=10, output=20),), source=PriceSource.CONFIGURED
)
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=(GPT, MINE, NEW, CLAUDE, EMBED)) as upstream:
        yield upstream


@pytest.fixture
async def manager(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[ModelManager]:
    configuration = Configuration(
        home=tmp_path,
        providers=(
            ProviderConfig(type="openai", api_key=Secret("sk-canary"), base_url=f"{upstream.url}/v1"),
            ProviderConfig(type="claude", api_key=Secret("sk-canary"), base_url=upstream.url),
        ),
        known_models={f"openai:{MINE}": KnownModel(price=MINE_PRICE)},
    )
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager:
        yield manager


@pytest.fixture
async def server(manager: ModelManager) -> AsyncIterator[Served]:
    async with serving(manager, hold_s=0.1) as server:
        yield server


def completion(**usage: Any) -> dict[str, Any]:
    message = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message], "usage": usage}


def chunk(text: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


FINISH = chunk() | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {
    "prompt_tokens": 2_000,
    "completion_tokens": 100,
    "total_tokens": 2_100,
    "prompt_tokens_details": {"cached_tokens": 1_000},
    "completion_tokens_details": {"reasoning_tokens": 40},
}
#: 1000 × 2.5 + 1000 × 1.25 + 100 × 10, by the catalogue.
GPT_COST = 0.00475


async def cost_of_last(manager: ModelManager) -> float | None:
    usage = manager._open.usage
    return (await usage.requests(limit=1))[0].cost_usd


async def test_a_known_model_shows_its_price_and_who_says_so(server: Served) -> None:
    entry = (await server.get(f"/api/v1/models/openai:{GPT}")).json
    shown = entry.get("model", entry)["price"]
    assert (shown["input"], shown["output"], shown["source"]) == (2.5, 10, "catalog")
    assert shown["asOf"] is not None
    entry = (await server.get(f"/api/v1/models/openai:{MINE}")).json
    assert entry.get("model", entry)["price"]["source"] == "configured"


async def test_cached_tokens_are_paid_once_at_their_price(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    upstream.script(CHAT, json_answer(completion(**USAGE)))
    await server.post(CHAT, {"model": f"openai:{GPT}", "messages": MESSAGES})
    assert await cost_of_last(manager) == pytest.approx(GPT_COST)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_a_stream_costs_what_the_upstream_counted_whoever_asked_for_that(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager, options: dict[str, Any]
) -> None:
    upstream.script(CHAT, events_answer(chunk("Hi"), FINISH, chunk(usage=USAGE), "[DONE]"))
    body = {"model": f"openai:{GPT}", "messages": MESSAGES, "stream": True, **options}
    assert (await server.post(CHAT, body)).status == 200
    assert await cost_of_last(manager) == pytest.approx(GPT_COST)


async def test_a_stream_that_nobody_counted_has_no_known_cost(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    upstream.script(CHAT, events_answer(chunk("Hi"), FINISH, "[DONE]"))
    await server.post(CHAT, {"model": f"openai:{GPT}", "messages": MESSAGES, "stream": True})
    assert await cost_of_last(manager) is None


async def test_a_caller_of_another_dialect_pays_the_same(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    upstream.script(CHAT, json_answer(completion(**USAGE)))
    await server.post("/v1/messages", {"model": f"openai:{GPT}", "messages": MESSAGES, "max_tokens": 100})
    assert await cost_of_last(manager) == pytest.approx(GPT_COST)


@pytest.mark.parametrize("path", ["/v1/messages", CHAT])
async def test_what_anthropic_counts_apart_is_paid_once(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager, path: str
) -> None:
    usage = {
        "input_tokens": 1_000,
        "cache_read_input_tokens": 6_000,
        "cache_creation_input_tokens": 3_000,
        "output_tokens": 200,
    }
    said = {"id": "m", "type": "message", "role": "assistant", "model": CLAUDE, "stop_reason": "end_turn"}
    upstream.script("/v1/messages", json_answer({**said, "content": [{"type": "text", "text": "Hi"}], "usage": usage}))
    await server.post(path, {"model": f"claude:{CLAUDE}", "messages": MESSAGES, "max_tokens": 300})
    assert await cost_of_last(manager) == pytest.approx(0.01905)  # 1000 × 3 + 6000 × 0.3 + 3000 × 3.75 + 200 × 15


async def test_the_users_price_counts_with_its_tier_and_reasoning(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    small = {"prompt_tokens": 100, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 10}}
    upstream.script(CHAT, json_answer(completion(**small)), json_answer(completion(**small | {"prompt_tokens": 101})))
    body = {"model": f"openai:{MINE}", "messages": MESSAGES}
    await server.post(CHAT, body)
    assert await cost_of_last(manager) == pytest.approx(0.00022)  # 100 × 1 + 40 × 2 + 10 × 4
    await server.post(CHAT, body)
    assert await cost_of_last(manager) == pytest.approx(0.00185)  # 101 × 10 + 40 × 20 + 10 × 4


async def test_an_embedding_costs_its_prompt(server: Served, manager: ModelManager) -> None:
    await server.post("/v1/embeddings", {"model": f"openai:{EMBED}", "input": ["one", "two"]})
    assert await cost_of_last(manager) == pytest.approx(4e-8)  # two tokens, as the upstream counts them


async def test_a_model_that_no_one_knows_is_served_at_an_unknown_cost(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    upstream.script(CHAT, json_answer(completion(**USAGE)))
    answer = await server.post(CHAT, {"model": f"openai:{NEW}", "messages": MESSAGES})
    assert answer.status == 200
    assert await cost_of_last(manager) is None
    entry = (await server.get(f"/api/v1/models/openai:{NEW}")).json
    assert entry.get("model", entry)["price"] is None


async def test_usage_is_summed_up_for_whoever_asks(
    server: Served, upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    upstream.script(CHAT, *[json_answer(completion(**USAGE)) for _ in range(3)])
    for name in (GPT, GPT, NEW):
        await server.post(CHAT, {"model": f"openai:{name}", "messages": MESSAGES})
    answer = (await server.get("/api/v1/status/usage")).json
    by_model = {group["group"]: group for group in answer["groups"]}
    assert (answer["by"], answer["count"]) == ("model", 2)
    assert by_model[f"openai:{GPT}"]["costUsd"] == pytest.approx(2 * GPT_COST)
    assert by_model[f"openai:{GPT}"]["cachedTokens"] == 2_000
    assert by_model[f"openai:{NEW}"]["costUsd"] is None
    assert by_model[f"openai:{NEW}"]["promptTokens"] == 2_000
    (day,) = (await server.get("/api/v1/status/usage?by=day")).json["groups"]
    assert (day["requests"], day["pricedRequests"]) == (3, 2)
    assert (await server.get("/api/v1/status/usage?since=2100-01-01")).json["groups"] == []
    one = (await server.get(f"/api/v1/status/usage?by=hour&key=openai:{GPT}")).json["groups"]
    assert sum(group["requests"] for group in one) == 2
    for wrong in ("by=colour", "since=yesterday", "until=99"):
        refused = await server.get(f"/api/v1/status/usage?{wrong}")
        assert (refused.status, refused.error["code"]) == (400, "VALIDATION_ERROR")


async def test_a_models_totals_are_among_its_figures_and_in_the_event(
    upstream: ScriptedUpstream, manager: ModelManager
) -> None:
    costs: list[object] = []
    manager.on("inference-complete", lambda event: costs.append(event.data["cost_usd"]))
    upstream.script(CHAT, *[json_answer(completion(**USAGE)) for _ in range(2)])
    for _ in range(2):
        await manager.chat("Hello", f"openai:{GPT}")
    figures = manager.performance_metrics(f"openai:{GPT}")
    assert figures is not None
    assert figures.total_cost_usd == pytest.approx(2 * GPT_COST)
    assert (figures.total_prompt_tokens, figures.total_completion_tokens) == (4_000, 200)
    await until(lambda: len(costs) == 2)
    assert costs == [pytest.approx(GPT_COST)] * 2
