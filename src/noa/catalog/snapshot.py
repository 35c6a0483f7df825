"""The form in which a catalogue is kept: services, their models, and where the facts come from.

A snapshot is compressed JSON (``zcat catalog.json.gz`` reads it). Unknown is left out, 0 is free. A service's models
are decoded only when the service is asked for, which keeps the first look-up within milliseconds.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from datetime import date

import msgspec

from noa.errors import ValidationError
from noa.models import ModelCapability

FORMAT = 1
#: How large a snapshot may be once it is unpacked.
MAX_UNPACKED_BYTES = 64 * 1024 * 1024


class _Kept(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of the file."""


class Rates(_Kept, frozen=True, kw_only=True):
    """USD per million tokens, as ``noa.models.Price`` has them; ``above`` is set in a tier."""

    above: int = 0
    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None


class RowPrice(Rates, frozen=True, kw_only=True):
    """What a model costs. ``as_of`` is set where it is not the snapshot's."""

    tiers: tuple[Rates, ...] = ()
    as_of: date | None = None
    note: str | None = None


class Row(_Kept, frozen=True, kw_only=True):
    """One model of a service. What stands neither in ``can`` nor in ``lacks`` is not known."""

    name: str | None = None
    context: int | None = None
    output: int | None = None
    can: tuple[ModelCapability, ...] = ()
    lacks: tuple[ModelCapability, ...] = ()
    reasoning: bool | None = None
    price: RowPrice | None = None


class Service(_Kept, frozen=True, kw_only=True):
    """One service. ``also`` maps further ids of models to those in ``models``."""

    models: dict[str, Row] = {}
    also: dict[str, str] = {}


class Source(_Kept, frozen=True, kw_only=True):
    """Where facts come from: a project, its licence and address, the revision that was taken, and its day."""

    name: str
    licence: str
    url: str
    revision: str | None = None
    as_of: date


class Snapshot(_Kept, frozen=True, kw_only=True):
    """A whole catalogue, as of a day."""

    format: int
    as_of: date
    sources: tuple[Source, ...]
    services: dict[str, Service]

    @property
    def model_count(self) -> int:
        """How many models it has, over all services."""
        return sum(len(service.models) for service in self.services.values())

    @property
    def price_count(self) -> int:
        """How many of them have a price."""
        return sum(row.price is not None for service in self.services.values() for row in service.models.values())


class Outline(_Kept, frozen=True, kw_only=True):
    """A snapshot whose services are not decoded yet."""

    format: int
    as_of: date
    sources: tuple[Source, ...]
    services: dict[str, msgspec.Raw]


def pack(snapshot: Snapshot) -> bytes:
    """The snapshot as it is kept; the same one always gives the same bytes."""
    return gzip.compress(msgspec.json.encode(snapshot, order="sorted") + b"\n", compresslevel=9, mtime=0)


def unpack(content: bytes) -> Snapshot:
    """A kept snapshot, whole. Raises ``ValidationError`` if it is damaged or not of this format."""
    outline = unpack_outline(content)
    services = {name: unpack_service(raw) for name, raw in outline.services.items()}
    return Snapshot(format=FORMAT, as_of=outline.as_of, sources=outline.sources, services=services)


def unpack_outline(content: bytes) -> Outline:
    """A kept snapshot whose services ``unpack_service`` decodes. Raises as ``unpack`` does."""
    try:
        unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        text = unpacked.decompress(content, MAX_UNPACKED_BYTES)
        if not unpacked.eof:
            raise ValidationError("The catalogue is cut off, or far too large.")
        outline = msgspec.json.decode(text, type=Outline)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationError(f"The catalogue is damaged: {error}.") from None
    if outline.format != FORMAT:
        raise ValidationError(f"The catalogue has format {outline.format}; this Noa reads format {FORMAT}.")
    return outline


def unpack_service(raw: msgspec.Raw | bytes) -> Service:
    """One service of an outline. Raises as ``unpack`` does."""
    try:
        return msgspec.json.decode(raw, type=Service)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationError(f"The catalogue is damaged: {error}.") from None


def rows(snapshot: Snapshot) -> Mapping[tuple[str, str], Row]:
    """Every model by service and id."""
    return {
        (service, model_id): row for service, each in snapshot.services.items() for model_id, row in each.models.items()
    }
