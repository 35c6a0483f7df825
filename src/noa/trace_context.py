"""Which trace the work of this task belongs to, as W3C's ``traceparent`` says it (https://www.w3.org/TR/trace-context/).

Both are empty unless requests are traced (see ``noa.tracing``).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

#: The name of the header.
TRACEPARENT: Final = "traceparent"
#: What the caller sent: the parent of what is done for it.
OF_CALLER: Final[ContextVar[str | None]] = ContextVar("noa_trace_of_caller", default=None)
#: What an upstream is sent: our part of the trace, the parent of what is done there.
FOR_UPSTREAM: Final[ContextVar[str | None]] = ContextVar("noa_trace_for_upstream", default=None)
