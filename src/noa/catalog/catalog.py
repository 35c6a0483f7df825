"""Looks models up in the catalogue: the one that came with Noa, or the one that was fetched since."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from noa.catalog.facts import CatalogFacts
from noa.catalog.names import plain_names
from noa.catalog.services import LOCAL, catalog_name, runs_elsewhere
from noa.catalog.snapshot import Outline, Row, RowPrice, Service, unpack_outline, unpack_service
from noa.errors import ValidationError
from noa.models import Price, PriceSource, PriceTier

logger = logging.getLogger(__name__)

#: The catalogue that came with this version of Noa.
BUNDLED: Final = Path(__file__).parent / "data" / "catalog.json.gz"
#: What the tokens of a model on one's own machine cost.
FREE: Final = Price(input=0, output=0, source=PriceSource.LOCAL)


class Catalog:
    """What the world says of models. Read on the first look-up, and again when the file has changed.

    ``refreshed`` is where ``noa catalog refresh`` puts what it fetched; it is used if it is there and not older than
    what came with Noa. ``services`` says for configured providers which service of the catalogue they are (see
    ``noa.catalog.services``); a provider that is not named there is looked for under its own name.
    """

    def __init__(self, refreshed: Path | None = None, services: Mapping[str, str | None] | None = None) -> None:
        self._refreshed = refreshed
        self._services = services or {}
        self._stamp: tuple[int, int] | None = None
        self._outline: Outline | None = None
        self._decoded: dict[str, Service] = {}

    def know(self, services: Mapping[str, str | None]) -> None:
        """These are the services that configured providers are, from now on."""
        self._services = services

    @property
    def outline(self) -> Outline:
        """The catalogue in use: its day, its sources and the names of its services."""
        stamp = self._stamp_now()
        if self._outline is None or stamp != self._stamp:
            self._outline, self._stamp, self._decoded = self._read(stamp), stamp, {}
        return self._outline

    @property
    def is_bundled(self) -> bool:
        """Whether the catalogue in use is the one that came with Noa."""
        return self.outline is _bundled()

    def facts(self, provider: str, model_id: str) -> CatalogFacts | None:
        """What is known of a model, ``None`` if nothing is.

        ``provider`` is the left half of its key. A model that runs on a machine of one's own is free; what it can do
        says its weights file, not the catalogue.
        """
        name = self._services[provider] if provider in self._services else catalog_name(provider)
        if name is None:
            return None
        outline = self.outline
        if name == LOCAL:
            return CatalogFacts(as_of=outline.as_of, price=None if runs_elsewhere(model_id) else FREE)
        service = self._service(outline, name)
        found = _find(service, name, model_id)
        return None if found is None else _facts(found, outline)

    def _service(self, outline: Outline, name: str) -> Service:
        if name not in self._decoded:
            raw = outline.services.get(name)
            self._decoded[name] = Service() if raw is None else unpack_service(raw)
        return self._decoded[name]

    def _stamp_now(self) -> tuple[int, int] | None:
        if self._refreshed is None:
            return None
        try:
            found = self._refreshed.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self, stamp: tuple[int, int] | None) -> Outline:
        bundled = _bundled()
        if stamp is None or self._refreshed is None:
            return bundled
        try:
            refreshed = unpack_outline(self._refreshed.read_bytes())
            for raw in refreshed.services.values():
                unpack_service(raw)
        except (OSError, ValidationError) as error:
            logger.warning(
                "the fetched catalogue %s cannot be used (%s); the one that came with Noa is. “noa catalog undo” "
                "removes it, “noa catalog refresh” fetches a new one.",
                self._refreshed,
                error,
            )
            return bundled
        return refreshed if refreshed.as_of >= bundled.as_of else bundled


@cache
def _bundled() -> Outline:
    """What came with Noa, read once."""
    return unpack_outline(BUNDLED.read_bytes())


def _find(service: Service, name: str, model_id: str) -> Row | None:
    for candidate in plain_names(name, model_id):
        row = service.models.get(candidate) or service.models.get(service.also.get(candidate, ""))
        if row is not None:
            return row
    return None


def _facts(row: Row, outline: Outline) -> CatalogFacts:
    return CatalogFacts(
        as_of=outline.as_of,
        name=row.name,
        context_window=row.context,
        max_tokens=row.output,
        capabilities=row.can,
        lacks=row.lacks,
        reasoning=row.reasoning,
        price=None if row.price is None else _price(row.price, outline),
    )


def _price(price: RowPrice, outline: Outline) -> Price:
    return Price(
        input=price.input,
        output=price.output,
        cache_read=price.cache_read,
        cache_write=price.cache_write,
        reasoning=price.reasoning,
        tiers=tuple(msgspec.convert(tier, PriceTier, from_attributes=True) for tier in price.tiers),
        source=PriceSource.CATALOG,
        as_of=price.as_of or outline.as_of,
        note=price.note,
    )
