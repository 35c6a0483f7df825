"""Settings: what wins, what is refused and how it is said, and that no key is ever shown."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path

import msgspec
import pytest

from configured import CANARY, configure, key_of, refusal
from noa.config import Configuration, ProviderConfig, Secret, points_at
from noa.errors import ConfigurationError
from noa.models import ProviderType

REPOSITORY = Path(__file__).parents[2]


class TestSecret:
    def test_it_is_shown_nowhere(self) -> None:
        secret = Secret(CANARY)
        config = Configuration(providers=(ProviderConfig(type="openai", api_key=secret),), api_key=secret)
        shown = [str(secret), repr(secret), f"{secret}", f"{secret:>40}", repr([secret]), repr(config), str(config)]
        shown.append(msgspec.json.encode(config, enc_hook=str).decode())
        shown.append(json.dumps({"key": secret}, default=str))
        assert not [text for text in shown if CANARY in text]

    def test_it_cannot_be_encoded_pickled_or_copied(self) -> None:
        secret = Secret(CANARY)
        with pytest.raises(TypeError):
            msgspec.json.encode(secret)
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                attempt(secret)

    def test_it_equals_only_a_secret_of_the_same_text(self) -> None:
        assert Secret("ä") == Secret("ä")
        assert Secret("a") != Secret("b")
        assert Secret("a") != "a"

    def test_a_key_given_as_text_becomes_one(self) -> None:
        config = ProviderConfig(type="openai", api_key=CANARY)  # type: ignore[arg-type]  # what people will write
        assert CANARY not in repr(config)
        assert config.api_key == Secret(CANARY)


class TestPrecedence:
    def test_each_source_gives_way_to_the_one_before_it(self, tmp_path: Path) -> None:
        sources: dict[str, str] = {
            "AI_OPENAI_API_KEY": "prefixed",
            "OPENAI_API_KEY": "bare",
        }
        file = "providers:\n  - type: openai\n    apiKey: file\n"
        dotenv = "OPENAI_API_KEY=dotenv-bare\nAI_OPENAI_API_KEY=dotenv-prefixed\n"
        assert key_of(configure(tmp_path, file, dotenv, **sources), "openai") == "prefixed"
        del sources["AI_OPENAI_API_KEY"]
        assert key_of(configure(tmp_path, file, dotenv, **sources), "openai") == "bare"
        assert key_of(configure(tmp_path, file, dotenv), "openai") == "dotenv-prefixed"
        assert key_of(configure(tmp_path, file, "OPENAI_API_KEY=dotenv-bare"), "openai") == "dotenv-bare"
        assert key_of(configure(tmp_path, file, ""), "openai") == "file"
        assert configure(tmp_path, "", "").provider_config("openai") is None

    def test_arguments_come_before_everything_and_none_is_no_argument(self, tmp_path: Path) -> None:
        configuration = configure(tmp_path, NOA_PORT="4000", NOA_HOST="127.0.0.1")
        assert configuration.with_arguments(port=5000, host=None).port == 5000
        assert configuration.with_arguments(port=5000, host=None).host == "127.0.0.1"
        with pytest.raises(ConfigurationError, match="port must be"):
            configuration.with_arguments(port=70000)

    def test_an_empty_variable_counts_as_not_set(self, tmp_path: Path) -> None:
        configuration = configure(tmp_path, AI_OPENAI_API_KEY="", OPENAI_API_KEY="bare", NOA_PORT=" ")
        assert key_of(configuration, "openai") == "bare"
        assert configuration.port == 3001

    def test_the_prefix_is_the_callers_and_noa_always_works(self, tmp_path: Path) -> None:
        environ = {"NOA_HOME": str(tmp_path), "X_OPENAI_API_KEY": "mine", "AI_OPENAI_API_KEY": "other"}
        assert key_of(Configuration.from_environment("X_", environ=environ, cwd=tmp_path), "openai") == "mine"
        environ["NOA_OPENAI_API_KEY"] = "noa"
        assert key_of(Configuration.from_environment("X_", environ=environ, cwd=tmp_path), "openai") == "noa"

    @pytest.mark.parametrize(
        "name", ["MODEL_MANAGER_MAX_LOADED", "AI_MODEL_MANAGER_MAX_LOADED", "NOA_MODEL_MANAGER_MAX_LOADED"]
    )
    def test_manager_settings_have_prefixed_forms(self, tmp_path: Path, name: str) -> None:
        assert configure(tmp_path, **{name: "3"}).max_loaded_models == 3

    def test_the_environment_of_the_process_is_read_and_left_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text("MODEL_MANAGER_MAX_LOADED=7\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NOA_HOME", str(tmp_path / "home"))
        before = dict(os.environ)
        configuration = Configuration.from_environment()
        assert configuration.home == tmp_path / "home"
        assert configuration.max_loaded_models == 7
        assert dict(os.environ) == before

    def test_the_quick_starts_env_file_works(self, tmp_path: Path) -> None:
        dotenv = (
            "OPENAI_API_KEY=sk-a\nCLAUDE_API_KEY=sk-b\nLLAMA_CPP_BASE_URL=http://localhost:8080\n"
            "MODEL_MANAGER_MAX_LOADED=5\nMODEL_MANAGER_PERSISTENCE_PATH=./data/model-manager-state.json\n"
        )
        configuration = configure(tmp_path, dotenv=dotenv)
        assert key_of(configuration, ProviderType.OPENAI) == "sk-a"
        assert key_of(configuration, ProviderType.CLAUDE) == "sk-b"
        llama = configuration.provider_config(ProviderType.LLAMA_CPP)
        assert llama is not None
        assert llama.base_url == "http://localhost:8080"
        assert configuration.max_loaded_models == 5
        assert configuration.state_path == tmp_path / "data" / "model-manager-state.db"


class TestSecretFiles:
    def test_a_variable_may_name_a_file_with_its_value(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{CANARY}\n")
        assert key_of(configure(tmp_path, ANTHROPIC_API_KEY_FILE=str(tmp_path / "key")), "claude") == CANARY
        assert key_of(configure(tmp_path, ANTHROPIC_API_KEY_FILE="key"), "anthropic") == CANARY

    def test_a_variable_comes_before_its_file(self, tmp_path: Path) -> None:
        assert key_of(configure(tmp_path, OPENAI_API_KEY="direct", OPENAI_API_KEY_FILE="absent"), "openai") == "direct"

    @pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 100_000])
    def test_a_file_that_is_none_is_refused_by_the_variables_name(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        assert refusal(tmp_path, OPENAI_API_KEY_FILE="key").startswith("OPENAI_API_KEY_FILE names a file")

    @pytest.mark.parametrize("mistake", [CANARY, CANARY * 100, f"~{CANARY}"])
    def test_a_key_where_its_file_should_be_named_is_not_repeated(self, tmp_path: Path, mistake: str) -> None:
        message = refusal(tmp_path, OPENAI_API_KEY_FILE=mistake)
        assert message.startswith("OPENAI_API_KEY_FILE names a file")
        assert CANARY not in message


class TestProviders:
    def test_anthropics_own_variable_comes_before_the_quick_starts(self, tmp_path: Path) -> None:
        configuration = configure(tmp_path, CLAUDE_API_KEY="low", ANTHROPIC_API_KEY="high")
        assert key_of(configuration, "anthropic") == "high"

    def test_every_field_has_a_prefixed_variable(self, tmp_path: Path) -> None:
        configuration = configure(
            tmp_path,
            AI_CLAUDE_API_KEY="k",
            AI_CLAUDE_BASE_URL="https://proxy.example/anthropic/v1/",
            AI_CLAUDE_DEFAULT_MODEL="m",
            AI_CLAUDE_TIMEOUT="30000",
            AI_CLAUDE_MAX_RETRIES="4",
            AI_DEFAULT_PROVIDER="anthropic",
        )
        claude = configuration.default_provider_config
        assert claude == ProviderConfig(
            type="claude",
            api_key=Secret("k"),
            base_url="https://proxy.example/anthropic",
            default_model="m",
            timeout_s=30,
            max_retries=4,
        )
        assert claude.dialect == "anthropic"

    @pytest.mark.parametrize(("given", "seconds"), [("30000", 30), ("1000", 1), ("999", 999), ("90", 90), ("0.5", 0.5)])
    def test_a_timeout_is_in_milliseconds_from_a_thousand_on(self, tmp_path: Path, given: str, seconds: float) -> None:
        openai = configure(tmp_path, AI_OPENAI_TIMEOUT=given).provider_config("openai")
        assert openai is not None
        assert openai.timeout_s == seconds

    def test_a_provider_is_set_up_by_a_key_or_an_address_of_its_own(self) -> None:
        assert not ProviderConfig(type="openai").is_set_up
        assert not ProviderConfig(type="openai", base_url="https://api.openai.com/v1/").is_set_up
        assert ProviderConfig(type="openai", api_key=Secret("k")).is_set_up
        assert ProviderConfig(type="openai", base_url="http://localhost:8000").is_set_up
        assert ProviderConfig(type="llama.cpp").is_set_up
        assert ProviderConfig(type="registered-elsewhere").is_set_up

    def test_the_default_is_the_first_that_is_set_up(self, tmp_path: Path) -> None:
        def default(**environ: str) -> str | None:
            found = configure(tmp_path, **environ).default_provider_config
            return found.name if found is not None else None

        assert default() == "llama.cpp"
        assert default(ANTHROPIC_API_KEY="k") == "claude"
        assert default(ANTHROPIC_API_KEY="k", OPENAI_API_KEY="k") == "openai"
        assert default(ANTHROPIC_API_KEY="k", AI_OPENAI_DEFAULT_MODEL="gpt-4") == "claude"
        assert default(AI_DEFAULT_PROVIDER="openai") is None

    def test_a_known_service_appears_when_its_key_is_set(self, tmp_path: Path) -> None:
        groq = configure(tmp_path, GROQ_API_KEY="k").provider_config("groq")
        assert groq == ProviderConfig(type="groq", api_key=Secret("k"))
        assert (groq.type, groq.name) == ("openai", "groq")
        assert groq.base_url == "https://api.groq.com/openai/v1"
        assert groq.key_variable == "GROQ_API_KEY"

    def test_a_name_of_ones_own_stands_beside_the_known_one(self, tmp_path: Path) -> None:
        file = "providers:\n  - {type: openai, name: mine, baseURL: 'http://localhost:8000/v1'}\n"
        configuration = configure(tmp_path, file, OPENAI_API_KEY="k")
        assert [provider.name for provider in configuration.providers] == ["mine", "openai", "llama.cpp"]
        mine = configuration.provider_config("mine")
        assert mine is not None
        assert mine.api_key is None
        assert mine.key_variable is None

    def test_a_known_name_says_more_than_its_type(self) -> None:
        groq = ProviderConfig(type="openai", name="groq")
        assert groq == ProviderConfig(type="groq")
        assert not groq.is_set_up

    def test_a_changed_copy_stays_what_it_was(self) -> None:
        groq = ProviderConfig(type="groq", api_key=Secret("k"))
        assert msgspec.structs.replace(groq, max_retries=1) == ProviderConfig(
            type="groq", api_key=Secret("k"), max_retries=1
        )

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:8080",
            "ftp://x",
            "http://",
            "http://x:99999",
            "http://x:0",
            "http://[::1",
            "http://x?y=1",
            "http://a b",
        ],
    )
    def test_a_base_url_that_is_none_is_refused_by_the_variables_name(self, tmp_path: Path, url: str) -> None:
        assert refusal(tmp_path, OPENAI_BASE_URL=url).startswith("OPENAI_BASE_URL must be a URL")
        with pytest.raises(ConfigurationError):
            ProviderConfig(type="openai", base_url=url)

    def test_a_password_in_a_url_is_refused_and_not_repeated(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, LLAMA_CPP_BASE_URL=f"http://me:{CANARY}@localhost")
        assert "without a user name" in message
        assert CANARY not in message


class TestPaths:
    def test_home_moves_everything(self, tmp_path: Path) -> None:
        configuration = configure(tmp_path, NOA_HOME="there", NOA_MODELS=os.pathsep.join(["/a", "b"]))
        home = tmp_path / "there"
        assert configuration.home == home
        assert configuration.model_folders == (home / "models", Path("/a"), tmp_path / "b")
        assert configuration.state_path == home / "state.db"
        assert configuration.usage_path == home / "usage.db"
        assert configuration.snapshot_path is None

    @pytest.mark.parametrize(
        ("asked", "state", "usage", "snapshot"),
        [
            ("data/s.json", "data/s.db", "data/s-usage.db", "data/s.json"),
            ("data/s.sqlite", "data/s.sqlite", "data/s-usage.db", None),
            ("data", "data/state.db", "data/usage.db", None),
        ],
    )
    def test_a_persistence_path_gets_what_it_asks_for(
        self, tmp_path: Path, asked: str, state: str, usage: str, snapshot: str | None
    ) -> None:
        configuration = configure(tmp_path, MODEL_MANAGER_PERSISTENCE_PATH=asked)
        assert configuration.state_path == tmp_path / state
        assert configuration.usage_path == tmp_path / usage
        assert configuration.snapshot_path == (tmp_path / snapshot if snapshot is not None else None)

    def test_paths_of_the_file_are_meant_from_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "my.yaml").write_text("state: {path: s.db}\nmodels:\n  folders: [m]\n")
        environ = {"NOA_HOME": str(tmp_path)}
        configuration = Configuration.from_file("etc/my.yaml", environ=environ, cwd=tmp_path)
        assert configuration.persistence_path == tmp_path / "etc" / "s.db"
        assert configuration.extra_model_folders == (tmp_path / "etc" / "m",)
        environ["NOA_MODELS"] = "m"
        moved = Configuration.from_file("etc/my.yaml", environ=environ, cwd=tmp_path)
        assert moved.extra_model_folders == (tmp_path / "m",)

    def test_an_engine_that_cannot_be_run_is_refused_by_its_setting(self, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        plain.touch()
        for engine in ("/does/not/exist", "not-on-the-path", str(tmp_path), str(plain)):
            message = refusal(tmp_path, NOA_LLAMA_SERVER=engine)
            assert message.startswith("NOA_LLAMA_SERVER must be a program that can be run")
        plain.chmod(0o755)
        assert configure(tmp_path, NOA_LLAMA_SERVER="plain").llama_server == plain

    def test_the_file_is_found_where_it_is_looked_for(self, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "noa.yaml").write_text("server: {port: 1}")
        assert configure(tmp_path).port == 1
        assert configure(tmp_path, "server: {port: 2}").port == 2
        (tmp_path / "other.yaml").write_text("server: {port: 3}")
        assert configure(tmp_path, NOA_CONFIG="other.yaml").port == 3
        assert refusal(tmp_path, NOA_CONFIG="absent.yaml").startswith("absent.yaml cannot be read")

    @pytest.mark.parametrize(
        ("environ", "url"),
        [
            ({}, "http://localhost:3001"),
            ({"PORT": "4000"}, "http://localhost:4000"),
            ({"PORT": "4000", "NOA_PORT": "5000", "NOA_HOST": "0.0.0.0"}, "http://localhost:5000"),
            ({"NOA_HOST": "::1"}, "http://[::1]:3001"),
            ({"NOA_URL": "https://noa.example.org/", "PORT": "4000"}, "https://noa.example.org"),
        ],
    )
    def test_clients_look_where_the_server_listens(self, tmp_path: Path, environ: dict[str, str], url: str) -> None:
        assert configure(tmp_path, **environ).url == url


class TestVariablesThatAreWrong:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("MODEL_MANAGER_MAX_LOADED", "abc", "must be a whole number of at least 1"),
            ("MODEL_MANAGER_MAX_LOADED", "0", "must be a whole number of at least 1"),
            ("AI_MODEL_MANAGER_MAX_LOADED", "-1", "must be a whole number of at least 1"),
            ("MODEL_MANAGER_AUTO_LOAD_DEFAULT", "maybe", "must be true or false"),
            ("NOA_PORT", "tcp://10.0.0.1:3001", "must be a whole number of at least 0 and at most 65535"),
            ("PORT", "65536", "must be a whole number"),
            ("AI_OPENAI_TIMEOUT", "0", "must be a number above 0"),
            ("AI_CLAUDE_MAX_RETRIES", "many", "must be a whole number"),
            ("NOA_DEFAULT_PROVIDER", "claud", "names the unknown provider “claud”; did you mean “claude”?"),
            ("NOA_URL", "localhost:3001", "must be a URL"),
        ],
    )
    def test_they_are_named_with_what_they_must_be(self, tmp_path: Path, name: str, value: str, message: str) -> None:
        assert refusal(tmp_path, **{name: value}).startswith(f"{name} {message}")
        assert refusal(tmp_path, dotenv=f"{name}={value}").startswith(f"{name} in .env {message}")

    def test_a_variable_is_blamed_though_the_file_is_right(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, "server: {port: 1}", NOA_PORT="x").startswith("NOA_PORT must be")
        assert refusal(tmp_path, "models:\n  folders: [a]\n", NOA_MODELS="b", PORT="x").startswith("PORT must be")

    @pytest.mark.parametrize("name", ["OPENAI_API_KEY", "NOA_API_KEY", "AI_CLAUDE_API_KEY"])
    @pytest.mark.parametrize("blemish", ["\nx", " ", "é", "\x7f"])
    def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(
        self, tmp_path: Path, name: str, blemish: str
    ) -> None:
        message = refusal(tmp_path, **{name: f"{CANARY}{blemish}{CANARY}"})
        assert message.startswith(f"{name} must be a key")
        assert CANARY not in message

    @pytest.mark.parametrize(
        ("word", "meant"), [("false", False), ("No", False), ("0", False), ("ON", True), ("1", True)]
    )
    def test_flags_are_words(self, tmp_path: Path, word: str, meant: bool) -> None:
        configuration = configure(tmp_path, MODEL_MANAGER_ENABLE_PERFORMANCE_TRACKING=word)
        assert configuration.enable_performance_tracking is meant

    def test_lists_are_separated_by_commas(self, tmp_path: Path) -> None:
        assert configure(tmp_path, NOA_ALLOWED_HOSTS="a.example, b.example,").allowed_hosts == (
            "a.example",
            "b.example",
        )

    def test_a_folder_called_env_is_no_env_file(self, tmp_path: Path) -> None:
        (tmp_path / ".env").mkdir()
        assert configure(tmp_path).port == 3001

    def test_values_of_an_env_file_are_taken_as_they_stand(self, tmp_path: Path) -> None:
        assert key_of(configure(tmp_path, dotenv="OPENAI_API_KEY='a$b${HOME}'"), "openai") == "a$b${HOME}"


@pytest.mark.parametrize(
    ("url", "host", "port", "ours"),
    [
        ("http://localhost:3001/v1", "localhost", 3001, True),
        ("http://127.0.0.1:3001", "localhost", 3001, True),
        ("http://[::1]:3001/v1", "127.0.0.1", 3001, True),
        ("http://0.0.0.0:3001", "localhost", 3001, True),
        ("http://[::ffff:127.0.0.1]:3001", "0.0.0.0", 3001, True),
        ("http://LOCALHOST.:3001", "::", 3001, True),
        ("http://noa.localhost:3001", "localhost", 3001, True),
        ("http://10.1.2.3:3001", "10.1.2.3", 3001, True),
        ("http://localhost", "localhost", 80, True),
        ("http://localhost:3002/v1", "localhost", 3001, False),
        ("https://api.openai.com/v1", "0.0.0.0", 443, False),
        ("http://10.1.2.4:3001", "10.1.2.3", 3001, False),
        ("http://localhost:99999", "localhost", 3001, False),
    ],
)
def test_a_server_knows_its_own_address(url: str, host: str, port: int, ours: bool) -> None:
    assert points_at(url, host, port) is ours
