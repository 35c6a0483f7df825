"""How Noa chooses where a request leaves the choice to it: the policies of ``noa.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from noa.models import ModelCapability

_Share = Annotated[float, Meta(ge=0, le=1)]
_Name = Annotated[str, Meta(min_length=1)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A part of the file."""


class PolicySettings(_Part, frozen=True, kw_only=True):
    """Conditions for a choice, and what to prefer; requests ask for it as ``auto:<name>``."""

    prefer: Annotated[Literal["speed", "cost", "balanced", "reliability"], Meta(description="What matters most.")] = (
        "balanced"
    )
    capabilities: Annotated[
        tuple[ModelCapability, ...], Meta(description="What a model must be able to do, whatever the request is.")
    ] = ()
    providers: Annotated[tuple[_Name, ...], Meta(description="Only models of these.")] = ()
    models: Annotated[tuple[_Name, ...], Meta(description="Only these, by their keys.")] = ()
    max_cost: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="The most that one request may cost, in USD.")
    ] = None
    max_ttft_ms: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="The longest predicted wait for the first token, in milliseconds."),
    ] = None
    min_context: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="The smallest context window, in tokens.")
    ] = None
    min_success_rate: Annotated[
        _Share | None, Meta(description="The part of its requests that must succeed, from 0 to 1.")
    ] = None
    explore: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="The part of requests that may go to a model not measured lately; as in selection otherwise."),
    ] = None


class SelectionSettings(_Part, frozen=True, kw_only=True):
    """How Noa chooses."""

    explore: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="The part of requests that may go to a model not measured lately; 0 unless given."),
    ] = None
    policies: Annotated[
        dict[_Name, PolicySettings],
        Meta(description="Named ways to choose; a request asks for one as auto:<name>."),
    ] = msgspec.field(default_factory=dict)
