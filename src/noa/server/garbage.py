"""Python's garbage collector in a process that does nothing but serve.

It looks through everything again and again, what was imported and built at the start above all, which never goes: tens
of milliseconds at a time, in the midst of somebody's answer. So that is set aside once the server is ready, and the
rest is looked through less often. Objects without cycles, which is nearly all of a request's, go without it as before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: How many more containers than were let go of are made between two looks at the youngest, and how many looks at one
#: generation there are for one at the next. Python's own are 700 (2,000 since 3.12), 10 and 10.
THRESHOLDS: Final = (5_000, 20, 50)


def set_aside() -> None:
    """Leave alone from now on whatever there is."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def restored() -> Iterator[None]:
    """Leave the collector as it was before the block."""
    before = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
