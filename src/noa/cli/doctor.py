"""``noa doctor``: what keeps Noa from working here, and what to do about it."""

from __future__ import annotations

import asyncio

import click

from noa.cli.checkup import Finding, Verdict, examine
from noa.cli.terminal import json_option, printable, show_json, styled
from noa.models import Value

_WORDS = {Verdict.OK: ("ok", "green"), Verdict.WARNING: ("note", "yellow"), Verdict.PROBLEM: ("FAIL", "red")}


class Checkup(Value, frozen=True, kw_only=True):
    """What ``noa doctor --json`` prints. ``healthy`` is false if a finding is a problem; then the exit code is 1."""

    healthy: bool
    findings: tuple[Finding, ...]


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Find out what keeps Noa from working here, and say what to do.

    It looks at the configuration, keys, providers, folders, disk, port, engine and state, and changes nothing. Each
    provider is asked once, by a request that costs nothing. If something is wrong, the exit code is 1.
    """
    findings = asyncio.run(examine())
    healthy = all(finding.verdict is not Verdict.PROBLEM for finding in findings)
    if as_json:
        show_json(Checkup(healthy=healthy, findings=tuple(findings)))
    else:
        for finding in findings:
            _show(finding)
    ctx.exit(0 if healthy else 1)


def _show(finding: Finding) -> None:
    word, colour = _WORDS[finding.verdict]
    mark = click.style(f"{word:4}", fg=colour) if styled() else f"{word:4}"
    click.echo(f"{mark}  {finding.subject}: {printable(finding.message)}")
    if finding.advice is not None:
        click.echo(f"      → {printable(finding.advice)}")
