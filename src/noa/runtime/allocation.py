"""What an engine says of the memory it has allocated, read from the lines it writes while it loads.

Pure. llama.cpp reports each buffer as ``<who>: <device> <kind> buffer size = <n> MiB`` (``src/llama-model.cpp``,
``src/llama-context.cpp``, ``src/llama-kv-cache.cpp``, ``src/llama-memory-recurrent.cpp``), at a verbosity of 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

#: Written when all that a load allocates is allocated (``tools/server/server.cpp``).
LOADED = ": model loaded"
_BUFFER = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size = +(\d{1,9}(?:\.\d{1,6})?) MiB")
#: A model begins to load, and with it everything anew; a context begins anew, with the model that there is.
_NEW_MODEL = "llama_model_loader: loaded meta data"
_NEW_CONTEXT = "llama_context: constructing"
#: Measured anew for the same device, these buffers take the place of the last ones. The others add up: there is a
#: buffer of weights for each file and each order of them, and a cache for each kind of layer.
_REPLACED = frozenset({"compute", "output"})
_MIB = 1024 * 1024


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes an engine allocated, on all its devices: exact to a hundredth of a MiB for each buffer.

    ``model_bytes`` counts weights that are mapped from the file and copies in another order (``CPU_REPACK``) alike.
    ``kv_bytes`` is the cache of attention, ``state_bytes`` that of recurrent layers.
    """

    model_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.model_bytes + self.kv_bytes + self.state_bytes + self.compute_bytes + self.output_bytes


def read_allocation(lines: Iterable[str]) -> Allocation | None:
    """What the last load among the lines allocated; ``None`` if they report no weights."""
    buffers: dict[tuple[str, str], float] = {}
    for line in lines:
        if _NEW_MODEL in line:
            buffers.clear()
        elif _NEW_CONTEXT in line:
            buffers = {place: size for place, size in buffers.items() if place[1] == "model"}
        elif found := _BUFFER.search(line):
            place = (found[1], found[2])
            before = 0.0 if found[2] in _REPLACED else buffers.get(place, 0.0)
            buffers[place] = before + float(found[3])
    if not any(kind == "model" for _, kind in buffers):
        return None
    return Allocation(
        model_bytes=_sum(buffers, "model"),
        kv_bytes=_sum(buffers, "KV"),
        state_bytes=_sum(buffers, "RS"),
        compute_bytes=_sum(buffers, "compute"),
        output_bytes=_sum(buffers, "output"),
    )


def _sum(buffers: dict[tuple[str, str], float], wanted: str) -> int:
    return round(sum(size for (_, kind), size in buffers.items() if kind == wanted) * _MIB)
