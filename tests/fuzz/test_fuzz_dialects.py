"""A taste of the fuzzing that ``make nightly`` does for a minute."""

from __future__ import annotations

import pytest

from fuzz.fuzz_dialects import run


@pytest.mark.parametrize("first", range(0, 500, 125))
def test_nothing_that_peers_may_send_breaks_the_codecs(first: int) -> None:
    for seed in range(first, first + 125):
        run(seed)
