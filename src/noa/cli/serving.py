"""``noa serve`` and ``noa demo``: a server in the foreground."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click

from noa.cli.pulling import fetch_shown
from noa.cli.terminal import json_option, note, show_json
from noa.client import NoaClient, ServerUnreachableError
from noa.config import Configuration, ConfigurationManager
from noa.errors import AIProviderError, ConfigurationError
from noa.manager import ModelManager
from noa.models import ProviderType, Value, model_key
from noa.server.app import Preparation
from noa.server.app import serve as serve_until_stopped
from noa.weights import DEMO_MODEL_ID, DEMO_SOURCE

#: How long whoever holds our port may take to say whether it is Noa, in seconds.
IDENTIFY_TIMEOUT_S = 2.0

DEMO_KEY = model_key(ProviderType.LLAMA_CPP, DEMO_MODEL_ID)

host_option = click.option("--host", help="The address to listen on; both loopbacks unless it is given.")
port_option = click.option("--port", type=click.IntRange(0, 65_535), help="The port; 3001 unless it is given.")


class Listening(Value, frozen=True, kw_only=True):
    """What ``noa serve --json`` prints once it listens."""

    url: str
    dashboard: str
    api_docs: str
    openai_base_url: str
    anthropic_base_url: str


@click.command()
@host_option
@port_option
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A noa.yaml to read.")
@json_option
@click.pass_context
def serve(ctx: click.Context, host: str | None, port: int | None, config: Path | None, as_json: bool) -> None:
    """Serve models here, in the foreground.

    It ends with Ctrl-C, or SIGTERM, after the requests in flight; SIGHUP has it read its configuration anew. Beyond the
    loopback it refuses to start unless NOA_API_KEY is set, which is then the key its callers must send.
    """

    def read() -> Configuration:
        return configured(config).with_arguments(host=host, port=port)

    ctx.exit(run(read, as_json))


@click.command()
@host_option
@port_option
@json_option
@click.pass_context
def demo(ctx: click.Context, host: str | None, port: int | None, as_json: bool) -> None:
    """Serve a small model here; it is fetched first if it must be.

    The model is SmolLM2-135M-Instruct (about 100 MB). It needs no key and no configuration, and runs on any CPU.
    """

    def read() -> Configuration:
        return configured(None).with_arguments(host=host, port=port)

    fetch_shown(DEMO_SOURCE, read().models_dir)
    ctx.exit(run(read, as_json, use_demo_model))


def run(read: Callable[[], Configuration], as_json: bool, prepare: Preparation | None = None) -> int:
    """Serve until stopped and return the exit code. Raises ``ConfigurationError`` for what keeps it from starting.

    ``read`` reads the configuration, now and whenever it is reloaded.
    """
    configuration = read()
    check_folders(configuration)
    try:
        return serve_until_stopped(
            configuration, read=read, prepare=prepare, on_ready=lambda url: announce(url, configuration, as_json)
        )
    except ConfigurationError as error:
        url = configuration.evolve(server_url=None).url
        if "port" not in error.details or not asyncio.run(is_noa(url, configuration)):
            raise
        raise ConfigurationError(
            f"Noa itself already runs at {url}; use that one, or give this one another port with --port.",
            details=error.details,
        ) from error


def check_folders(configuration: Configuration) -> None:
    """Refuse a model folder that cannot be one, and tell which of the further folders are not there."""
    own = configuration.models_dir
    if own.exists() and not own.is_dir():
        raise ConfigurationError(f"{own} is where models are kept, but it is no folder; move it away, or set NOA_HOME.")
    for folder in configuration.extra_model_folders:
        if not folder.is_dir():
            note(f"Warning: the model folder {folder} (NOA_MODELS, or models.folders) does not exist.")


async def is_noa(url: str, configuration: Configuration) -> bool:
    """Whether it is a Noa that answers there. One that refuses us in Noa's way is one too."""
    key = configuration.api_key.reveal() if configuration.api_key is not None else None
    async with NoaClient(url, key, query_timeout_s=IDENTIFY_TIMEOUT_S) as client:
        try:
            return "knownModels" in await client.health()
        except ServerUnreachableError:
            return False
        except AIProviderError as error:
            return error.code in {"AUTHENTICATION_ERROR", "HOST_NOT_ALLOWED"}


def configured(path: Path | None) -> Configuration:
    """The configuration of the environment, with this file in place of the usual one if it is given."""
    return ConfigurationManager.from_environment() if path is None else ConfigurationManager.from_file(path)


async def use_demo_model(manager: ModelManager) -> None:
    """Load the demo model and make it current."""
    key = await manager.load_model(DEMO_KEY)
    await manager.switch_model(key, reason="demo")


def announce(url: str, configuration: Configuration, as_json: bool) -> None:
    """Tell where the server is and what to try."""
    if as_json:
        show_json(
            Listening(
                url=url,
                dashboard=f"{url}/",
                api_docs=f"{url}/api-docs",
                openai_base_url=f"{url}/v1",
                anthropic_base_url=url,
            )
        )
        return
    key_header = "" if configuration.api_key is None else ' -H "Authorization: Bearer $NOA_API_KEY"'
    click.echo(
        f"""\
Noa serves at {url}

  Dashboard  {url}/
  API docs   {url}/api-docs
  OpenAI     {url}/v1    Anthropic  {url}

Try it:

  curl {url}/v1/chat/completions -H "Content-Type: application/json"{key_header} \\
    -d '{{"max_tokens": 60, "messages": [{{"role": "user", "content": "Say hello."}}]}}'

Ctrl-C stops it."""
    )
