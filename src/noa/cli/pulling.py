"""``noa pull``: getting weights, and telling a running server of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from noa.cli.connection import connect
from noa.cli.progress import ByteBar
from noa.cli.terminal import json_option, note, printable, show_json
from noa.client import ServerUnreachableError
from noa.config import ConfigurationManager
from noa.errors import ModelLoadError, ValidationError
from noa.models import ProviderType, Value, model_key
from noa.weights import DEMO_SOURCE, fetch, model_name, size_of_model


class Pulled(Value, frozen=True, kw_only=True):
    """What ``noa pull --json`` prints.

    ``path`` is the first of the model's files and ``size_bytes`` what all take. ``discovered`` says whether a running
    server knows of it already.
    """

    key: str
    path: str
    size_bytes: int
    discovered: bool


@click.command()
@click.argument("source")
@json_option
def pull(source: str, as_json: bool) -> None:
    """Fetch a model's weights into the model folder.

    SOURCE is hf:org/repo for a model of Hugging Face (hf:org/repo:Q5_K_M or hf:org/repo/file.gguf for a certain one),
    the https address of a .gguf file (with #sha256=… to have it checked), a file: path of one here, or “demo” for a
    small model to try things with.

    What broke off, or was stopped with Ctrl-C, goes on where it was when the same is asked for again. A running server
    is told of the new model; without one, the next to start finds it.
    """
    configuration = ConfigurationManager.from_environment()
    try:
        path = fetch_shown(DEMO_SOURCE if source == "demo" else source, configuration.models_dir)
    except ValidationError as error:
        raise click.BadParameter(error.message, param_hint="SOURCE") from error
    pulled = Pulled(
        key=model_key(ProviderType.LLAMA_CPP, model_name(path.name)),
        path=str(path),
        size_bytes=size_of_model(path),
        discovered=asyncio.run(_announce()),
    )
    if as_json:
        show_json(pulled)
        return
    click.echo(printable(pulled.key))
    next_step = f"load it with “noa load {pulled.key}”" if pulled.discovered else "start a server with “noa serve”"
    note(f"It is in {path}; {next_step}.")


def fetch_shown(source: str, folder: Path) -> Path:
    """Fetch weights into a folder, with a bar on stderr, and return the file's path.

    Weights that do not come are no failed load, whose exit code is for models that do not start: this exits with 1.
    """
    shown = source.partition("?")[0].partition("#")[0]  # what follows may hold a token
    try:
        with ByteBar(f"fetching {shown}") as bar:
            return asyncio.run(fetch(source, folder, bar.advance, announce=note))
    except ModelLoadError as error:
        raise click.ClickException(printable(error.message)) from error


async def _announce() -> bool:
    """Have the running server look again; false if there is none."""
    async with connect() as client:
        try:
            await client.discover()
        except ServerUnreachableError:
            return False
    return True
