"""A slowdown that is planted into a server of Noa's, to see that a comparison notices it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from noa.server.dispatcher import Dispatcher


def slow_down(spin_us: float) -> None:
    """Have every request of this process take so much more processor time, in microseconds."""
    real: Callable[..., Any] = Dispatcher.__call__

    @wraps(real)
    async def slower(*arguments: Any) -> None:
        end = time.perf_counter() + spin_us / 1e6
        while time.perf_counter() < end:
            pass
        await real(*arguments)

    Dispatcher.__call__ = slower  # type: ignore[method-assign,assignment]  # That is the very purpose, in a process of our own.
