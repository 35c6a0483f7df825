"""Compressed bodies cost no more memory than bodies may take, whatever they would unfold to."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from noa.errors import PayloadTooLargeError
from noa.server.compressed_body import unfolded

LIMIT = 64 * 1024


def test_a_bomb_is_not_unfolded() -> None:
    bomb = gzip.compress(b"\0" * (16 * 1024 * 1024), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(PayloadTooLargeError):
        unfolded(bomb, LIMIT)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16 * LIMIT


def test_what_is_as_large_as_a_body_may_be_is_taken() -> None:
    assert len(unfolded(gzip.compress(b"x" * LIMIT), LIMIT)) == LIMIT
    assert unfolded(b"", LIMIT) == b""
