"""``noa catalog``: what the world says of models, and fetching a newer version of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime

import click

from noa.catalog import Catalog, CatalogFacts, services_of
from noa.catalog.comparison import Comparison, PriceChange
from noa.catalog.refresh import DEFAULT_SOURCE, CatalogShelf, refresh
from noa.catalog.snapshot import Snapshot
from noa.cli.evidence import price_lines
from noa.cli.terminal import UNKNOWN, json_option, note, printable, show_json
from noa.config import Configuration, ConfigurationManager
from noa.errors import ModelNotFoundError
from noa.models import Value, split_key
from noa.presets import canonical_provider

#: After so many days the catalogue is called old.
OLD_AFTER_DAYS = 60
#: How many changes of each kind are listed.
LISTED_CHANGES = 20


class CatalogSource(Value, frozen=True, kw_only=True):
    """Where facts come from."""

    name: str
    licence: str
    url: str
    revision: str | None
    as_of: date


class CatalogAbout(Value, frozen=True, kw_only=True):
    """What ``noa catalog --json`` prints. ``bundled`` says that it came with Noa, rather than being fetched since."""

    as_of: date
    bundled: bool
    services: int
    models: int
    prices: int
    sources: tuple[CatalogSource, ...]


class Refreshed(CatalogAbout, frozen=True, kw_only=True):
    """What ``noa catalog refresh --json`` prints: the new catalogue, and what it changes."""

    changes: Comparison


class CatalogEntry(Value, frozen=True, kw_only=True):
    """What ``noa catalog show --json`` prints."""

    key: str
    facts: CatalogFacts


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def catalog(ctx: click.Context, as_json: bool) -> None:
    """Show what is known of models at large: windows, capabilities, prices.

    The catalogue comes with Noa and works offline; nothing is fetched unless you say so. What noa.yaml says of a model
    comes before it. Without a command, it says how old it is and where it comes from.
    """
    if ctx.invoked_subcommand is None:
        shelf = _shelf(ConfigurationManager.from_environment())
        _show_about(_about(shelf.in_use(), shelf), as_json)


@catalog.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show what the catalogue says of the model KEY, such as openai:gpt-4o."""
    configuration = ConfigurationManager.from_environment()
    provider, model_id = split_key(key)
    provider = canonical_provider(provider) or provider
    found = Catalog(_shelf(configuration).current_path, services_of(configuration.providers))
    facts = found.facts(provider, model_id)
    if facts is None:
        raise ModelNotFoundError(
            f"The catalogue knows nothing of {key}; that keeps nobody from using it. Its price can be set in noa.yaml."
        )
    if as_json:
        show_json(CatalogEntry(key=f"{provider}:{model_id}", facts=facts))
        return
    for line in _facts_lines(f"{provider}:{model_id}", facts):
        click.echo(printable(line))


@catalog.command("refresh")
@click.option(
    "--from", "source", default=DEFAULT_SOURCE, show_default=True, metavar="URL|FILE", help="Where to take it from."
)
@json_option
def fetch(source: str, as_json: bool) -> None:
    """Fetch a newer catalogue, check it, and say what it changes.

    The one before is kept: “noa catalog undo” goes back to it. A running server uses the new one from the next time on
    that it looks for models.
    """
    shelf = _shelf(ConfigurationManager.from_environment())
    note(f"Fetching {source} …")
    snapshot, changes = asyncio.run(refresh(shelf, source))
    about = _about(snapshot, shelf)
    if as_json:
        show_json(
            Refreshed(
                as_of=about.as_of,
                bundled=about.bundled,
                services=about.services,
                models=about.models,
                prices=about.prices,
                sources=about.sources,
                changes=changes,
            )
        )
        return
    for line in _change_lines(changes):
        click.echo(printable(line))
    _show_about(about, as_json=False)


@catalog.command()
@json_option
def undo(as_json: bool) -> None:
    """Go back to the catalogue before the last refresh."""
    shelf = _shelf(ConfigurationManager.from_environment())
    _show_about(_about(shelf.go_back(), shelf), as_json)


def _shelf(configuration: Configuration) -> CatalogShelf:
    return CatalogShelf(configuration.catalog_dir)


def _about(snapshot: Snapshot, shelf: CatalogShelf) -> CatalogAbout:
    return CatalogAbout(
        as_of=snapshot.as_of,
        bundled=Catalog(shelf.current_path).is_bundled,
        services=len(snapshot.services),
        models=snapshot.model_count,
        prices=snapshot.price_count,
        sources=tuple(
            CatalogSource(name=each.name, licence=each.licence, url=each.url, revision=each.revision, as_of=each.as_of)
            for each in snapshot.sources
        ),
    )


def _show_about(about: CatalogAbout, as_json: bool) -> None:
    if as_json:
        show_json(about)
        return
    origin = "came with Noa" if about.bundled else "was fetched"
    click.echo(
        f"The catalogue is of {about.as_of} and {origin}: {about.models} models of {about.services} services, "
        f"{about.prices} with a price."
    )
    for source in about.sources:
        revision = f" {source.revision}" if source.revision else ""
        click.echo(printable(f"  {source.name}{revision}, as of {source.as_of}, {source.licence}, {source.url}"))
    newest = max((about.as_of, *(source.as_of for source in about.sources)))
    age = (datetime.now(UTC).date() - newest).days
    if age > OLD_AFTER_DAYS:
        note(f"It is {age} days old; “noa catalog refresh” fetches a newer one.")


def _facts_lines(key: str, facts: CatalogFacts) -> Iterator[str]:
    yield key if facts.name is None else f"{key} ({facts.name})"
    yield f"  as of {facts.as_of}"
    yield f"  can: {', '.join(facts.capabilities) or UNKNOWN}"
    if facts.lacks:
        yield f"  cannot: {', '.join(facts.lacks)}"
    yield f"  reasons: {UNKNOWN if facts.reasoning is None else 'yes' if facts.reasoning else 'no'}"
    yield f"  window: {_tokens(facts.context_window)}, answers: at most {_tokens(facts.max_tokens)}"
    yield from (f"  {line}" for line in price_lines(facts.price))


def _change_lines(changes: Comparison) -> Iterator[str]:
    if changes.is_empty:
        yield "Nothing has changed."
        return
    yield (
        f"{len(changes.added)} models are new, {len(changes.removed)} are gone, {len(changes.price_changes)} have "
        f"another price, {changes.other_changes} have other facts."
    )
    for sign, keys in (("+", changes.added), ("-", changes.removed)):
        yield from (f"  {sign} {key}" for key in keys[:LISTED_CHANGES])
        yield from _rest(len(keys))
    yield from (f"  {_repriced(change)}" for change in changes.price_changes[:LISTED_CHANGES])
    yield from _rest(len(changes.price_changes))


def _repriced(change: PriceChange) -> str:
    before = f"{_dollars(change.input_before)} in, {_dollars(change.output_before)} out"
    return f"{change.key}: {before} → {_dollars(change.input)} in, {_dollars(change.output)} out"


def _rest(count: int) -> Iterator[str]:
    if count > LISTED_CHANGES:
        yield f"    and {count - LISTED_CHANGES} more; --json lists all."


def _dollars(price: float | None) -> str:
    return UNKNOWN if price is None else f"${price:g}"


def _tokens(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count} tokens"
