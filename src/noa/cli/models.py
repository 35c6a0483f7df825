"""What there is, what is loaded, what is in use: ``ls``, ``ps``, ``current``, ``load``, ``unload``, ``switch``."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from noa.cli.connection import ask, phases_shown
from noa.cli.terminal import (
    UNKNOWN,
    byte_size,
    json_option,
    note,
    printable,
    show_json,
    show_table,
    time_since,
    time_span,
)
from noa.cli.watching import NOTHING_LOADED, keep_watching
from noa.client import NoaClient
from noa.client_answers import Acknowledgement, CurrentModel, LoadedModels, ModelList, Planned, SwitchAcknowledgement
from noa.errors import ModelNotLoadedError
from noa.models import ActiveModel, CacheType, LoadOptions, LoadPlan, ModelCapability, ModelStatus, RegistryEntry

_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Duration(click.ParamType[float]):
    """Seconds, written as a number with an optional unit: 90, 90s, 10m, 2h, 1d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a duration; anything else is a usage error."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"“{value}” is no duration; write it like 90s, 10m or 2h.", param, ctx)
        return float(match[1]) * _UNIT_SECONDS[match[2]]


@click.command()
@click.option("--provider", help="Only models of this provider.")
@click.option("--capability", type=click.Choice(ModelCapability, case_sensitive=False), help="Only models that can.")
@click.option("--status", type=click.Choice(ModelStatus, case_sensitive=False), help="Only models of this status.")
@click.option("--loaded", is_flag=True, help="Only loaded models: short for --status loaded.")
@json_option
def ls(
    provider: str | None, capability: ModelCapability | None, status: ModelStatus | None, loaded: bool, as_json: bool
) -> None:
    """List the known models.

    The one in use is marked with an asterisk.
    """
    if loaded and status not in (None, ModelStatus.LOADED):
        raise click.UsageError("--loaded means --status loaded; leave one of the two out.")
    chosen = ModelStatus.LOADED if loaded else status

    async def work(client: NoaClient) -> tuple[ModelList, CurrentModel]:
        known = client.models(provider=provider, capability=capability, status=chosen)
        return await asyncio.gather(known, client.current())

    known, current = ask(work)
    if as_json:
        show_json(known)
    elif known.models:
        current_key = current.model.key if current.model is not None else None
        rows = [entry_row(entry, current_key) for entry in sorted(known.models, key=lambda entry: entry.key)]
        show_table(("KEY", "STATUS", "CONTEXT", "SIZE", "CAPABILITIES"), rows)
    elif provider or capability or chosen:
        note("No model matches.")
    elif problems := ask(problems_of):
        note("No model is known, because not every provider could be asked:")
        for problem in problems:
            note(f"  {problem}")
    else:
        note("No model is known yet. Get one with “noa pull”, or set a provider's key (as OPENAI_API_KEY) and restart.")


@click.command()
@click.option("--watch", is_flag=True, help="Go on showing them, as they change, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3_600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look with --watch.",
)
@json_option
def ps(watch: bool, interval: float, as_json: bool) -> None:
    """List the loaded models.

    The one in use is marked with an asterisk. MEMORY is the model's own process's, CONTEXT the tokens that each of its
    requests may take there; TOK/S is a moving average. With --watch and --json, each look is a line.
    """
    if watch:
        ask(lambda client: keep_watching(client, interval, active_table, as_json=as_json))
        return
    loaded: LoadedModels = ask(lambda client: client.loaded())
    if as_json:
        show_json(loaded)
    elif loaded.models:
        show_table(*active_table(loaded))
    else:
        note(NOTHING_LOADED)
    if not as_json and (current := loaded.current_model) is not None:
        for sentence in standing(current):
            note(sentence)


@click.command()
@json_option
def current(as_json: bool) -> None:
    """Show the model in use.

    The first line is its key; piped into another program, the key is all. What keeps it from serving is on stderr.
    Without a model in use the exit code is 3.
    """
    answer: CurrentModel = ask(lambda client: client.current())
    if as_json:
        show_json(answer)
    if answer.model is None:
        raise ModelNotLoadedError("No model is in use; choose one with “noa switch KEY”.")
    if not as_json:
        click.echo(printable(answer.model.key))
        if sys.stdout.isatty():
            for line in active_details(answer.model, datetime.now(UTC)):
                click.echo(f"  {printable(line)}")
        for sentence in standing(answer.model):
            note(sentence)


@click.command()
@click.argument("key")
@click.option("--warmup", is_flag=True, help="Have a remote model answer one token first.")
@click.option("--ttl", type=Duration(), help="Unload it when it was idle for so long (90s, 10m, 2h).")
@click.option("--pin", is_flag=True, help="Never evict it to make room.")
@click.option("--priority", type=int, default=0, help="Before waiting loads of a lower priority.")
@click.option("--context-size", type=click.IntRange(64), help="The context of a local model, in tokens per slot.")
@click.option("--slots", type=click.IntRange(1), help="How many requests a local model serves at once.")
@click.option("--threads", type=click.IntRange(1), help="How many CPU threads a local model computes with.")
@click.option(
    "--cache-type",
    type=click.Choice(CacheType, case_sensitive=False),
    help="What its cache is made of; q8_0 takes half of f16, q4_0 a quarter.",
)
@click.option("--wait/--no-wait", default=True, help="Wait until it serves (the default), or only start the load.")
@click.option("--plan", is_flag=True, help="Load nothing; say what it would take, and which models would have to go.")
@json_option
def load(
    key: str,
    warmup: bool,
    ttl: float | None,
    pin: bool,
    priority: int,
    wait: bool,
    plan: bool,
    as_json: bool,
    **shape: Any,
) -> None:
    """Load a model and wait until it serves.

    Progress is on stderr. The load goes on when this command is interrupted. If it fails, the exit code is 6.
    """
    options = LoadOptions(**shape)
    if plan:
        show_plan(ask(lambda client: client.plan_load(key, options)), as_json)
        return

    async def work(client: NoaClient) -> Acknowledgement:
        request = client.load(key, warmup=warmup, ttl_s=ttl, pin=pin, priority=priority, options=options, wait=wait)
        if not wait:
            return await request
        async with phases_shown(client, key):
            return await request

    acknowledge(ask(work), as_json)


@click.command()
@click.argument("key")
@click.option("--force", is_flag=True, help="At once, cutting off those who use it.")
@json_option
def unload(key: str, force: bool, as_json: bool) -> None:
    """Unload a model when those who use it have finished."""
    acknowledge(ask(lambda client: client.unload(key, force=force)), as_json)


@click.command()
@click.argument("key")
@click.option("--reason", help="Kept in the history of switches.")
@click.option("--expected", metavar="KEY", help="Only if this model is in use now; otherwise the exit code is 1.")
@json_option
def switch(key: str, reason: str | None, expected: str | None, as_json: bool) -> None:
    """Make a model the one in use; no request fails for it.

    It is loaded first if it must be; until it serves, the one before stays in use.
    """

    async def work(client: NoaClient) -> SwitchAcknowledgement:
        async with phases_shown(client, key):
            return await client.switch(key, reason=reason, expected=expected)

    acknowledge(ask(work), as_json)


async def problems_of(client: NoaClient) -> Sequence[str]:
    """Why providers could not be asked for their models, a sentence each."""
    problems = (await client.health()).get("problems")
    return [str(problem) for problem in problems] if isinstance(problems, list) else []


def acknowledge(answer: Acknowledgement | SwitchAcknowledgement, as_json: bool) -> None:
    """Show what the server said it did."""
    if as_json:
        show_json(answer)
    else:
        click.echo(printable(answer.message))


def show_plan(plan: LoadPlan, as_json: bool) -> None:
    """Show what a load would take."""
    if as_json:
        show_json(Planned(plan=plan))
        return
    columns = ("KEY", "FITS", "NEEDS", "BASIS", "USED", "BUDGET", "THREADS", "EVICTS", "WAITS FOR")
    row = (
        plan.key,
        "yes" if plan.fits else "no",
        byte_size(plan.needed_bytes),
        plan.basis or UNKNOWN,
        byte_size(plan.used_bytes),
        byte_size(plan.budget_bytes),
        UNKNOWN if plan.threads is None else str(plan.threads),
        ", ".join(plan.evicts) or UNKNOWN,
        ", ".join(plan.waits_for) or UNKNOWN,
    )
    show_table(columns, [row])


def entry_row(entry: RegistryEntry, current_key: str | None) -> Sequence[str]:
    """A known model as a row of ``noa ls``."""
    return (
        marked(entry.key, current_key),
        entry.status,
        UNKNOWN if entry.context_window is None else str(entry.context_window),
        byte_size(entry.file_size),
        ", ".join(entry.capabilities) or UNKNOWN,
    )


def active_table(loaded: LoadedModels) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The columns and rows of ``noa ps``."""
    current_key = loaded.current_model.key if loaded.current_model is not None else None
    now = datetime.now(UTC)
    columns = ("KEY", "STATUS", "PID", "MEMORY", "CONTEXT", "IN FLIGHT", "REQUESTS", "TOK/S", "LOADED", "TTL/PIN")
    return columns, [active_row(active, current_key, now) for active in loaded.models]


def active_row(active: ActiveModel, current_key: str | None, now: datetime) -> Sequence[str]:
    """A loaded model as a row of ``noa ps``."""
    return (
        marked(active.key, current_key),
        active.status,
        UNKNOWN if active.pid is None else str(active.pid),
        byte_size(active.memory_bytes),
        UNKNOWN if (context := context_of(active)) is None else str(context),
        str(active.in_flight),
        str(active.total_inferences),
        speed(active),
        UNKNOWN if active.loaded_at is None else time_since(active.loaded_at, now),
        keeping(active),
    )


def active_details(active: ActiveModel, now: datetime) -> Sequence[str]:
    """What ``noa current`` tells people of the model beyond its key."""
    since = "" if active.loaded_at is None else f" {time_since(active.loaded_at, now)}"
    details = [
        f"{active.status}{since}, kept: {keeping(active)}",
        f"requests: {active.total_inferences}, in flight: {active.in_flight}, tokens/s: {speed(active)}",
        f"context: {described_context(active)}, memory: {byte_size(active.memory_bytes)}",
    ]
    if active.slots is not None and active.threads is not None:
        details.append(f"slots: {active.slots}, threads: {active.threads}")
    return details


def standing(current: ActiveModel) -> Sequence[str]:
    """What to know of the model in use while it is not loaded; nothing while it is."""
    if current.error is not None:
        return (current.error,)
    if current.loaded_at is not None:
        return ()
    if current.status is ModelStatus.LOADING:
        return (f"{current.key} is in use and loading; whoever asks for it waits.",)
    return (f"{current.key} is in use but not loaded; it is loaded when it is asked for.",)


def context_of(active: ActiveModel) -> int | None:
    """How many tokens a request may take: in our own process, or as its provider says."""
    return active.context_size if active.context_size is not None else active.model.context_window


def described_context(active: ActiveModel) -> str:
    """The same in words; of a process of ours, with what its model was trained for where that is more."""
    context, trained = context_of(active), active.model.context_window
    if context is None:
        return UNKNOWN
    return f"{context}" if trained is None or trained == context else f"{context} (the model: {trained})"


def marked(key: str, current_key: str | None) -> str:
    """The key, with an asterisk if it is the one in use."""
    return f"{key} *" if key == current_key else key


def speed(active: ActiveModel) -> str:
    """Generated tokens per second, as measured."""
    metrics = active.performance_metrics
    if metrics is None or metrics.tokens_per_second is None:
        return UNKNOWN
    return f"{metrics.tokens_per_second:.1f}"


def keeping(active: ActiveModel) -> str:
    """Until when the model stays: pinned, so long after its last use, or until its room is needed."""
    if active.pinned:
        return "pinned"
    return UNKNOWN if active.ttl_s is None else time_span(active.ttl_s)
