"""``noa config`` and what is in effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from click.testing import Result

from noa.config import Configuration, Sources, in_effect
from noa.config.in_effect import ATTRIBUTES
from noa.config.settings import Settings
from scripted_server import ScriptedServer

Noa = Callable[..., Result]
CANARY = "sk-canary-0123456789"
FILE = f"""\
server:
  port: 4000
  apiKey: {CANARY}
selection:
  policies:
    cheap: {{prefer: cost}}
models:
  "openai:gpt-4o": {{price: {{input: 2.5}}}}
providers:
  - type: openai
    name: mine
    baseURL: http://box.lan:8000/v1
    timeout: 60000
"""


def settings(folder: Path, text: str = "", **environ: str) -> dict[str, tuple[Any, str]]:
    (folder / "noa.yaml").write_text(text)
    sources = Sources.gather("AI_", environ={"NOA_HOME": str(folder / "home"), **environ}, cwd=folder)
    return {each.setting: (each.value, each.source) for each in in_effect(Configuration.from_sources(sources), sources)}


def test_each_value_is_shown_with_where_it_comes_from(tmp_path: Path) -> None:
    found = settings(tmp_path, FILE, PORT="5000", OPENAI_API_KEY=CANARY, NOA_ALLOWED_ORIGINS="https://a.example")
    assert found["server.port"] == (5000, "PORT")
    assert found["server.apiKey"] == ("(set)", "noa.yaml:3")
    assert found["server.allowedOrigins"] == (("https://a.example",), "NOA_ALLOWED_ORIGINS")
    assert found["server.host"] == ("localhost", "default")
    assert found["home"] == (str(tmp_path / "home"), "NOA_HOME")
    assert found["selection.policies"][1] == "noa.yaml:5"
    assert found["models.openai:gpt-4o"][1] == "noa.yaml:8"
    assert found["providers.mine.baseURL"] == ("http://box.lan:8000/v1", "noa.yaml:12")
    assert found["providers.mine.timeout"] == (60, "noa.yaml:13")
    assert found["providers.openai.apiKey"] == ("(set)", "OPENAI_API_KEY")
    assert CANARY not in repr(found)


def test_no_setting_is_left_out() -> None:
    named: set[str] = set()
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            named |= {f"{field.encode_name}.{inner.encode_name}" for inner in msgspec.structs.fields(field.type)}
        else:
            default = getattr(field.type, "__origin__", None)
            if isinstance(default, type) and issubclass(default, msgspec.Struct):
                named |= {f"{field.encode_name}.{inner.encode_name}" for inner in msgspec.structs.fields(default)}
            else:
                named.add(field.encode_name)
    assert set(ATTRIBUTES) == named - {"providers"}


def test_the_command_shows_it_and_no_key(noa: Noa, tmp_path: Path) -> None:
    (tmp_path / "noa.yaml").write_text(FILE)
    shown = noa("config", PORT=None)
    assert shown.exit_code == 0, shown.stderr
    assert "noa.yaml:2" in shown.stdout
    assert "Read " in shown.stderr
    as_json = noa("config", "--json", OPENAI_API_KEY=CANARY)
    answer = msgspec.json.decode(as_json.stdout)
    assert answer["file"] == str(tmp_path / "noa.yaml")
    assert CANARY not in shown.output + as_json.output


def test_a_file_is_checked_and_what_is_wrong_named_with_its_line(noa: Noa, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(FILE)
    (tmp_path / "bad.yaml").write_text("server:\n  port: x\n")
    (tmp_path / "origin.yaml").write_text("server:\n  allowedOrigins: ['*']\n")
    good = noa("config", "check", "good.yaml")
    assert (good.exit_code, good.stdout) == (0, "good.yaml is right; its providers are mine, llama.cpp.\n")
    bad = noa("config", "check", "bad.yaml")
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert "bad.yaml:2" in bad.stderr
    assert "origin.yaml:2" in noa("config", "check", "origin.yaml").stderr
    assert noa("config", "check", "none.yaml").exit_code == 2


def test_a_reload_says_what_it_changed(server: ScriptedServer, noa: Noa) -> None:
    lists = ("providersAdded", "providersChanged", "providersRemoved", "settings", "needsRestart")
    nothing: dict[str, object] = {"file": None, **{name: [] for name in lists}}
    server.answer("POST", "/api/v1/config/reload", nothing)
    unchanged = noa("config", "reload")
    assert unchanged.stdout == "There is no noa.yaml; the variables were read.\nNothing has changed.\n"
    some = {**nothing, "file": "/x/noa.yaml", "providersAdded": ["groq", "work"], "needsRestart": ["server.port"]}
    server.answer("POST", "/api/v1/config/reload", some)
    changed = noa("config", "reload")
    assert changed.stdout.splitlines() == [
        "Read /x/noa.yaml.",
        "Providers added: groq, work",
        "Takes effect at the next start: server.port",
    ]
    assert msgspec.json.decode(noa("config", "reload", "--json").stdout) == some
    server.refuse("POST", "/api/v1/config/reload", 400, "CONFIGURATION_ERROR", "noa.yaml:2: unknown field “x”.")
    refused = noa("config", "reload")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "noa.yaml:2" in refused.stderr


def test_the_schema_is_that_of_the_documentation(noa: Noa) -> None:
    published = Path(__file__).parents[3] / "docs" / "noa.schema.json"
    assert noa("config", "schema").stdout == published.read_text()
