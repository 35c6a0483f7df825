"""A manager to be killed: starts one engine, prints its pid, and waits. Arguments: the loop, the weights,
the folder for sockets, and optionally a ``llama-server``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from noa.runtime.child import ChildRuntime
from noa.runtime.protocol import EngineSpec
from noa.state import ProcessGone, ProcessIntended, ProcessStarted


async def keep(entry: ProcessIntended | ProcessStarted | ProcessGone) -> None:
    if isinstance(entry, ProcessStarted):
        sys.stdout.write(f"started {entry.pid}\n")
        sys.stdout.flush()


async def main() -> None:
    spec = EngineSpec(key="llama.cpp:m", generation=1, path=sys.argv[2], alias="m", context_size=256)
    binary = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    runtime = ChildRuntime(socket_dir=Path(sys.argv[3]), llama_server=binary)
    await runtime.start(spec, keep, lambda phase: None)
    sys.stdout.write("loaded\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run = uvloop.run if sys.argv[1] == "uvloop" else asyncio.run
    run(main())
