"""Builds the catalogue that the wheel carries, from the TOML files of models.dev and the prices of genai-prices.

    pip install genai-prices          # in an environment that has Noa too
    python scripts/build_catalog.py CHECKOUT_OF_MODELS_DEV --revision f3fc692 --as-of 2026-07-02 \
        --prices-version 0.2.3 --prices-as-of 2026-11-10

models.dev (https://github.com/anomalyco/models.dev, MIT) says what models can do, and has prices; genai-prices
(https://github.com/pydantic/genai-prices, MIT) has the better kept prices, so they come on top. Its rules for
recognising a model are wide on purpose; here an id must be one that it names, but for a date at the end.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec

from noa.catalog.catalog import BUNDLED
from noa.catalog.models_dev import read_providers
from noa.catalog.names import undated
from noa.catalog.snapshot import Rates, Row, RowPrice, Service, Snapshot, Source, pack
from noa.models import ModelCapability

#: What genai-prices calls the services of models.dev. Those it knows for others' models by price ranges are left out.
PRICED_AS = {
    "anthropic": "anthropic",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks-ai": "fireworks",
    "google": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshotai": "moonshotai",
    "novita-ai": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "togetherai": "together",
    "xai": "x-ai",
    "zai": "zai",
}
#: The prices Noa counts with, by genai-prices' names for them.
UNITS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
}
AT_PEAK = "at the service's peak hours; it is less at others"


def read_models_dev(folder: Path) -> dict[str, object]:
    """The document that models.dev would publish of these files: a provider's model on top of what is known of it.

    As ``packages/core/src/generate.ts`` merges them: tables deeply, everything else as a whole.
    """
    known = {_id_of(path, folder / "models"): _toml(path) for path in (folder / "models").rglob("*.toml")}
    document: dict[str, object] = {}
    for file in sorted((folder / "providers").glob("*/provider.toml")):
        models = file.parent / "models"
        found = {_id_of(path, models): _toml(path) for path in sorted(models.rglob("*.toml")) if path.is_file()}
        document[file.parent.name] = {
            **_toml(file),
            "id": file.parent.name,
            "models": {model_id: {**_whole(model, known), "id": model_id} for model_id, model in found.items()},
        }
    return document


def overlaid(snapshot: Snapshot, providers: Iterable[Any], *, version: str, as_of: date) -> Snapshot:
    """The snapshot with genai-prices' figures as of that day on top, and the models that only it knows."""
    by_id = {provider.id: provider for provider in providers}
    services = {
        name: _priced(service, by_id[PRICED_AS[name]], as_of) if PRICED_AS.get(name) in by_id else service
        for name, service in snapshot.services.items()
    }
    source = Source(
        name="genai-prices",
        licence="MIT",
        url="https://github.com/pydantic/genai-prices",
        revision=version,
        as_of=as_of,
    )
    return msgspec.structs.replace(snapshot, services=services, sources=(*snapshot.sources, source))


def _priced(service: Service, provider: Any, as_of: date) -> Service:
    models, also = dict(service.models), dict(service.also)
    own = {model.id.lower(): model for model in provider.models}
    named = {name.lower(): model for model in provider.models for name in _names(model.match, "equals")}
    starts = {name.lower(): model for model in provider.models for name in _names(model.match, "starts_with")}
    for model_id, row in service.models.items():
        name, plain = model_id.lower(), undated(model_id.lower())
        model = own.get(name)
        # What “latest” means changes; it is believed where it stands for itself.
        if model is None and not name.endswith("latest"):
            model = named.get(name)
            if model is None and _costs_the_same(row, service.models.get(undated(model_id))):
                model = own.get(plain) or named.get(plain) or starts.get(plain)
        if model is not None:
            models[model_id] = msgspec.structs.replace(row, price=_price(model, row, as_of))
    listed = {model_id.lower() for model_id in models}
    for model in provider.models:
        if model.id.lower() not in listed and _price(model, Row(), as_of) is not None:
            models[model.id] = Row(name=model.name, context=model.context_window, price=_price(model, Row(), as_of))
        if model.id in models:
            also |= {name: model.id for name in _names(model.match, "equals") if name not in models}
    return msgspec.structs.replace(service, models=models, also=also)


def _costs_the_same(dated: Row, plain: Row | None) -> bool:
    """Whether a dated snapshot may be taken for the model without the date: nothing says that it costs otherwise."""
    if dated.price is None or plain is None or plain.price is None:
        return True
    return (dated.price.input, dated.price.output) == (plain.price.input, plain.price.output)


def _names(clause: Any, kind: str) -> Iterator[str]:
    """The names of one kind that any of a rule's alternatives gives."""
    if isinstance(found := getattr(clause, kind, None), str):
        yield found
    for alternative in getattr(clause, "or_", ()):
        yield from _names(alternative, kind)


def _price(model: Any, row: Row, as_of: date) -> RowPrice | None:
    prices, note = _in_force(model.prices, as_of)
    # A fee per request is nothing that a price of tokens could tell.
    if getattr(prices, "requests_kcount", None) is not None or getattr(prices, "input_mtok", None) is None:
        return None
    quoted = {name: getattr(prices, unit, None) for name, unit in UNITS.items()}
    if quoted["output"] is None and row.can == (ModelCapability.EMBEDDINGS,):
        quoted["output"] = 0
    starts = sorted({tier.start for price in quoted.values() for tier in getattr(price, "tiers", ())})
    return RowPrice(
        tiers=tuple(Rates(above=start, **_rates(quoted, start)) for start in starts),
        as_of=as_of,
        note=note,
        **_rates(quoted, 0),
    )


def _in_force(prices: Any, as_of: date) -> tuple[Any, str | None]:
    """The prices in force on a day, the dearest where they go by the hour, and what is to be said of them."""
    if not isinstance(prices, list):
        return prices, None
    noon = datetime.combine(as_of, time(12), tzinfo=UTC)
    hourly = [each.prices for each in prices if hasattr(each.constraint, "start_time")]
    dated = [each for each in prices if not hasattr(each.constraint, "start_time")]
    active = [each.prices for each in dated if each.constraint is None or each.constraint.active(noon)]
    chosen = active[-1] if active else prices[0].prices
    return max((chosen, *hourly), key=lambda each: each.input_mtok), AT_PEAK if hourly else None


def _rates(quoted: Mapping[str, Any], prompt_tokens: int) -> dict[str, Any]:
    """Each price as it is for a prompt of more than so many tokens."""
    rates = {}
    for name, price in quoted.items():
        reached = [tier.price for tier in getattr(price, "tiers", ()) if 0 < tier.start <= prompt_tokens]
        value = reached[-1] if reached else getattr(price, "base", price)
        rates[name] = None if value is None else float(value)
    return rates


def _whole(model: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    base = model.pop("base_model", None)
    omitted = model.pop("base_model_omit", ())
    whole = model if base is None else _merged(known[base], model)
    for path in omitted:
        *tables, name = path.split(".")
        table: Any = whole
        for each in tables:
            table = table.get(each, {})
        table.pop(name, None)
    return whole


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in own.items():
        under = base.get(name)
        merged[name] = _merged(under, value) if isinstance(value, dict) and isinstance(under, dict) else value
    return {name: dict(value) if isinstance(value, dict) else value for name, value in merged.items()}


def _id_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix().removesuffix(".toml")


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


@click.command()
@click.argument("checkout", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--revision", required=True, help="The commit of models.dev that is checked out.")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The day of that commit.")
@click.option("--prices-version", required=True, help="The version of genai-prices that is installed.")
@click.option("--prices-as-of", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The day it was published.")
def main(checkout: Path, revision: str, as_of: datetime, prices_version: str, prices_as_of: datetime) -> None:
    """Write the catalogue of a CHECKOUT of models.dev to where the wheel takes it from."""
    providers = import_module("genai_prices.data").providers
    snapshot = read_providers(read_models_dev(checkout), as_of=as_of.date(), revision=revision)
    snapshot = overlaid(snapshot, providers, version=prices_version, as_of=prices_as_of.date())
    content = pack(snapshot)
    BUNDLED.write_bytes(content)
    click.echo(
        f"{len(snapshot.services)} services, {snapshot.model_count} models, {snapshot.price_count} prices, "
        f"{len(content) // 1024} KiB"
    )


if __name__ == "__main__":
    main()
