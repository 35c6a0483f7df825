"""What a ``noa.yaml`` says, and how what is wrong in it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from configured import CANARY, configure, key_of, refusal
from noa.config import Configuration, ConfigurationManager, ProviderConfig, Secret, json_schema

REPOSITORY = Path(__file__).parents[2]


class TestFile:
    def test_the_example_sets_what_it_says(self, tmp_path: Path) -> None:
        environ = {"NOA_HOME": str(tmp_path), "OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"}
        configuration = Configuration.from_file(REPOSITORY / "examples" / "noa.yaml", environ=environ, cwd=tmp_path)
        assert [provider.name for provider in configuration.providers] == ["openai", "claude", "vllm", "llama.cpp"]
        assert key_of(configuration, "openai") == "a"
        changed = {"home", "config_path", "providers", "default_provider"}
        untouched = Configuration()
        for field in configuration.__struct_fields__:
            if field not in changed:
                assert getattr(configuration, field) == getattr(untouched, field), (
                    f"the example's {field} is no default"
                )

    def test_the_quick_starts_json_is_a_file_too(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(
            '{"providers": [{"type": "openai", "apiKey": "${OPENAI_API_KEY}", "baseURL": "https://x.example/v1",\n'
            '  "defaultModel": "gpt-4", "timeout": 30000, "maxRetries": 3}], "defaultProvider": "openai"}\n'
        )
        environ = {"NOA_HOME": str(tmp_path), "OPENAI_API_KEY": CANARY}
        default = ConfigurationManager.from_file(tmp_path / "config.json", environ=environ, cwd=tmp_path)
        assert default.default_provider_config == ProviderConfig(
            type="openai",
            api_key=Secret(CANARY),
            base_url="https://x.example/v1",
            default_model="gpt-4",
            timeout_s=30,
            max_retries=3,
        )

    def test_references_are_filled_in_from_every_source_of_variables(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("from-file")
        file = "providers:\n  - {type: openai, apiKey: '${env.A}-$${x}'}\n  - {type: claude, apiKey: '${B}'}\n"
        configuration = configure(tmp_path, file, "A=dotenv", B_FILE="key")
        assert key_of(configuration, "openai") == "dotenv-${x}"
        assert key_of(configuration, "claude") == "from-file"

    def test_a_key_of_digits_from_a_variable_stays_text(self, tmp_path: Path) -> None:
        file = "providers:\n  - type: openai\n    apiKey: ${env.K}\nserver:\n  port: ${env.P}\n"
        configuration = configure(tmp_path, file, K="0123", P="77")
        assert key_of(configuration, "openai") == "0123"
        assert configuration.port == 77

    @pytest.mark.parametrize("text", ["", "# nothing\n", "null", "providers:\nserver:\n  port:\n"])
    def test_what_is_left_empty_is_not_set(self, tmp_path: Path, text: str) -> None:
        assert configure(tmp_path, text) == configure(tmp_path, "")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("\nmodles:\n", "noa.yaml:2: unknown field “modles”; did you mean “models”?"),
            ("models:\n\n  max_loaded: 3\n", "noa.yaml:3: unknown field “max_loaded”; did you mean “maxLoaded”?"),
            ("server:\n  # x\n  zzz: 1\n", "noa.yaml:3: unknown field “zzz”; known are allowedHosts, allowed"),
            (
                "providers:\n- type: openai\n  baseUrl: x\n",
                "noa.yaml:3: unknown field “baseUrl”; did you mean “baseURL”?",
            ),
            ("server:\n  port: abc\n", "noa.yaml:2: “port” must be a whole number of at least 0 and at most 65535."),
            ("server:\n  port:\n    abc\n", "noa.yaml:2: “port” must be a whole number"),
            ("server:\n  port: 65536\n", "noa.yaml:2: “port” must be a whole number"),
            ("models:\n  maxLoaded: 0\n", "noa.yaml:2: “maxLoaded” must be a whole number of at least 1"),
            ("models:\n  autoSwitchThreshold: .nan\n", "noa.yaml:2: “autoSwitchThreshold” must be a number"),
            ("models:\n  autoLoadDefault: maybe\n", "noa.yaml:2: “autoLoadDefault” must be true or false."),
            ("models:\n  folders: x\n", "noa.yaml:2: “folders” must be a list."),
            ("models:\n  folders:\n    - a\n    - 1\n", "noa.yaml:4: entry 2 of “folders” must be text"),
            ("server: 3\n", "noa.yaml:1: “server” must be a group of fields."),
            ("- a\n", "noa.yaml:1: the file must be a group of fields"),
            ("providers:\n  - name: x\n", "noa.yaml:2: entry 1 of “providers” needs the field “type”."),
            ("providers:\n  - type: a:b\n", "noa.yaml:2: “type” must be a provider's name"),
            ("providers:\n  - type: openai\n    name: auto\n", "noa.yaml:3: “name” must be a provider's name"),
            ("providers:\n  - type: claude\n  - type: anthropic\n", "noa.yaml:3: entry 2 of “providers” is a second"),
            (
                "defaultProvider: opnai\n",
                "noa.yaml:1: “defaultProvider” names the unknown provider “opnai”; did you mean",
            ),
            ("fallbacks:\n  prod: []\n", "noa.yaml:1: “fallbacks” must be a list that is not empty."),
            ("fallbacks:\n  prod:\n    - a:b\n    - a:b\n", "noa.yaml:2: “prod” must list other models, each once."),
            ("fallbacks:\n  openai:gpt-4.1: [x, openai:gpt-4.1]\n", "noa.yaml:2: “openai:gpt-4.1” must list other"),
            ("server:\n  port: 1\n  port: 2\n", "noa.yaml:3: “port” is given twice; the first is on line 2."),
            ("server:\n\n  port: ${env.GONE}\n", "noa.yaml:3: the variable GONE is not set"),
            ("server:\n  port: ${env.}\n", "noa.yaml:2: “${” must be followed by a variable"),
            ("server:\n  port: !!int x\n", "noa.yaml:2: this is not the number it looks like."),
            ("server: [\n", "noa.yaml:2: this is not valid YAML"),
            ("a: 1\nb: \x01\n", "noa.yaml:2: this is not valid YAML"),
            ("a: 1\n---\nb: 2\n", "noa.yaml:2: this is not valid YAML"),
            ("x: !!python/object/apply:os.getcwd []\n", "noa.yaml:1: the tag tag:yaml.org,2002:python/object/apply"),
            ("models: !!seq {a: b}\n", "noa.yaml:1: the tag"),
            ("? [a]\n: b\n", "noa.yaml:1: a field's name must be text."),
            ("[" * 5_000, "noa.yaml is nested too deeply."),
            ("a: &a [*a]\n", "noa.yaml:1: the file is too large or nested too deeply"),
            ("`] - at `$: 1\n", "noa.yaml:1: this is not valid YAML"),
            ("'] - at `$x': 1\n", "unknown field"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, tmp_path: Path, text: str, message: str) -> None:
        assert message in refusal(tmp_path, text)

    def test_aliases_that_multiply_are_refused(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
        assert "too large or nested too deeply" in refusal(tmp_path, "\n".join(lines))

    def test_a_file_elsewhere_is_named_in_full(self, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "noa.yaml").write_text("\nx: 1\n")
        assert refusal(tmp_path, NOA_CONFIG="etc/noa.yaml").startswith(f"{tmp_path}/etc/noa.yaml:2: unknown field “x”")

    def test_a_file_that_is_no_text_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "noa.yaml").write_bytes(b"a: 1\n\xff\xff")
        assert refusal(tmp_path) == "noa.yaml:2: the file is not UTF-8 text."
        (tmp_path / "noa.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
        assert "so it is no configuration" in refusal(tmp_path)

    def test_the_published_schema_is_current(self) -> None:
        published = (REPOSITORY / "docs" / "noa.schema.json").read_bytes()
        assert published == json_schema(), "run: python -m noa.config > docs/noa.schema.json"
