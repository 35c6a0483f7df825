"""``noa show``: all that is known of one model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from noa.cli.connection import ask
from noa.cli.evidence import evidence_lines, price_lines
from noa.cli.models import active_details, marked
from noa.cli.probing import agreed, run_probe
from noa.cli.terminal import UNKNOWN, byte_size, json_option, printable, show_json, time_since
from noa.client import NoaClient
from noa.errors import ModelNotLoadedError
from noa.models import ActiveModel, EvidenceSource, PerformanceMetrics, RegistryEntry, Value
from noa.presets import canonical_provider

#: How many lines of its log are shown with a model.
LOG_LINES = 5


class Shown(Value, frozen=True, kw_only=True):
    """What ``noa show --json`` prints. ``active`` is there while the model is loaded."""

    model: RegistryEntry
    active: ActiveModel | None
    aliases: tuple[str, ...]
    log: tuple[str, ...]


@click.command()
@click.argument("key")
@click.option("--probe", is_flag=True, help="First find out by real requests what it can do; a paid model costs money.")
@click.option("--yes", is_flag=True, help="Probe without asking first what that may cost.")
@json_option
def show(key: str, probe: bool, yes: bool, as_json: bool) -> None:
    """Show what is known of a model: what it can do, how it is doing, and the end of its log.

    KEY may be an alias too. With --probe each capability is tried by a small request first; progress is on stderr.
    """
    if canonical_provider(key) is not None:
        raise click.UsageError(f"{key} is a provider; list its models with “noa ls --provider {key}”.")
    if probe:
        plan = ask(lambda client: client.plan_probe(key))
        if agreed(plan, yes):
            ask(lambda client: run_probe(client, plan.key))
    shown = ask(lambda client: gather(client, key))
    if as_json:
        show_json(shown)
        return
    for line in lines(shown, datetime.now(UTC)):
        click.echo(printable(line))


async def gather(client: NoaClient, key: str) -> Shown:
    """Ask the server for all of it. Raises ``ModelNotLoadedError`` if it is about the model in use and none is."""
    model = await client.model(await _in_use(client) if key == "current" else key)
    loaded, aliases, log = await asyncio.gather(
        client.loaded(), client.aliases(), client.logs(model.key, tail=LOG_LINES)
    )
    return Shown(
        model=model,
        active=next((active for active in loaded.models if active.key == model.key), None),
        aliases=tuple(each.name for each in aliases.aliases if each.key == model.key),
        log=log.lines,
    )


async def _in_use(client: NoaClient) -> str:
    """The key of the model in use: the path of one model means something else by that name."""
    model = (await client.current()).model
    if model is None:
        raise ModelNotLoadedError("No model is in use; choose one with “noa switch KEY”.")
    return model.key


def lines(shown: Shown, now: datetime) -> Iterator[str]:
    """A model for people; the first line is its key."""
    model = shown.model
    yield marked(model.key, model.key if "current" in shown.aliases else None)
    if shown.active is None:
        yield f"  {model.status}"
    else:
        yield from (f"  {line}" for line in active_details(shown.active, now))
    if model.error:
        yield f"  error: {model.error}"
    yield f"  can: {', '.join(model.capabilities) or UNKNOWN}"
    yield from (f"    {line}" for line in evidence_lines(model.evidence))
    window = _tokens(model.context_window, model.sources.context_window)
    yield f"  window: {window}, answers: at most {_tokens(model.max_tokens, model.sources.max_tokens)}"
    yield from (f"  {line}" for line in price_lines(model.price))
    if model.file_path:
        yield f"  file: {model.file_path} ({byte_size(model.file_size)})"
    if shown.aliases:
        yield f"  aliases: {', '.join(shown.aliases)}"
    yield from (f"  {line}" for line in _figures(model.performance_metrics, now))
    if shown.log:
        yield "  log:"
        yield from (f"    {line}" for line in shown.log)


def _tokens(count: int | None, source: EvidenceSource | None) -> str:
    known = UNKNOWN if count is None else f"{count} tokens"
    return known if count is None or source is None else f"{known} ({source})"


def _figures(metrics: PerformanceMetrics | None, now: datetime) -> Iterator[str]:
    if metrics is None:
        yield "measured: nothing yet"
        return
    latency = UNKNOWN if metrics.average_latency is None else f"{metrics.average_latency:.0f} ms"
    speed = UNKNOWN if metrics.tokens_per_second is None else f"{metrics.tokens_per_second:.1f} tokens/s"
    success = UNKNOWN if metrics.success_rate is None else f"{metrics.success_rate:.0%} succeed"
    yield f"measured: {latency}, {speed}, {success}, over {metrics.total_inferences} requests (moving averages)"
    if metrics.last_benchmarked is not None:
        yield f"profiled: {time_since(metrics.last_benchmarked, now)}"
