"""Reads the document that models.dev publishes (``api.json``) into a snapshot. Pure.

The form of the document is that of ``packages/core/src/schema.ts`` in https://github.com/anomalyco/models.dev. Two of
its habits are not taken over, because they would turn "unknown" into a number:

- A price of 0 for both input and output also stands there for what is paid by subscription or by other means. It is
  believed only where the service itself calls the model free in its id.
- Plans that are paid by the month list the models of a service again; they are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Final

import msgspec

from noa.catalog.snapshot import FORMAT, Rates, Row, RowPrice, Service, Snapshot, Source
from noa.errors import ValidationError
from noa.models import ModelCapability

URL: Final = "https://models.dev"
LICENCE: Final = "MIT"

#: Plans are paid by the month; deployments at Azure bear the names their owners give them, so an id says nothing there.
_LEFT_OUT = re.compile(r".*-plan(-.*)?|kimi-for-coding|github-copilot|azure(-.*)?")
_CALLED_FREE = re.compile(r"(.*[:/-])?free")


class _Tier(msgspec.Struct, frozen=True):
    size: int
    type: str = "context"


class _Cost(msgspec.Struct, frozen=True, kw_only=True):
    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None


class _TierCost(_Cost, frozen=True, kw_only=True):
    tier: _Tier


class _ModelCost(_Cost, frozen=True, kw_only=True):
    tiers: tuple[_TierCost, ...] = ()


class _Limit(msgspec.Struct, frozen=True):
    # Some entries write whole numbers as floats, and 0 for what nobody knows.
    context: float = 0
    output: float = 0


class _Modalities(msgspec.Struct, frozen=True):
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str | None = None
    family: str | None = None
    reasoning: bool | None = None
    tool_call: bool | None = None
    structured_output: bool | None = None
    modalities: _Modalities = _Modalities()
    limit: _Limit = _Limit()
    cost: _ModelCost | None = None


class _Provider(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    models: dict[str, _Model]


def read_document(document: bytes, *, as_of: date, revision: str | None = None) -> Snapshot:
    """The snapshot of a document as of that day. Raises ``ValidationError`` for anything else than such a document."""
    try:
        providers = msgspec.json.decode(document, type=dict[str, _Provider])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationError(f"This is no document of models.dev: {error}.") from None
    return _snapshot(providers, as_of, revision)


def read_providers(providers: Mapping[str, object], *, as_of: date, revision: str | None = None) -> Snapshot:
    """The same for a document that is decoded already."""
    try:
        return _snapshot(msgspec.convert(providers, dict[str, _Provider]), as_of, revision)
    except msgspec.ValidationError as error:
        raise ValidationError(f"This is no document of models.dev: {error}.") from None


def _snapshot(providers: Mapping[str, _Provider], as_of: date, revision: str | None) -> Snapshot:
    services = {name: _service(provider) for name, provider in providers.items() if not _LEFT_OUT.fullmatch(name)}
    source = Source(name="models.dev", licence=LICENCE, url=URL, revision=revision, as_of=as_of)
    return Snapshot(
        format=FORMAT,
        as_of=as_of,
        sources=(source,),
        services={name: each for name, each in services.items() if each.models},
    )


def _service(provider: _Provider) -> Service:
    return Service(models={name: _row(name, model) for name, model in provider.models.items()})


def _row(model_id: str, model: _Model) -> Row:
    can, lacks = _capabilities(model_id, model)
    return Row(
        name=model.name if model.name != model_id else None,
        context=int(model.limit.context) or None,
        # Of a model that embeds, the number is the length of its vectors.
        output=None if ModelCapability.EMBEDDINGS in can else int(model.limit.output) or None,
        can=can,
        lacks=lacks,
        reasoning=model.reasoning,
        price=None if model.cost is None else _price(model_id, model.cost),
    )


def _capabilities(model_id: str, model: _Model) -> tuple[tuple[ModelCapability, ...], tuple[ModelCapability, ...]]:
    reads, writes = model.modalities.input, model.modalities.output
    if "embed" in model_id.lower() or "embed" in (model.family or ""):
        return (ModelCapability.EMBEDDINGS,), (ModelCapability.CHAT_COMPLETION, ModelCapability.FUNCTION_CALLING)
    if "text" not in reads or "text" not in writes:
        # Speech, pictures and films: what else it can do, Noa has no word for.
        return (), (ModelCapability.CHAT_COMPLETION,) if reads and writes else ()
    known = {
        ModelCapability.TEXT_GENERATION: True,
        ModelCapability.CHAT_COMPLETION: True,
        ModelCapability.FUNCTION_CALLING: model.tool_call,
        ModelCapability.VISION: "image" in reads,
        ModelCapability.JSON_MODE: model.structured_output,
    }
    return (
        tuple(capability for capability, has in known.items() if has),
        tuple(capability for capability, has in known.items() if has is False),
    )


def _price(model_id: str, cost: _ModelCost) -> RowPrice | None:
    if cost.input is None and cost.output is None:
        return None
    if not cost.input and not cost.output and not cost.tiers and not _CALLED_FREE.fullmatch(model_id):
        return None
    tiers = sorted((tier for tier in cost.tiers if tier.tier.type == "context"), key=lambda tier: tier.tier.size)
    base = _rates(cost)
    return RowPrice(
        tiers=tuple(msgspec.structs.replace(_rates(tier), above=tier.tier.size) for tier in tiers),
        input=base.input,
        output=base.output,
        cache_read=base.cache_read,
        cache_write=base.cache_write,
        reasoning=base.reasoning,
    )


def _rates(cost: _Cost) -> Rates:
    # 0 for writing or reasoning stands for "not said"; a service may well read its cache for nothing, though.
    return Rates(
        input=cost.input,
        output=cost.output,
        cache_read=cost.cache_read,
        cache_write=cost.cache_write or None,
        reasoning=(cost.reasoning or None) if cost.reasoning != cost.output else None,
    )
