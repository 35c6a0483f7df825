"""Probing a model from the command line: what it may cost is said first, and what goes on while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

import click

from noa.cli.terminal import interactive, note
from noa.client import NoaClient
from noa.client_answers import ServerEvent
from noa.errors import AIProviderError
from noa.models import ProbePlan

logger = logging.getLogger(__name__)


def agreed(plan: ProbePlan, yes: bool) -> bool:
    """Say what probing may cost, and ask whether to go on, unless it is free or ``yes`` was said.

    Where nobody can be asked, that is a usage error.
    """
    if plan.cost_usd == 0:
        return True
    note(cost_sentence(plan))
    if yes:
        return True
    if not interactive(sys.stdin):
        raise click.UsageError("Nobody is there to be asked; say --yes to probe all the same.")
    return click.confirm("Probe it?", err=True)


def cost_sentence(plan: ProbePlan) -> str:
    """What probing may take, and cost if that is known."""
    amount = "an unknown amount, for its price is unknown" if plan.cost_usd is None else f"${plan.cost_usd:.4f}"
    return (
        f"Probing {plan.key} takes {plan.requests} requests of at most {plan.prompt_tokens} tokens in and "
        f"{plan.completion_tokens} out in all; that costs at most {amount}."
    )


async def run_probe(client: NoaClient, key: str) -> None:
    """Probe the model of this very key, and tell on stderr what has been tried and what it showed."""
    watcher = asyncio.create_task(_show_progress(client, key))
    try:
        answer = await client.probe(key)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    for result in answer.results:
        note(f"{answer.key}: {result.capability} {result.outcome}: {result.detail}")


async def _show_progress(client: NoaClient, key: str) -> None:
    """Only decoration: where the server tells no events, nothing is shown before the results."""
    try:
        async with contextlib.aclosing(client.events()) as events:
            async for event in events:
                if event.data.get("key") == key and (sentence := progress_of(event)):
                    note(sentence)
    except AIProviderError as error:
        logger.debug("no events to show the progress of the probes from: %s", error.message)


def progress_of(event: ServerEvent) -> str | None:
    """What an event says of how far probes are."""
    if event.type != "probing-progress":
        return None
    data = event.data
    return f"{data.get('key')}: {data.get('capability')} tried, {data.get('done')} of {data.get('total')}"
