"""``noa stats``: what was used, and what it cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click

from noa.cli.connection import ask
from noa.cli.terminal import UNKNOWN, json_option, note, show_json, show_table
from noa.state import UsageGrouping, UsageTotal

_SPAN = re.compile(r"(\d{1,6})(h|d)")


@click.command()
@click.option(
    "--by",
    type=click.Choice([*map(str, UsageGrouping)]),
    default=str(UsageGrouping.MODEL),
    show_default=True,
    help="What to sum up by; key is the key that callers showed.",
)
@click.option("--since", metavar="SPAN|DAY", help="Only of the last 24h or 7d, or from a day such as 2026-11-23 on.")
@click.option("--model", metavar="KEY", help="Only of this model.")
@json_option
def stats(by: str, since: str | None, model: str | None, as_json: bool) -> None:
    """Show what was used and what it cost.

    Costs are the tokens that the provider counted, times the price known when they were used. What is not known is in
    no sum; the line below the table says of how many requests that is so.
    """
    beginning = None if since is None else _beginning(since, datetime.now(UTC))
    answer = ask(lambda client: client.usage(by, since=beginning, key=model))
    if as_json:
        show_json(answer)
        return
    if not answer.groups:
        note("No request was served yet." if since is None and model is None else "No request was served then.")
        return
    columns = (answer.by.upper(), "REQUESTS", "FAILED", "TOKENS IN", "CACHED", "TOKENS OUT", "COST")
    show_table(columns, [_row(total) for total in answer.groups])
    _note_unknown(answer.groups)


def dollars(amount: float | None) -> str:
    """An amount for people: to the cent from a dollar on, else to four figures that count."""
    if amount is None:
        return UNKNOWN
    if amount == 0 or amount >= 1:
        return f"${amount:.2f}"
    return f"${amount:.4g}" if amount >= 0.0001 else f"${amount:.2e}"


def _beginning(since: str, now: datetime) -> datetime:
    if span := _SPAN.fullmatch(since):
        count = int(span[1])
        return now - (timedelta(hours=count) if span[2] == "h" else timedelta(days=count))
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise click.BadParameter("say 24h, 7d, or a day such as 2026-11-23.", param_hint="--since") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _row(total: UsageTotal) -> Sequence[str]:
    return (
        total.group or "(none)",
        str(total.requests),
        str(total.failures),
        *(UNKNOWN if count is None else str(count) for count in (total.prompt_tokens, total.cached_tokens)),
        UNKNOWN if total.completion_tokens is None else str(total.completion_tokens),
        dollars(total.cost_usd),
    )


def _note_unknown(groups: Sequence[UsageTotal]) -> None:
    uncounted = sum(total.requests - total.counted_requests for total in groups)
    unpriced = sum(total.requests - total.priced_requests for total in groups)
    if uncounted:
        note(f"Of {uncounted} requests nobody counted the tokens, as of those that fail; they are in no sum of tokens.")
    if unpriced:
        note(f"Of {unpriced} requests the cost is not known; prices can be set in noa.yaml.")
