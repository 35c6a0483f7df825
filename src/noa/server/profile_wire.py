"""The bodies and answers of profiles, as they stand on the wire: camelCase, unknown is ``null``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from noa.measurement.live import ServedRequest
from noa.measurement.profile_plan import DEFAULT_MAX_TOKENS, MAX_TEST_COUNT, ProfileMode
from noa.measurement.spending import Expense
from noa.measurement.summary import ProfileMetrics
from noa.models import Value
from noa.server.wire import Acknowledgement


class ProfileBody(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile of ``testCount`` requests, each of which may generate ``maxTokens``.

    ``mode`` ``full`` also tries longer prompts, and more and more requests at once. ``maxCost`` is a hard limit in USD.
    ``coldStart`` allows to unload an idle local model for it. With ``estimate`` nothing is sent, and the answer is
    ``{"estimate": …}``: what it would take; ``wait: false`` answers 202 at once.
    """

    test_count: Annotated[int, msgspec.Meta(ge=1, le=MAX_TEST_COUNT)] = 10
    mode: ProfileMode = ProfileMode.QUICK
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = DEFAULT_MAX_TOKENS
    max_cost: Annotated[float, msgspec.Meta(ge=0)] | None = None
    cold_start: bool = False
    estimate: bool = False
    wait: bool = True


class Profiled(Value, frozen=True, kw_only=True):
    """What a profile measured."""

    success: bool = True
    message: str
    key: str
    metrics: ProfileMetrics


class ProfileStopped(Value, frozen=True, kw_only=True):
    """A profile that was ended early, and what it had measured; ``null`` if it failed before it could."""

    success: bool = True
    message: str
    key: str
    metrics: ProfileMetrics | None


class ProfileAccepted(Acknowledgement, frozen=True, kw_only=True):
    """A profile that has begun, and how to follow it."""

    status: Literal["profiling"] = "profiling"


class ProfileEstimate(Value, frozen=True, kw_only=True):
    """What a profile would take at most."""

    key: str
    estimate: Expense


class PastProfile(Value, frozen=True, kw_only=True):
    """A profile that was made before, with the version of the formulas it used."""

    at: datetime
    formula_version: int
    metrics: msgspec.Raw


class History(Value, frozen=True, kw_only=True):
    """A model's latest requests, oldest first, and its profiles, newest first."""

    success: bool = True
    key: str
    history: list[ServedRequest]
    profiles: list[PastProfile]
