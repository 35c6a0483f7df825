"""What a running server answers, as its clients read it: camelCase on the wire, unknown is ``null``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from noa.models import ActiveModel, LoadPlan, ModelCapability, ProbePlan, ProbeResult, RegistryEntry, Value
from noa.state import UsageGrouping, UsageTotal


class ModelList(Value, frozen=True, kw_only=True):
    """The answer of ``GET /models``."""

    models: tuple[RegistryEntry, ...]
    count: int


class LoadedModels(Value, frozen=True, kw_only=True):
    """The answer of ``GET /models/loaded``."""

    models: tuple[ActiveModel, ...]
    count: int
    current_model: ActiveModel | None = None


class CurrentModel(Value, frozen=True, kw_only=True):
    """The answer of ``GET /models/current``; ``model`` is ``None`` when none is in use, and need not be loaded."""

    model: ActiveModel | None


class Acknowledgement(Value, frozen=True, kw_only=True):
    """The answer to a load or an unload: which model it was about, and what happened in a sentence."""

    message: str
    provider: str
    model: str
    key: str


class Planned(Value, frozen=True, kw_only=True):
    """The answer to a load that is only planned."""

    plan: LoadPlan


class Probed(Value, frozen=True, kw_only=True):
    """The answer to a probe: what it has shown, and what the model is known to do after it."""

    key: str
    results: tuple[ProbeResult, ...]
    capabilities: tuple[ModelCapability, ...]


class ProbePlanned(Value, frozen=True, kw_only=True):
    """The answer to a probe that is only planned."""

    plan: ProbePlan


class SwitchAcknowledgement(Acknowledgement, frozen=True, kw_only=True):
    """The answer to a switch; ``current_model`` is the model in use now, as the server describes it."""

    current_model: Any = None


class AliasEntry(Value, frozen=True, kw_only=True):
    """An alias, and since when it means that model."""

    name: str
    key: str
    since: datetime


class AliasList(Value, frozen=True, kw_only=True):
    """The answer of ``GET /aliases``."""

    aliases: tuple[AliasEntry, ...]
    count: int


class AliasChange(Value, frozen=True, kw_only=True):
    """A change of an alias, which meant ``previous`` before."""

    key: str | None
    previous: str | None
    reason: str
    at: datetime


class AliasHistory(Value, frozen=True, kw_only=True):
    """The answer of ``GET /aliases/{name}``: an alias with its changes, newest first."""

    name: str
    key: str | None
    history: tuple[AliasChange, ...]


class AliasAcknowledgement(Value, frozen=True, kw_only=True):
    """The answer to a change of an alias: the model it means now (or meant, if it was removed), and a sentence."""

    message: str
    name: str
    key: str
    previous: str | None = None


class CallerKeyEntry(Value, frozen=True, kw_only=True):
    """A caller's key, without the key itself; ``last_used`` is ``None`` until it is used."""

    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used: datetime | None


class CallerKeyList(Value, frozen=True, kw_only=True):
    """The answer of ``GET /keys``; ``enforced`` says whether the server asks for a key at all."""

    keys: tuple[CallerKeyEntry, ...]
    count: int
    enforced: bool


class NewCallerKey(Value, frozen=True, kw_only=True):
    """The answer of ``POST /keys``: the only one with the key itself, ``secret``."""

    name: str
    secret: str
    created_at: datetime
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"NewCallerKey(name={self.name!r}, secret=…)"


class CallerKeyRevoked(Value, frozen=True, kw_only=True):
    """The answer of ``DELETE /keys/{name}``."""

    message: str
    name: str


class Logs(Value, frozen=True, kw_only=True):
    """The answer of ``GET /models/{key}/logs``: the last lines of a model's process, oldest first."""

    key: str
    lines: tuple[str, ...]


class UsageTotals(Value, frozen=True, kw_only=True):
    """The answer of ``GET /status/usage``."""

    by: UsageGrouping
    groups: tuple[UsageTotal, ...]
    count: int


class ServerEvent(Value, frozen=True, kw_only=True):
    """Something that happened in the server. ``data`` has the wire's camelCase names."""

    type: str
    sequence: int | None
    time: datetime
    data: dict[str, Any]
