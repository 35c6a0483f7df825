"""A manager over three upstreams on real sockets, of which each is best at something: whom does Noa choose?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noa.config import Configuration, ProviderConfig, Secret
from noa.config.known_models import KnownModel
from noa.events import Event
from noa.manager import ModelManager
from noa.models import ModelCapability, Price, PriceSource
from noa.runtime.fake import FakeRuntime
from noa.state import RequestRecord
from scripted_upstream import ScriptedUpstream

FAST, CHEAP, SOLID = "fast:m", "cheap:m", "solid:m"
CHAT_PATH, MESSAGES_PATH, EMBEDDINGS_PATH = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"
CHATS = (ModelCapability.CHAT_COMPLETION, ModelCapability.TEXT_GENERATION, ModelCapability.STREAMING)
#: What a million tokens of either kind cost there, in USD.
PRICES: Mapping[str, float | None] = {FAST: 8.0, CHEAP: 1.0, SOLID: 4.0}


class Trio:
    """The manager, its upstreams by the keys of their models, and what it told."""

    def __init__(self, manager: ModelManager, upstreams: Mapping[str, ScriptedUpstream]) -> None:
        self.manager = manager
        self.upstreams = upstreams
        self.events: list[Event] = []
        manager.on("*", self.events.append)

    def asked(self, key: str) -> int:
        """How many inferences an upstream was asked for."""
        return sum(request.method == "POST" for request in self.upstreams[key].requests)

    def told(self, kind: str) -> list[Mapping[str, object]]:
        """The data of all events of a kind."""
        return [event.data for event in self.events if event.type == kind]

    def served(self, key: str, latency_ms: float, *, times: int = 20, failures: int = 0) -> None:
        """Have it seen that a model served so many requests just now, each so long, and that some failed besides."""
        for number in range(times + failures):
            self.manager._open.chooser.observe(
                RequestRecord(
                    request_id=f"seen-{key}-{number}",
                    key=key,
                    at=datetime.now(UTC),
                    operation="chat",
                    streamed=True,
                    success=number >= failures,
                    latency_ms=latency_ms,
                    ttft_ms=latency_ms / 2,
                    prompt_tokens=10,
                    completion_tokens=4,
                    error_code=None if number >= failures else "PROVIDER_ERROR",
                )
            )

    async def heard(self) -> None:
        """Let every event that was published reach its handlers."""
        await asyncio.sleep(0)


@asynccontextmanager
async def three_upstreams(
    home: Path,
    *,
    prices: Mapping[str, float | None] = PRICES,
    capabilities: Mapping[str, tuple[ModelCapability, ...]] | None = None,
    path: Path | None = None,
    **settings: Any,
) -> AsyncIterator[Trio]:
    """The three with one model each; ``capabilities`` are those of models that can do other things than chat."""
    async with (
        ScriptedUpstream(models=("m",)) as fast,
        ScriptedUpstream(models=("m",)) as cheap,
        ScriptedUpstream(models=("m",)) as solid,
    ):
        upstreams = {FAST: fast, CHEAP: cheap, SOLID: solid}
        async with chooser_over(
            home, upstreams, prices=prices, capabilities=capabilities or {}, path=path, **settings
        ) as trio:
            yield trio


@asynccontextmanager
async def chooser_over(
    home: Path,
    upstreams: Mapping[str, ScriptedUpstream],
    *,
    prices: Mapping[str, float | None],
    capabilities: Mapping[str, tuple[ModelCapability, ...]],
    path: Path | None,
    **settings: Any,
) -> AsyncIterator[Trio]:
    """A manager over upstreams that are there already."""
    configuration = Configuration(
        home=home,
        providers=tuple(
            ProviderConfig(
                type="openai",
                name=key.partition(":")[0],
                api_key=Secret("sk-canary"),
                base_url=f"{upstream.url}/v1",
                max_retries=0,
            )
            for key, upstream in upstreams.items()
        ),
        known_models={
            key: KnownModel(
                price=None if price is None else Price(input=price, output=price, source=PriceSource.CONFIGURED),
                capabilities=capabilities.get(key, CHATS),
                context_window=8_192,
            )
            for key, price in prices.items()
        },
        **settings,
    )
    async with ModelManager(configuration=configuration, runtime=FakeRuntime(), persistence_path=path) as manager:
        yield Trio(manager, upstreams)
