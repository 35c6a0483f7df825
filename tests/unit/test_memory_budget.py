"""How much memory models may take: as people write it, wherever they write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from configured import configure, refusal
from noa.config import Configuration
from noa.errors import ConfigurationError
from noa.models import CacheType

TOTAL = 10 * 1024**3


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("8GiB", 8 * 1024**3),
        ("8 gib", 8 * 1024**3),
        ("8G", 8 * 1024**3),
        ("8GB", 8_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("512m", 512 * 1024**2),
        ("1024", 1024),
        ("1024B", 1024),
        (1024, 1024),
        ("80%", 8_589_934_592),
        ("100 %", TOTAL),
    ],
)
def test_an_amount_is_read_as_it_is_meant(written: str | int, size_bytes: int) -> None:
    assert Configuration(memory_budget=written).memory_budget_bytes(TOTAL) == size_bytes


@pytest.mark.parametrize("written", ["", "much", "-1GiB", "8GiBs", "0", "0%", "101%", "1e9", "%", 0, -5])
def test_what_is_no_amount_is_refused(written: str | int) -> None:
    with pytest.raises(ConfigurationError, match="memory_budget must"):
        Configuration(memory_budget=written)


def test_by_default_a_little_is_left_to_others() -> None:
    assert 0.8 * TOTAL <= Configuration().memory_budget_bytes(TOTAL) <= 0.9 * TOTAL


def test_a_variable_goes_before_the_file(tmp_path: Path) -> None:
    file = "models:\n  memoryBudget: 2GiB\n"
    assert configure(tmp_path, file).memory_budget_bytes(TOTAL) == 2 * 1024**3
    assert configure(tmp_path, file, NOA_MEMORY_BUDGET="50%").memory_budget_bytes(TOTAL) == 5 * 1024**3


def test_a_number_of_bytes_needs_no_quotes(tmp_path: Path) -> None:
    assert configure(tmp_path, "models:\n  memoryBudget: 1073741824\n").memory_budget_bytes(TOTAL) == 1024**3


def test_what_is_wrong_is_said_where_it_stands(tmp_path: Path) -> None:
    assert refusal(tmp_path, "models:\n  memoryBudget: much\n") == (
        "noa.yaml:2: “memoryBudget” must be an amount of memory, like 8GiB, or a part of it, like 80%."
    )
    assert refusal(tmp_path, "", NOA_MEMORY_BUDGET="120%").startswith("NOA_MEMORY_BUDGET must be from 1% to 100%")


def test_the_type_of_the_cache_can_be_configured(tmp_path: Path) -> None:
    assert configure(tmp_path, "engine:\n  cacheType: q8_0\n").cache_type is CacheType.Q8_0
    assert "f32" in refusal(tmp_path, "engine:\n  cacheType: f32\n")
