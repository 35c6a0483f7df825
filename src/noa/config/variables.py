"""The environment: which variable sets what, which wins, and laying them over the settings of the file.

A variable's forms, the first found wins: ``NOA_X``, the prefixed ``AI_X``, the bare ``X``; each also as ``X_FILE``, a
file that holds the value. The process's environment comes before ``.env``. An empty variable counts as not set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dotenv

from noa.config.settings import Origin, Tree
from noa.errors import ConfigurationError
from noa.presets import PRESETS, ProviderPreset, canonical_provider

OWN_PREFIX = "NOA_"
#: A value in a file is a key or a path; nothing sensible is longer.
MAX_VALUE_BYTES = 64 * 1024


class Found(NamedTuple):
    """A variable's value and the name it was found under."""

    value: str
    name: str


class Variables:
    """Looks variables up. ``layers`` are searched in order; each has the words that name it after a variable."""

    def __init__(self, layers: tuple[tuple[str, Mapping[str, str]], ...], prefix: str, folder: Path) -> None:
        self._layers = layers
        self._prefixes = tuple(dict.fromkeys((OWN_PREFIX, prefix))) if prefix else (OWN_PREFIX,)
        self._folder = folder

    @classmethod
    def gather(cls, environ: Mapping[str, str], prefix: str, folder: Path) -> Variables:
        """The given environment, then ``.env`` of the folder; relative paths are meant from there."""
        return cls((("", environ), (" in .env", _read_dotenv(folder / ".env"))), prefix, folder)

    def find(self, *names: str) -> Found | None:
        """The first of the names that is set."""
        for words, layer in self._layers:
            for name in names:
                if value := layer.get(name, "").strip():
                    return Found(value, name + words)
                if file := layer.get(f"{name}_FILE", "").strip():
                    subject = f"{name}_FILE{words}"
                    if value := self._read(file, subject):
                        return Found(value, subject)
        return None

    def value(self, *names: str) -> str | None:
        """The value alone."""
        found = self.find(*names)
        return found.value if found is not None else None

    def forms(self, *, bare: tuple[str, ...] = (), stems: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The names to look for, best first. ``stems`` exist only with a prefix, ``bare`` ones also without."""
        return (*(prefix + name for prefix in self._prefixes for name in (*stems, *bare)), *bare)

    def _read(self, file: str, subject: str) -> str:
        # The path is not repeated in messages, because some will put the key itself where its file should be named.
        path = self._folder / os.path.expanduser(file)  # noqa: PTH111  # pathlib's raises for users that do not exist
        try:
            if not path.is_file():
                raise ConfigurationError(f"{subject} names a file that does not exist.")
            with path.open("rb") as stream:
                content = stream.read(MAX_VALUE_BYTES + 1)
            if len(content) > MAX_VALUE_BYTES:
                raise ConfigurationError(f"{subject} names a file that is too large to hold a value.")
            return content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ConfigurationError(f"{subject} names a file that is not text.") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigurationError(f"{subject} names a file that cannot be read: {reason}.") from error


def _read_dotenv(path: Path) -> Mapping[str, str]:
    try:
        if not path.is_file():
            return {}
        # Interpolation would read the process's environment, and eat the “$” of keys.
        values = dotenv.dotenv_values(path, interpolate=False)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from error
    return {name: value for name, value in values.items() if value}


def _as_is(value: str) -> object:
    return value


def _flag(value: str) -> object:
    """True and false in the words people use; other words are left for the check to refuse."""
    return {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }.get(value.lower(), value)


def _listed(value: str) -> object:
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def _folders(value: str) -> object:
    return [entry for entry in value.split(os.pathsep) if entry]


class Row(NamedTuple):
    """One setting: where it stands in the file, and the names of its variable (see ``Variables.forms``)."""

    path: str
    own: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    read: Callable[[str], object] = _as_is


#: Every setting that has a variable, but for those of providers.
ROWS = (
    Row("defaultProvider", stems=("DEFAULT_PROVIDER",)),
    Row("models.maxLoaded", bare=("MODEL_MANAGER_MAX_LOADED",)),
    Row("models.memoryBudget", own=("NOA_MEMORY_BUDGET",)),
    Row("models.autoLoadDefault", bare=("MODEL_MANAGER_AUTO_LOAD_DEFAULT",), read=_flag),
    Row("models.performanceTracking", bare=("MODEL_MANAGER_ENABLE_PERFORMANCE_TRACKING",), read=_flag),
    Row("models.folders", own=("NOA_MODELS",), read=_folders),
    Row("state.path", bare=("MODEL_MANAGER_PERSISTENCE_PATH",)),
    Row("server.host", own=("NOA_HOST",)),
    Row("server.port", own=("NOA_PORT", "PORT")),
    Row("server.apiKey", own=("NOA_API_KEY",)),
    Row("server.allowedHosts", own=("NOA_ALLOWED_HOSTS",), read=_listed),
    Row("server.allowedOrigins", own=("NOA_ALLOWED_ORIGINS",), read=_listed),
    Row("telemetry.otlpEndpoint", own=("NOA_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")),
    Row("engine.llamaServer", own=("NOA_LLAMA_SERVER",)),
)

#: What can be set of a provider: the field in the file, and the end of its prefixed variable.
PROVIDER_FIELDS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("apiKey", "API_KEY", _as_is),
    ("baseURL", "BASE_URL", _as_is),
    ("defaultModel", "DEFAULT_MODEL", _as_is),
    ("models", "MODELS", _listed),
    ("timeout", "TIMEOUT", _as_is),
    ("maxRetries", "MAX_RETRIES", _as_is),
)


def lay_over(tree: Tree, variables: Variables) -> Tree:
    """The tree with every variable that is set in place of what the file says. The file's tree must be checked."""
    data = {**tree.data, "providers": [dict(provider) for provider in tree.data.get("providers") or ()]}
    origins = dict(tree.origins)
    for row in ROWS:
        found = variables.find(*row.own, *variables.forms(bare=row.bare, stems=row.stems))
        if found is not None:
            section, _, field = row.path.rpartition(".")
            if section:
                data[section] = {**(data.get(section) or {}), field: row.read(found.value)}
            else:
                data[field] = row.read(found.value)
            _place(origins, f"$.{row.path}", found)
    for preset in PRESETS:
        _lay_over_provider(data["providers"], origins, preset, variables)
    return Tree(data, origins)


def _lay_over_provider(
    providers: list[dict[str, Any]], origins: dict[str, Origin], preset: ProviderPreset, variables: Variables
) -> None:
    bare = {"apiKey": preset.key_variables, "baseURL": preset.base_url_variables}
    found: dict[str, Found] = {}
    read: dict[str, object] = {}
    for field, end, reader in PROVIDER_FIELDS:
        stems = tuple(f"{stem}_{end}" for stem in preset.variable_stems)
        value = variables.find(*variables.forms(bare=bare.get(field, ()), stems=stems))
        if value is not None:
            found[field], read[field] = value, reader(value.value)
    if not found:
        return
    index = next((i for i, provider in enumerate(providers) if _is(provider, preset)), len(providers))
    if index == len(providers):
        providers.append({"type": preset.name})
        origins[f"$.providers[{index}]"] = Origin("", f"The provider {preset.name}")
    for field, value in found.items():
        providers[index][field] = read[field]
        _place(origins, f"$.providers[{index}].{field}", value)


def _is(provider: Mapping[str, Any], preset: ProviderPreset) -> bool:
    return canonical_provider(provider.get("name") or provider["type"]) == preset.name


def _place(origins: dict[str, Origin], path: str, found: Found) -> None:
    """The value at ``path`` now comes from a variable, and so does everything that stood below it."""
    for below in [known for known in origins if known.startswith((f"{path}.", f"{path}["))]:
        del origins[below]
    origins[path] = Origin("", found.name)
