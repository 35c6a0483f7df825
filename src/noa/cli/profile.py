"""``noa profile``: models measured by real requests, side by side, and what was measured before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from noa.cli import profile_picture as picture
from noa.cli.connection import ask
from noa.cli.profile_chart import draw
from noa.cli.profile_table import COLUMNS, HISTORY_COLUMNS, details, doubts, expense, history_row, money, row
from noa.cli.progress import CountBar
from noa.cli.terminal import INTERRUPTED, json_option, note, printable, report, show_json, show_table
from noa.client import NoaClient
from noa.errors import AIProviderError
from noa.measurement.profile_plan import DEFAULT_MAX_TOKENS, MAX_TEST_COUNT, ProfileMode
from noa.measurement.samples import FORMULA_VERSION
from noa.measurement.spending import Expense
from noa.measurement.summary import ProfileMetrics
from noa.models import Value

logger = logging.getLogger(__name__)

#: How long a profile that was interrupted may take to answer with what it has.
STOP_PATIENCE_S = 5.0


class Profiled(Value, frozen=True, kw_only=True):
    """One model's line of ``noa profile --json``."""

    key: str
    metrics: ProfileMetrics


class SideBySide(Value, frozen=True, kw_only=True):
    """What ``noa profile --json`` prints. ``interrupted`` says that Ctrl-C ended it before it was done."""

    profiles: tuple[Profiled, ...]
    interrupted: bool


class PastProfile(Value, frozen=True, kw_only=True):
    """One line of ``noa profile --history --json``."""

    at: datetime
    formula_version: int
    metrics: ProfileMetrics


class Past(Value, frozen=True, kw_only=True):
    """A model's earlier profiles, newest first."""

    key: str
    profiles: tuple[PastProfile, ...]


class Histories(Value, frozen=True, kw_only=True):
    """What ``noa profile --history --json`` prints."""

    histories: tuple[Past, ...]


class Settings(NamedTuple):
    """How each model is measured. ``max_cost`` is for all of them together, in USD."""

    test_count: int
    mode: ProfileMode
    max_tokens: int
    max_cost: float | None
    cold_start: bool

    def fields(self, spent_usd: float = 0.0) -> dict[str, object]:
        """The fields of the route's body, when so much was spent already."""
        fields: dict[str, object] = {"mode": self.mode, "maxTokens": self.max_tokens, "coldStart": self.cold_start}
        if self.max_cost is not None:
            fields["maxCost"] = max(0.0, self.max_cost - spent_usd)
        return fields


@click.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--full", is_flag=True, help="Also try longer prompts, and more and more requests at once: minutes.")
@click.option(
    "-n", "--requests", type=click.IntRange(1, MAX_TEST_COUNT), default=10, show_default=True, help="How many tests."
)
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=DEFAULT_MAX_TOKENS, show_default=True, help="Of an answer."
)
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Stop before all of it costs more.")
@click.option("-y", "--yes", is_flag=True, help="Spend what it costs without a limit, even if that is not known.")
@click.option("--cold", is_flag=True, help="Unload an idle local model first, to see how long its start takes.")
@click.option("--history", is_flag=True, help="Measure nothing; show what was measured before.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with a picture there.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture there.")
@json_option
def profile(
    keys: Sequence[str],
    full: bool,
    requests: int,
    max_tokens: int,
    max_cost: float | None,
    yes: bool,
    cold: bool,
    history: bool,
    html: Path | None,
    png: Path | None,
    as_json: bool,
) -> None:
    """Measure models by real requests and show them side by side.

    \b
    noa profile current                          the model in use, in seconds
    noa profile openai:gpt-4o claude:haiku --max-cost 0.05 --html models.html
    noa profile llama.cpp:smol --full --cold     everything, in minutes
    noa profile llama.cpp:smol --history         how it was before

    One model is measured after the other, and times are medians. What costs money needs a limit (--max-cost) or --yes.
    Ctrl-C ends a profile and shows what it has measured.
    """
    if history:
        _show_history(keys, as_json=as_json)
        return
    if png is not None:
        picture.check_png()
    mode = ProfileMode.FULL if full else ProfileMode.QUICK
    settings = Settings(requests, mode, max_tokens, max_cost, cold)
    if not yes:
        _ask_for_money(keys, settings)
    session = Session(settings)
    ask(lambda client: session.measure_all(client, keys))
    profiles = {each.key: each.metrics for each in session.done}
    _write(profiles, html, png)
    if as_json:
        show_json(SideBySide(profiles=tuple(session.done), interrupted=session.interrupted))
    elif profiles:
        _show(profiles)
    if session.interrupted:
        note("Interrupted.")
        raise SystemExit(INTERRUPTED)
    if session.failure is not None:
        raise session.failure


def _ask_for_money(keys: Sequence[str], settings: Settings) -> None:
    """Say what it will take, and refuse to spend what nobody agreed to."""

    async def work(client: NoaClient) -> list[Expense]:
        return [await estimate(client, key, settings) for key in keys]

    for key, taken in zip(keys, ask(work), strict=True):
        if taken.cost_usd == 0:
            continue
        note(expense(key, taken))
        if taken.cost_usd is None:
            raise click.UsageError(f"The price of {key} is not known, so no limit can hold; agree to it with --yes.")
        if settings.max_cost is None:
            cost = money(taken.cost_usd)
            raise click.UsageError(
                f"Profiling {key} costs about {cost}; set a limit with --max-cost, or agree with --yes."
            )


async def estimate(client: NoaClient, key: str, settings: Settings) -> Expense:
    """What measuring a model takes at most."""
    fields = {**settings.fields(), "estimate": True}
    answer = await client.profile(key, test_count=settings.test_count, **fields)
    return msgspec.convert(answer["estimate"], Expense)


class Session:
    """Measures one model after the other. ``failure`` is the first of one that could not be measured at all."""

    def __init__(self, settings: Settings) -> None:
        self.done: list[Profiled] = []
        self.interrupted = False
        self.failure: AIProviderError | None = None
        self._settings = settings

    async def measure_all(self, client: NoaClient, keys: Iterable[str]) -> None:
        """Measure each of them, until somebody interrupts it."""
        for key in keys:
            work = asyncio.ensure_future(self._measure(client, key))
            try:
                self.done.append(await asyncio.shield(work))
            except AIProviderError as error:
                if self.failure is not None:
                    report(error)
                self.failure = self.failure or error
            except asyncio.CancelledError:
                self.interrupted = True
                with contextlib.suppress(AIProviderError, TimeoutError):
                    await client.stop_profile(key)
                    self.done.append(await asyncio.wait_for(work, STOP_PATIENCE_S))
                work.cancel()
                return

    async def _measure(self, client: NoaClient, key: str) -> Profiled:
        settings = self._settings
        fields = settings.fields(sum(each.metrics.cost_usd or 0.0 for each in self.done))
        with CountBar(key) as bar:
            watcher = asyncio.create_task(_show_progress(client, bar))
            try:
                answer = await client.profile(key, test_count=settings.test_count, **fields)
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
        return Profiled(key=answer["key"], metrics=msgspec.convert(answer["metrics"], ProfileMetrics))


async def _show_progress(client: NoaClient, bar: CountBar) -> None:
    """Show the progress of profiles. Only decoration: where the server tells no events, the bar just runs."""
    try:
        async with contextlib.aclosing(client.events()) as events:
            async for event in events:
                if event.type == "profiling-progress":
                    bar.advance(event.data["done"], event.data["total"], str(event.data.get("stage", "")))
    except AIProviderError as error:
        logger.debug("no events to show the progress of a profile from: %s", error.message)


def _show(profiles: Mapping[str, ProfileMetrics]) -> None:
    show_table(COLUMNS, [row(key, metrics) for key, metrics in profiles.items()])
    for key, metrics in profiles.items():
        lines = [*(details(metrics) if len(profiles) == 1 or metrics.levels[1:] else doubts(metrics))]
        if len(profiles) > 1 and metrics.comparison is not None and not metrics.levels[1:]:
            lines.insert(0, metrics.comparison.summary)
        if lines:
            click.echo(f"\n{printable(key)}")
        for line in lines:
            click.echo(f"  {printable(line)}")


def _write(profiles: Mapping[str, ProfileMetrics], html: Path | None, png: Path | None) -> None:
    if not profiles or (html is None and png is None):
        return
    drawing = draw(profiles)
    try:
        if html is not None:
            rows = [row(key, metrics) for key, metrics in profiles.items()]
            html.write_text(picture.page(drawing, COLUMNS, rows), encoding="utf-8")
            note(f"The page is {html}.")
        if png is not None:
            picture.write_png(drawing, png)
            note(f"The picture is {png}.")
    except OSError as error:
        note(f"{error.filename} could not be written: {error.strerror}.")


def _show_history(keys: Sequence[str], *, as_json: bool) -> None:
    async def work(client: NoaClient) -> list[Past]:
        return [_past(await client.history(key)) for key in keys]

    histories = ask(work)
    if as_json:
        show_json(Histories(histories=tuple(histories)))
        return
    for past in histories:
        if len(histories) > 1:
            click.echo(printable(past.key))
        if past.profiles:
            show_table(HISTORY_COLUMNS, [history_row(each.metrics) for each in past.profiles])
        else:
            note(f"{past.key} was not profiled yet; do it with “noa profile {past.key}”.")


def _past(answer: Mapping[str, Any]) -> Past:
    # Figures by other formulas mean something else and cannot be put beside these.
    alike = [each for each in answer["profiles"] if each["formulaVersion"] == FORMULA_VERSION]
    return Past(key=answer["key"], profiles=msgspec.convert(alike, tuple[PastProfile, ...]))
