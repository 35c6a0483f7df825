"""The checks of ``noa doctor``: one function each, which looks at one thing and says how it is."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from noa.cli.terminal import byte_size
from noa.client import NoaClient, ServerUnreachableError
from noa.config import Configuration, ProviderConfig
from noa.errors import AIProviderError, ConfigurationError, StateInUseError
from noa.models import ProviderType, Value
from noa.providers.factory import ProviderFactory
from noa.storage.lock import DatabaseLock

#: How long a provider, or whoever holds our port, may take to answer, in seconds.
PATIENCE_S: Final = 10.0
#: Free bytes below which nothing can be kept, and below which few models fit.
LEAST_FREE: Final = 200 * 1024 * 1024
FEW_FREE: Final = 5 * 1024 * 1024 * 1024
#: By name, what Noa can be installed with besides the engine: a module of it, and what it is for.
EXTRAS: Final = {
    "hub": ("huggingface_hub", "models of Hugging Face by name"),
    "plots": ("PIL", "PNG pictures of profiles"),
    "otel": ("opentelemetry.sdk", "traces to a collector"),
}


class Verdict(StrEnum):
    """How something is. A warning keeps nothing from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(Value, frozen=True, kw_only=True):
    """What was found of one subject, and what to do about it."""

    subject: str
    verdict: Verdict
    message: str
    advice: str | None = None


async def examine() -> list[Finding]:
    """Look at everything. A configuration that is wrong is all that can be said then."""
    try:
        configuration = Configuration.from_environment()
    except ConfigurationError as error:
        return [_problem("configuration", error.message, "Mend it there; “noa config check FILE” checks a file.")]
    server = await _server_at(configuration)
    findings = [_configuration(configuration), _keys(configuration)]
    findings += await asyncio.gather(*(_provider(config, configuration) for config in _asked(configuration)))
    findings += [
        _engine(configuration),
        _extras(),
        *_model_folders(configuration),
        _writable("state", configuration.state_path.parent, "NOA_HOME or MODEL_MANAGER_PERSISTENCE_PATH"),
        _disk(configuration),
        _port(configuration, server),
        _lock(configuration, server),
    ]
    return findings


def _ok(subject: str, message: str) -> Finding:
    return Finding(subject=subject, verdict=Verdict.OK, message=message)


def _warning(subject: str, message: str, advice: str) -> Finding:
    return Finding(subject=subject, verdict=Verdict.WARNING, message=message, advice=advice)


def _problem(subject: str, message: str, advice: str) -> Finding:
    return Finding(subject=subject, verdict=Verdict.PROBLEM, message=message, advice=advice)


# What is configured.


def _configuration(configuration: Configuration) -> Finding:
    read = "variables only, no noa.yaml" if configuration.config_path is None else f"read {configuration.config_path}"
    return _ok("configuration", f"{read}; “noa config” shows what is in effect.")


def _keys(configuration: Configuration) -> Finding:
    having = [provider.name for provider in configuration.providers if provider.api_key is not None]
    if having:
        return _ok("keys", f"set for {', '.join(having)}.")
    return _warning(
        "keys",
        "no provider has a key, so there are local models only.",
        "Set one if you want more, such as OPENAI_API_KEY or ANTHROPIC_API_KEY, in the environment or in .env.",
    )


def _asked(configuration: Configuration) -> Sequence[ProviderConfig]:
    """The providers that are somewhere else; files of this machine are looked at by themselves."""
    return [
        provider
        for provider in configuration.providers
        if not (provider.type == ProviderType.LLAMA_CPP and provider.base_url is None)
    ]


async def _provider(config: ProviderConfig, configuration: Configuration) -> Finding:
    subject = f"provider {config.name}"
    if not config.is_set_up:
        return _warning(subject, "it is named in the configuration but not set up.", f"To use it, {config.advice}")
    where = f" at {config.base_url}" if config.base_url else ""
    advice = f"Check its key ({config.key_variable or 'apiKey'}), its address, and the network."
    try:
        provider = ProviderFactory().create(config, folders=configuration.model_folders)
        try:
            async with asyncio.timeout(PATIENCE_S):
                health = await provider.health()
        finally:
            await provider.aclose()
    except TimeoutError:
        return _problem(subject, f"it did not answer within {PATIENCE_S:.0f} s{where}.", advice)
    except AIProviderError as error:
        return _problem(subject, error.message, advice)
    if not health.up:
        return _problem(subject, health.error or f"it does not answer{where}.", advice)
    took = "" if health.latency_ms is None else f" in {health.latency_ms:.0f} ms"
    return _ok(subject, f"it answers{took}{where}.")


# What local models need.


def _engine(configuration: Configuration) -> Finding:
    if configuration.llama_server is not None:
        return _ok("engine", f"{configuration.llama_server}, as configured.")
    if importlib.util.find_spec("xllamacpp") is not None:
        return _ok("engine", f"xllamacpp {metadata.version('xllamacpp')}.")
    return _warning(
        "engine",
        "the engine for local models is not installed.",
        'pip install "noa[local]", or set NOA_LLAMA_SERVER to a llama-server program of yours.',
    )


def _extras() -> Finding:
    missing = {extra: purpose for extra, (module, purpose) in EXTRAS.items() if not _is_installed(module)}
    if not missing:
        return _ok("extras", f"all are installed: {', '.join(EXTRAS)}.")
    return Finding(
        subject="extras",
        verdict=Verdict.OK,
        message=f"not installed: {', '.join(f'{extra} ({purpose})' for extra, purpose in missing.items())}.",
        advice=f'If you want what they are for: pip install "noa[{",".join(missing)}]"',
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # The package it is in is not there either.
        return False


def _model_folders(configuration: Configuration) -> Iterator[Finding]:
    own = configuration.models_dir
    yield _writable("model folder", own, "NOA_HOME")
    for folder in configuration.extra_model_folders:
        if not folder.is_dir():
            yield _warning("model folder", f"{folder} does not exist.", "Make it, or take it out of NOA_MODELS.")
    found = sum(1 for folder in configuration.model_folders for _ in folder.rglob("*.gguf"))
    if found:
        yield _ok("models", f"{found} GGUF file{'s' if found > 1 else ''} in the model folders.")
    else:
        yield _warning("models", "there is no GGUF file in the model folders.", "Get a small one: noa pull demo")


# What the machine has to give.


def _existing(folder: Path) -> Path:
    """The folder, or what is nearest above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _writable(subject: str, folder: Path, variable: str) -> Finding:
    nearest = _existing(folder)
    if not nearest.is_dir():
        return _problem(subject, f"{nearest} is no folder.", f"Move it away, or choose another place with {variable}.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return _problem(
            subject, f"{nearest} cannot be written to.", f"Change its permissions, or choose another: {variable}."
        )
    return _ok(subject, f"{folder} can be written to{'' if nearest == folder else ' (it will be made)'}.")


def _disk(configuration: Configuration) -> Finding:
    free = shutil.disk_usage(_existing(configuration.home)).free
    message = f"{byte_size(free)} free at {configuration.home}."
    advice = "Delete what is not needed there, or choose another place with NOA_HOME."
    if free < LEAST_FREE:
        return _problem("disk", message, advice)
    return _warning("disk", message, advice) if free < FEW_FREE else _ok("disk", message)


async def _server_at(configuration: Configuration) -> str | None:
    """What answers where this configuration would listen, if it is Noa."""
    url = configuration.evolve(server_url=None).url
    key = configuration.api_key.reveal() if configuration.api_key is not None else None
    async with NoaClient(url, key, query_timeout_s=PATIENCE_S) as client:
        try:
            health = await client.health()
        except ServerUnreachableError:
            return None
        except AIProviderError as error:
            known = error.code in {"AUTHENTICATION_ERROR", "HOST_NOT_ALLOWED"}
            return f"a Noa that asks for another key runs at {url}" if known else None
    return f"Noa {health.get('version')} runs at {url}" if "knownModels" in health else None


def _port(configuration: Configuration, server: str | None) -> Finding:
    if server is not None:
        return _ok("port", f"{server}.")
    where = f"{configuration.host}:{configuration.port}"
    try:
        addresses = socket.getaddrinfo(configuration.host, configuration.port, type=socket.SOCK_STREAM)
        taken = [address for family, *_, address in addresses if not _is_free(family, address)]
    except OSError as error:
        return _problem("port", f"{configuration.host} is no address of this machine: {error}.", "Set NOA_HOST.")
    if taken:
        return _problem("port", f"another program listens at {where}.", "Stop it, or choose another with NOA_PORT.")
    return _ok("port", f"{where} is free.")


def _is_free(family: int, address: Any) -> bool:
    """Whether we could listen there. A family of addresses that this machine lacks keeps nobody from it."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        return error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


def _lock(configuration: Configuration, server: str | None) -> Finding:
    path = configuration.state_path
    if not path.with_name(path.name + ".lock").exists():
        return _ok("state lock", "nobody uses the state.")
    try:
        DatabaseLock.acquire(path).release()
    except StateInUseError as error:
        if server is not None:
            return _ok("state lock", "the server that runs holds it.")
        return _warning("state lock", error.message, "A second server cannot start on the same state.")
    except OSError as error:
        return _problem(
            "state lock", f"it cannot be opened: {error.strerror}.", "Change the permissions of its folder."
        )
    return _ok("state lock", "nobody uses the state.")
