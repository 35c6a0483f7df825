from __future__ import annotations

import gc

from noa.server import garbage


def test_what_is_there_at_the_start_is_not_looked_through_again_while_the_server_runs() -> None:
    with garbage.restored():
        before = gc.get_freeze_count()
        garbage.set_aside()
        assert gc.get_freeze_count() > before + 1_000
        assert gc.get_threshold() == garbage.THRESHOLDS


def test_cycles_made_later_are_still_found() -> None:
    class Node:
        def __init__(self) -> None:
            self.me = self

    with garbage.restored():
        garbage.set_aside()
        Node()
        assert gc.collect() >= 1


def test_the_collector_is_left_as_it_was_found() -> None:
    thresholds = gc.get_threshold()
    with garbage.restored():
        garbage.set_aside()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0
