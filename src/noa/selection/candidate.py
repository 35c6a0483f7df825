"""A model that could serve a request, with everything a decision on it rests on."""

from __future__ import annotations

from datetime import date
from typing import Literal

from noa.models import ModelCapability, Value

#: Where the figures of a candidate come from: requests it served, its last profile, or nowhere.
Origin = Literal["live", "profile"]


class Prediction(Value, frozen=True, kw_only=True):
    """What one request would take there. ``None`` is not known, never 0.

    ``latency_ms`` is end to end, the wait for others' requests included; ``cost_usd`` is for the expected tokens.
    ``success_rate`` is 0–1, drawn towards success while there are few ``samples``, and most likely within
    ``success_margin``; ``age_s`` is the newest sample's. ``unsettled`` says that the newest one leaves
    it open how it is by now.
    """

    latency_ms: float | None = None
    ttft_ms: float | None = None
    cost_usd: float | None = None
    success_rate: float | None = None
    success_margin: float = 0.0
    unsettled: bool = False
    samples: int = 0
    age_s: float | None = None
    origin: Origin | None = None
    price_source: str | None = None
    price_as_of: date | None = None


class Candidate(Value, frozen=True, kw_only=True):
    """One model as it stands at the moment of a decision.

    ``ready`` says that it is loaded, or remote and needs no load; ``busy`` counts the requests it has or that wait for
    it, per slot. ``unfit`` is why it may not serve at all just now: it failed, cools down, or its breaker is open.
    """

    key: str
    provider: str
    capabilities: tuple[ModelCapability, ...]
    context_window: int | None
    ready: bool
    busy: float = 0.0
    unfit: str | None = None
    prediction: Prediction = Prediction()
