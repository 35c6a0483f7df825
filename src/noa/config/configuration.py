"""What the rest of Noa is given: one frozen ``Configuration``, made from variables, ``.env`` and ``noa.yaml``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import platformdirs

from noa.config.address import checked_base_url
from noa.config.known_models import KnownModel
from noa.config.memory_budget import DEFAULT_MEMORY_BUDGET, budget_bytes
from noa.config.policies import PolicySettings
from noa.config.provider import ProviderConfig
from noa.config.secret import Secret
from noa.config.settings import Settings, checked, known_models
from noa.config.sources import Sources, absolute
from noa.config.variables import Variables
from noa.errors import ConfigurationError
from noa.models import CacheType
from noa.presets import canonical_provider


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of Noa, decided. ``Configuration()`` is what an untouched machine has.

    ``home`` is the folder of everything Noa keeps, ``config_path`` the ``noa.yaml`` that was read, if any.
    ``persistence_path`` is the path that was asked for (see ``state_path``); ``extra_model_folders`` are searched after
    ``models_dir``. ``host`` and ``port`` are where the server listens (``localhost`` means both loopbacks, port 0 a
    free one), ``api_key`` is what its callers must send, and ``server_url`` is where clients were told to find it.
    ``otlp_endpoint`` is where traces are sent.
    ``allowed_origins`` are those of the web pages that may use it besides its own.
    ``fallbacks`` maps a key or an alias to those to go to, in order, when a request to it was not taken.
    ``known_models`` is what the user says of single models, by key, before everything that others say of them.
    ``policies`` are the named ways to choose a model, and ``explore`` is the part of requests, from 0 to 1, that may go
    to a model not measured lately. ``memory_budget`` is what local models may take together, as ``"8GiB"``, ``"80%"``
    or a number of bytes. ``context_size`` is in tokens per slot; ``threads`` is per model, ``None`` to divide them up.
    ``hf_home`` is as the variable of that program says.

    Raises ``ConfigurationError`` for a value that is out of its range.
    """

    home: Path = msgspec.field(default_factory=lambda: platformdirs.user_data_path("noa", appauthor=False))
    config_path: Path | None = None
    providers: tuple[ProviderConfig, ...] = (ProviderConfig(type="llama.cpp"),)
    default_provider: str | None = None
    fallbacks: Mapping[str, tuple[str, ...]] = {}
    explore: float = 0.0
    policies: Mapping[str, PolicySettings] = {}
    max_loaded_models: int = 10
    known_models: Mapping[str, KnownModel] = {}
    memory_budget: str | int = DEFAULT_MEMORY_BUDGET
    auto_load_default: bool = True
    enable_performance_tracking: bool = True
    enable_auto_switch: bool = False
    auto_switch_threshold: float = 0.7
    persistence_path: Path | None = None
    extra_model_folders: tuple[Path, ...] = ()
    host: str = "localhost"
    port: int = 3001
    api_key: Secret | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 1024 * 1024
    server_url: str | None = None
    otlp_endpoint: str | None = None
    llama_server: Path | None = None
    context_size: int = 4096
    slots: int = 1
    threads: int | None = None
    cache_type: CacheType = CacheType.F16
    hf_home: Path | None = None

    def __post_init__(self) -> None:
        for name, valid, what in (
            ("port", 0 <= self.port <= 65535, "must be from 0 to 65535"),
            ("host", bool(self.host), "must not be empty"),
            ("max_loaded_models", self.max_loaded_models >= 1, "must be at least 1"),
            ("auto_switch_threshold", 0 <= self.auto_switch_threshold <= 1, "must be from 0 to 1"),
        ):
            if not valid:
                raise ConfigurationError(f"{name} {what}.")
        self.memory_budget_bytes(total_bytes=1)

    @classmethod
    def from_environment(
        cls, prefix: str = "AI_", *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Self:
        """Read variables, ``.env``, and the ``noa.yaml`` that is found.

        ``prefix`` is that of the prefixed variables, beside ``NOA_`` which always works. ``environ`` and ``cwd`` stand
        for the process's own. The file is the one ``NOA_CONFIG`` names, else ``noa.yaml`` in the working directory,
        else that in the configuration folder. Raises ``ConfigurationError``, naming variable or line, for what is
        wrong.
        """
        return cls.from_sources(Sources.gather(prefix, environ=environ, cwd=cwd))

    @classmethod
    def from_file(
        cls, path: str | Path, *, prefix: str = "AI_", environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Self:
        """Read this file; variables still come before what it says. Otherwise as ``from_environment``."""
        return cls.from_sources(Sources.gather(prefix, environ=environ, cwd=cwd, file=path))

    @classmethod
    def from_sources(cls, sources: Sources) -> Self:
        """Decide by what was gathered."""
        return cls(**_load(sources))

    def evolve(self, **changes: Any) -> Self:
        """The same with these fields changed, and checked again."""
        return msgspec.structs.replace(self, **changes)

    def with_arguments(self, **given: Any) -> Self:
        """The same with those fields changed that are not ``None``: arguments nobody gave."""
        return self.evolve(**{name: value for name, value in given.items() if value is not None})

    def provider_config(self, name: str) -> ProviderConfig | None:
        """How to reach a provider, by any of its names; ``None`` if nothing is configured of it."""
        canonical = canonical_provider(name) or name
        return next((provider for provider in self.providers if provider.name == canonical), None)

    @property
    def default_provider_config(self) -> ProviderConfig | None:
        """The provider that was named the default, else the first that is set up."""
        if self.default_provider is not None:
            return self.provider_config(self.default_provider)
        return next((provider for provider in self.providers if provider.is_set_up), None)

    def memory_budget_bytes(self, total_bytes: int) -> int:
        """What local models may take together where there are ``total_bytes`` of memory."""
        try:
            return budget_bytes(self.memory_budget, total_bytes)
        except ValueError as error:
            raise ConfigurationError(f"memory_budget {error}.") from None

    @property
    def catalog_dir(self) -> Path:
        """Where a fetched catalogue lies, beside the one that came with Noa."""
        return self.home / "catalog"

    @property
    def models_dir(self) -> Path:
        """Where Noa puts weights."""
        return self.home / "models"

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Every folder that is searched for weights, Noa's own first."""
        return tuple(dict.fromkeys((self.models_dir, *self.extra_model_folders)))

    @property
    def state_path(self) -> Path:
        """The database of what must survive.

        The path asked for; ``x.json`` has its database beside it as ``x.db``, and a path without a suffix is a folder.
        """
        path = self.persistence_path
        if path is None:
            return self.home / "state.db"
        if path.suffix.lower() == ".json":
            return path.with_suffix(".db")
        return path if path.suffix else path / "state.db"

    @property
    def usage_path(self) -> Path:
        """The database of what was measured, beside that of the state and named after it."""
        state = self.state_path
        return state.with_name("usage.db" if state.name == "state.db" else f"{state.stem}-usage.db")

    @property
    def snapshot_path(self) -> Path | None:
        """The readable copy of the state that a path ending in ``.json`` asks for."""
        path = self.persistence_path
        return path if path is not None and path.suffix.lower() == ".json" else None

    @property
    def url(self) -> str:
        """Where clients find the server: where they were told, else where this configuration listens."""
        if self.server_url is not None:
            return self.server_url
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104  # a wildcard is no address
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


#: The name the quick start knows it by.
ConfigurationManager = Configuration


def _load(sources: Sources) -> dict[str, Any]:
    """The fields of a ``Configuration``."""
    folder, variables, path, tree = sources
    settings = checked(tree)
    home = variables.value("NOA_HOME")
    hf_home = variables.value("HF_HOME")
    values = {
        **_plain_fields(settings),
        "home": absolute(home, folder) if home is not None else None,
        "config_path": path,
        "providers": _providers(settings),
        "fallbacks": settings.fallbacks,
        "explore": settings.selection.explore,
        "policies": settings.selection.policies,
        "known_models": known_models(tree),
        "server_url": _server_url(variables),
        "hf_home": absolute(hf_home, folder) if hf_home is not None else None,
    }
    if settings.state.path is not None:
        values["persistence_path"] = sources.located(settings.state.path, "$.state.path")
    if settings.models.folders is not None:
        values["extra_model_folders"] = tuple(
            sources.located(text, f"$.models.folders[{index}]") for index, text in enumerate(settings.models.folders)
        )
    if settings.engine.llama_server is not None:
        program = settings.engine.llama_server
        found = shutil.which(program, path=variables.value("PATH")) if Path(program).name == program else None
        engine = Path(found) if found else sources.located(program, "$.engine.llamaServer")
        if not (engine.is_file() and os.access(engine, os.X_OK)):
            raise tree.origin("$.engine.llamaServer").error(f"must be a program that can be run; {engine} is none")
        values["llama_server"] = engine
    return {name: value for name, value in values.items() if value is not None}


def _plain_fields(settings: Settings) -> dict[str, Any]:
    """The settings that mean here what they mean in the file."""
    default = settings.default_provider
    return {
        "default_provider": (canonical_provider(default) or default) if default is not None else None,
        "max_loaded_models": settings.models.max_loaded,
        "memory_budget": settings.models.memory_budget,
        "auto_load_default": settings.models.auto_load_default,
        "enable_performance_tracking": settings.models.performance_tracking,
        "enable_auto_switch": settings.models.auto_switch,
        "auto_switch_threshold": settings.models.auto_switch_threshold,
        "host": settings.server.host,
        "port": settings.server.port,
        "api_key": settings.server.api_key,
        "allowed_hosts": settings.server.allowed_hosts,
        "allowed_origins": settings.server.allowed_origins,
        "max_body_bytes": settings.server.max_body_bytes,
        "otlp_endpoint": settings.telemetry.otlp_endpoint,
        "context_size": settings.engine.context_size,
        "slots": settings.engine.slots,
        "threads": settings.engine.threads,
        "cache_type": settings.engine.cache_type,
    }


def _providers(settings: Settings) -> tuple[ProviderConfig, ...]:
    providers = [ProviderConfig.from_settings(provider) for provider in settings.providers]
    if all(provider.name != "llama.cpp" for provider in providers):
        providers.append(ProviderConfig(type="llama.cpp"))
    return tuple(providers)


def _server_url(variables: Variables) -> str | None:
    found = variables.find("NOA_URL")
    if found is None:
        return None
    try:
        return checked_base_url(found.value)
    except ValueError as error:
        raise ConfigurationError(f"{found.name} {error}.") from None
