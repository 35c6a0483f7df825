"""What other people's clients talk to here: Noa over a scripted upstream, and Noa with the demo model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from machine import Machine
from noa.config import Configuration, ProviderConfig, Secret
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from served import Served, serving
from weather_upstream import SERVED_AS, WeatherUpstream


@pytest.fixture(params=SERVED_AS)
def model(request: pytest.FixtureRequest) -> str:
    """The model that a conversation names. Whose client speaks the other dialect is translated for."""
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture
async def upstream() -> AsyncIterator[WeatherUpstream]:
    async with WeatherUpstream() as upstream:
        yield upstream


@pytest.fixture
async def noa(upstream: WeatherUpstream, tmp_path: Path) -> AsyncIterator[Served]:
    """Noa's own server, with that upstream as OpenAI and as Anthropic."""
    async with serving_both(upstream, tmp_path) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_upstream() -> AsyncIterator[WeatherUpstream]:
    """The same for all tests of a module, which must not mind each other."""
    async with WeatherUpstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_noa(
    shared_upstream: WeatherUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """The same for all tests of a module."""
    async with serving_both(shared_upstream, tmp_path_factory.mktemp("noa")) as server:
        yield server


@asynccontextmanager
async def serving_both(upstream: WeatherUpstream, home: Path) -> AsyncIterator[Served]:
    """A server that has the upstream twice, once in each dialect."""
    providers = (
        ProviderConfig(type="openai", api_key=Secret("sk-unused"), base_url=f"{upstream.url}/v1"),
        ProviderConfig(type="claude", api_key=Secret("sk-unused"), base_url=upstream.url),
    )
    configuration = Configuration(home=home, providers=providers)
    async with ModelManager(configuration=configuration, runtime=FakeRuntime()) as manager, serving(manager) as server:
        yield server


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[str]:
    """The address of ``noa demo`` as its users start it, one for all clients."""
    machine = Machine.at(tmp_path_factory.mktemp("demo"))
    (machine.models / "smollm2-135m-instruct.gguf").hardlink_to(demo_model)
    with machine.serving("demo") as server:
        yield server.url
