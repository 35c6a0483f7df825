"""``noa select``: which model should serve, and why."""

from __future__ import annotations

import click
import msgspec

from noa.cli.connection import ask
from noa.cli.terminal import UNKNOWN, json_option, note, printable, show_json, show_table
from noa.selection.decision import Decision


@click.command()
@click.argument("request_id", required=False)
@click.option("--task", help="chat, embedding, vision, tools, json or text.")
@click.option("--capability", help="What the model must be able to do, such as function_calling.")
@click.option("--prefer", type=click.Choice(["speed", "cost", "balanced", "reliability"]), help="What matters most.")
@click.option("--policy", help="A policy of noa.yaml.")
@click.option("--max-cost", type=float, metavar="USD", help="The most one request may cost.")
@click.option("--max-ttft-ms", type=float, metavar="MS", help="The longest wait for the first token.")
@click.option("--min-context", type=int, metavar="TOKENS", help="The smallest context window.")
@click.option("--prompt-tokens", type=int, metavar="N", help="How long the prompt is expected to be.")
@click.option("--max-tokens", type=int, metavar="N", help="How long the answer is expected to be.")
@click.option("--explain", is_flag=True, help="Show every candidate, with what was predicted or why it is out.")
@json_option
def select(request_id: str | None, explain: bool, as_json: bool, **wanted: str | float | None) -> None:
    """Say which model should serve, and why; nothing is loaded.

    \b
    noa select --task chat --prefer cost --max-cost 0.01 --explain
    noa select REQUEST_ID                 why a request to “auto” went where it went

    The same choice serves every request to “auto”, “auto:cost” and “auto:<policy>”.
    """
    given = {_camel(name): value for name, value in wanted.items() if value is not None}
    if request_id is not None:
        if given:
            raise click.UsageError("Ask why a request went where it went, or what would be chosen; not both.")
        answer = ask(lambda client: client.decision(request_id))
        explain = True
    else:
        answer = ask(lambda client: client.select(given))
    if as_json:
        show_json(answer)
        return
    decision = msgspec.convert(answer, Decision)
    if decision.chosen is not None:
        click.echo(printable(decision.chosen))
    note(decision.reason)
    if explain:
        explain_candidates(decision)


def explain_candidates(decision: Decision) -> None:
    """Show every candidate of a decision, the chosen one first."""
    place = {key: number for number, key in enumerate(decision.order)}
    rows = [
        (
            each.key,
            _cost(each.predicted_cost_usd),
            _ms(each.predicted_ttft_ms),
            _ms(each.predicted_latency_ms),
            UNKNOWN if each.success_rate is None else f"{each.success_rate:.1%}",
            f"{each.samples}" + ("" if each.data_age_s is None else f", {each.data_age_s:.0f} s ago"),
            each.eliminated or ("chosen" if each.key == decision.chosen else "may serve"),
        )
        for each in sorted(decision.candidates, key=lambda each: place.get(each.key, len(place)))
    ]
    show_table(("MODEL", "COST", "TTFT", "LATENCY", "SUCCESS", "SAMPLES", "VERDICT"), rows)
    note(f"Rule: {decision.rule}.")
    if decision.outcome is not None:
        came = decision.outcome
        verdict = "succeeded" if came.success else f"failed ({came.error_code})"
        attempt = f" at attempt {came.attempts}" if came.attempts > 1 else ""
        note(f"It {verdict} on {came.key}{attempt}: {_ms(came.latency_ms)}, {_cost(came.cost_usd)}.")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _cost(usd: float | None) -> str:
    return UNKNOWN if usd is None else "free" if usd == 0 else f"${usd:.6f}"


def _ms(milliseconds: float | None) -> str:
    return UNKNOWN if milliseconds is None else f"{milliseconds:.0f} ms"
