"""The house that the suites of the dialects share, built once for each file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from callers import House
from callers import house as build


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with build(tmp_path_factory.mktemp("house")) as built:
        yield built
