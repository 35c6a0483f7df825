"""What a changed configuration changes in a manager that runs, and what waits for a restart: decided without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.config import Configuration, ProviderConfig, Reloaded, Secret, plan_reload
from noa.config.in_effect import ATTRIBUTES
from noa.config.known_models import KnownModel
from noa.config.policies import PolicySettings
from noa.config.reload import AT_ONCE


def openai(name: str = "work", **settings: Any) -> ProviderConfig:
    given = {"type": "openai", "name": name, "api_key": Secret("sk-a"), "base_url": "http://box:1/v1", **settings}
    return ProviderConfig(**given)


LOCAL = ProviderConfig(type="llama.cpp")
BEFORE = Configuration(home=Path("/home/noa"), providers=(openai(), LOCAL))

PROVIDERS: dict[str, tuple[tuple[ProviderConfig, ...], dict[str, tuple[str, ...]]]] = {
    "nothing": ((openai(), LOCAL), {}),
    "another order": ((LOCAL, openai()), {}),
    "one more": ((openai(), openai("other"), LOCAL), {"added": ("other",)}),
    "one less": ((LOCAL,), {"removed": ("work",)}),
    "another address": ((openai(base_url="http://box:2/v1"), LOCAL), {"changed": ("work",)}),
    "another key": ((openai(api_key=Secret("sk-b")), LOCAL), {"changed": ("work",)}),
    "more patience": ((openai(max_retries=5), LOCAL), {"changed": ("work",)}),
    "another name": ((openai("play"), LOCAL), {"added": ("play",), "removed": ("work",)}),
    "another type": (
        (ProviderConfig(type="ollama", name="work", base_url="http://box:3"), LOCAL),
        {"added": ("work",), "removed": ("work",)},
    ),
    "one that lacks its key": ((openai(), ProviderConfig(type="groq"), LOCAL), {}),
}


@pytest.mark.parametrize("case", PROVIDERS)
def test_providers_come_change_and_go(case: str) -> None:
    providers, expected = PROVIDERS[case]
    reload = plan_reload(BEFORE, BEFORE.evolve(providers=providers))
    report = reload.report
    found = {"added": report.providers_added, "changed": report.providers_changed, "removed": report.providers_removed}
    assert {kind: names for kind, names in found.items() if names} == expected
    assert reload.configuration.providers == providers
    assert (report.settings, report.needs_restart) == ((), ())


def test_other_folders_are_read_by_another_provider() -> None:
    report = plan_reload(BEFORE, BEFORE.evolve(extra_model_folders=(Path("/more"),))).report
    assert (report.providers_changed, report.settings) == (("llama.cpp",), ("models.folders",))


def test_another_home_needs_a_restart_and_leaves_the_folder_where_it_is() -> None:
    reload = plan_reload(BEFORE, BEFORE.evolve(home=Path("/elsewhere")))
    assert reload.report.needs_restart == ("home", "state.path")
    assert reload.report.providers_changed == ()
    assert reload.configuration == BEFORE


def test_what_is_said_of_single_models_counts_at_once() -> None:
    before = BEFORE.evolve(known_models={"a:x": KnownModel(context_window=9), "a:y": KnownModel(max_tokens=1)})
    after = BEFORE.evolve(known_models={"a:x": KnownModel(context_window=9), "a:z": KnownModel(max_tokens=1)})
    reload = plan_reload(before, after)
    assert reload.known_models == {"a:y", "a:z"}
    assert reload.report.settings == ("models.a:y", "models.a:z")


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "fallbacks": st.sampled_from([{}, {"prod": ("a:x",)}]),
    "max_loaded_models": st.integers(1, 3),
    "explore": st.sampled_from([0.0, 0.5]),
    "policies": st.sampled_from([{}, {"cheap": PolicySettings(max_cost=1)}]),
    "extra_model_folders": st.sampled_from([(), (Path("/more"),)]),
    "port": st.integers(3001, 3003),
    "host": st.sampled_from(["localhost", "127.0.0.1"]),
    "api_key": st.sampled_from([None, Secret("sk-one"), Secret("sk-two")]),
    "slots": st.integers(1, 3),
    "enable_auto_switch": st.booleans(),
    "persistence_path": st.sampled_from([None, Path("/state.db")]),
    "providers": st.sampled_from([providers for providers, _ in PROVIDERS.values()]),
}
CONFIGURATIONS = st.fixed_dictionaries(VALUES).map(lambda values: BEFORE.evolve(**values))


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_what_is_named_is_what_differs_and_a_second_time_changes_nothing(
    running: Configuration, wanted: Configuration
) -> None:
    reload = plan_reload(running, wanted)
    after, report = reload.configuration, reload.report
    for name, attribute in ATTRIBUTES.items():
        differs = getattr(running, attribute) != getattr(wanted, attribute)
        assert (name in report.settings) is (differs and name in AT_ONCE)
        assert (name in report.needs_restart) is (differs and name not in AT_ONCE)
        assert getattr(after, attribute) == getattr(wanted if name in AT_ONCE else running, attribute)
    again = plan_reload(after, wanted)
    assert again.configuration == after
    assert again.report == Reloaded(file=None, needs_restart=report.needs_restart)
    assert "sk-" not in repr(reload)
