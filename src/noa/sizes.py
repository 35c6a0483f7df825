"""How many bytes of memory each local model needs: what was measured, else what its header says, else its file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from noa.errors import ValidationError
from noa.lifecycle import messages as m
from noa.lifecycle.footprint import CACHE_TYPES, Basis, EngineShape, Footprint, footprint
from noa.models import LoadOptions
from noa.providers.protocol import Locality, Offer
from noa.runtime.allocation import read_allocation
from noa.runtime.llama_server import CHECKPOINTS, CPU_BATCH
from noa.runtime.protocol import EngineProcess, EngineSpec
from noa.shape import Shape
from noa.state import EngineIdentity, SizeMeasured

#: How far a new measurement must be from the one before to be worth a write to the disk.
WORTH_NOTING: Final = 0.01
#: How many calculated sizes are kept at hand.
_AT_HAND: Final = 4096


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs with certain options, and what that rests on: a ``Basis``, or ``"measured"``."""

    size_bytes: int
    basis: str


MEASURED: Final = "measured"


class Sizes:
    """Knows what models need. ``build`` tells engines apart whose measurements must not be mixed up.

    A measurement counts for the same file (path, size, time of change), the same shape and the same build.
    """

    def __init__(self, shape: Shape, build: str) -> None:
        self._shape = shape
        self._build = build
        self._measured: dict[EngineIdentity, SizeMeasured] = {}
        self._calculated: dict[EngineIdentity, Need] = {}

    def restore(self, measured: Iterable[SizeMeasured]) -> None:
        """Take over what was measured before a restart."""
        self._measured.update((each.engine, each) for each in measured)

    def known(self, offer: Offer) -> m.Known:
        """What the scheduler is told of a model that is offered."""
        if offer.locality is Locality.REMOTE:
            return m.Known(key=offer.model.key, owned=False)
        return m.Known(
            key=offer.model.key,
            owned=True,
            size_bytes=self.need(offer, LoadOptions()).size_bytes,
            concurrency=self._shape.slots,
            threads=self._shape.threads,
        )

    def sized(self, offer: Offer, options: LoadOptions) -> m.Sized:
        """What the scheduler is told before a load with these options."""
        return m.Sized(key=offer.model.key, options=options, size_bytes=self.need(offer, options).size_bytes)

    def need(self, offer: Offer, options: LoadOptions) -> Need:
        """What an owned model needs when it is loaded so. Raises ``ValidationError`` for a cache type that is none."""
        spec = self._shape.spec(offer, options)
        engine = self._identity(offer, spec)
        if measured := self._measured.get(engine):
            return Need(size_bytes=measured.size_bytes, basis=MEASURED)
        if engine not in self._calculated:
            if len(self._calculated) >= _AT_HAND:
                self._calculated.clear()
            self._calculated[engine] = _calculate(offer, spec)
        return self._calculated[engine]

    def measure(self, offer: Offer, options: LoadOptions, process: EngineProcess) -> SizeMeasured | None:
        """What an engine that has just answered its first token takes; ``None`` if nothing can be said.

        That is the larger of two figures: what the engine reports to have allocated with the overhead of a process, and
        what is resident. The report is known to the byte but leaves out what the process takes beside; resident memory
        leaves out what was not touched yet. Checkpoints come with requests, so both are without them.
        """
        spec = self._shape.spec(offer, options)
        resident_bytes = process.memory_bytes() or 0
        allocation = read_allocation(process.log_lines())
        needed = _footprint(offer, spec)
        allocated_bytes = allocation.total_bytes + needed.overhead_bytes if allocation and needed else 0
        size_bytes = max(resident_bytes, allocated_bytes)
        if not size_bytes:
            return None
        size_bytes += needed.checkpoint_bytes if needed else 0
        by = "resident" if resident_bytes >= allocated_bytes else "allocation"
        return SizeMeasured(engine=self._identity(offer, spec), size_bytes=size_bytes, by=by)

    def note(self, measured: SizeMeasured) -> bool:
        """Let it count from now on. Says whether it is worth writing down.

        Without the file's time of change nobody can tell whether it is still the same file, so that is forgotten.
        """
        if measured.engine.modified_ns is None:
            return False
        before = self._measured.get(measured.engine)
        if before is not None and abs(measured.size_bytes - before.size_bytes) <= WORTH_NOTING * before.size_bytes:
            return False
        self._measured[measured.engine] = measured
        return True

    def _identity(self, offer: Offer, spec: EngineSpec) -> EngineIdentity:
        return EngineIdentity(
            path=spec.path,
            file_bytes=offer.size_bytes,
            modified_ns=offer.modified_ns,
            build=self._build,
            context_size=spec.context_size,
            slots=spec.slots,
            cache_type=spec.cache_type,
            gpu_layers=spec.gpu_layers,
            embedding=spec.embedding,
        )


def _calculate(offer: Offer, spec: EngineSpec) -> Need:
    needed = _footprint(offer, spec)
    if needed is None:
        return Need(size_bytes=offer.size_bytes or 0, basis=Basis.FILE_SIZE)
    return Need(size_bytes=needed.total_bytes, basis=needed.basis)


def _footprint(offer: Offer, spec: EngineSpec) -> Footprint | None:
    """What the header says; ``None`` without one."""
    if spec.cache_type not in CACHE_TYPES:
        raise ValidationError(f"“{spec.cache_type}” is no type of cache; the types are {', '.join(CACHE_TYPES)}.")
    if offer.header is None:
        return None
    shape = EngineShape(
        context_size=spec.context_size,
        slots=spec.slots,
        cache_type_k=spec.cache_type,
        cache_type_v=spec.cache_type,
        batch_size=spec.context_size if spec.embedding and not spec.last_token else CPU_BATCH,
        embedding=spec.embedding,
        repacks=spec.maps and not spec.gpu_layers,
        checkpoints=CHECKPOINTS,
    )
    return footprint(offer.header, shape, files_bytes=offer.size_bytes)
