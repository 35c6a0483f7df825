"""What every test may ask for: the demo model, and whether the engine is here to run it."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from noa.weights import DEMO_SOURCE, fetch

CACHE = Path(__file__).parents[1] / ".cache" / "models"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Not by -m among the default options, which an -m of one's own would replace: then the long tests would run too.
    if "nightly" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    if importlib.util.find_spec("xllamacpp") is None:
        missing = pytest.mark.skip(reason="the local engine is not installed: pip install 'noa[local]'")
        for item in items:
            if item.get_closest_marker("engine"):
                item.add_marker(missing)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder of the test's own for Unix sockets, whose paths have some hundred bytes: those of pytest's grow long."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's file: what ``NOA_TEST_MODEL`` names, or else one fetched once into the checkout's cache."""
    if given := os.environ.get("NOA_TEST_MODEL"):
        return Path(given)
    CACHE.mkdir(parents=True, exist_ok=True)
    # The suite runs in two processes, and the file is fetched by the one that comes first.
    with (CACHE / ".fetching").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return asyncio.run(fetch(DEMO_SOURCE, CACHE))
