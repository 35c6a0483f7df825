"""The page that maps the TypeScript quick start has all of it, and what it shows works."""

from __future__ import annotations

import asyncio
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from example_programs import PROGRAMS
from machine import Machine
from noa import AIProviderError, ConfigurationManager, Event, ModelLoadError, ProviderType
from noa.registry import Registry
from noa.testing import FakeManager
from scripted_upstream import ScriptedUpstream

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from-typescript.md").read_text(encoding="utf-8")
#: The code blocks of the quick start, in its order, by the titles they stand under.
BLOCKS = (
    "Installation",
    "Environment Configuration",
    "Basic Usage",
    "Start the API Server",
    "Load and Switch Models",
    "List and Search Models",
    "Performance Profiling",
    "Pattern 1: Express Middleware",
    "Pattern 2: Model Selection Strategy",
    "Pattern 3: Cost-Optimized Selection",
    "Unit Tests",
    "Integration Tests",
    "Log Important Events",
    "Prometheus Metrics",
    "Problem: Model not loading",
    "Problem: Performance degradation",
    "Problem: State not persisting",
)
#: Every call that the quick start makes of the manager, its configuration and its registry.
CALLS = (
    *("getInstance", "loadFromEnvironment", "getProviderConfig", "getDefaultProviderConfig", "EnhancedModelManager"),
    *("initialize", "loadModel", "getCurrentModel", "getLoadedModels", "switchModel", "getRegistry", "getModel("),
    *("getModelsByCapability", "destroy", "on(", "recordInference", "profileModel", "getStatistics", "saveState"),
    *("enablePersistence", "enablePerformanceTracking", "maxLoadedModels", "warmup", "config.persistencePath"),
    *("ProviderType.OPENAI", "ModelCapability.CHAT_COMPLETION", "process.env.OPENAI_API_KEY"),
)
#: Every field of an event that it reads.
EVENT_FIELDS = {
    "model-loaded": ("model.name", "model.id", "model.provider", "model.capabilities"),
    "model-switched": ("previousModel", "currentModel", "reason"),
    "profiling-completed": ("key", "metrics.averageLatency", "metrics.tokensPerSecond", "metrics.successRate"),
    "inference-complete": ("modelKey", "latency", "tokensGenerated"),
    "model-load-error": ("key", "error"),
}
#: Every field of something else.
OTHER_FIELDS = (
    *("current.model.name", "current.key", "performanceMetrics.successRate", "performanceMetrics.tokensPerSecond"),
    *("best.provider", "best.id", "stats.totalInferences", "stats.loadedModels", "providerConfig.defaultModel"),
)
#: Every request it sends, and every figure it makes, with its labels.
REQUESTS = (
    *("POST /api/v1/models/load", "POST /api/v1/models/switch", "GET /api/v1/models/current"),
    *("GET /api/v1/models", "GET /api/v1/models/loaded", "GET /api/v1/models?provider=openai"),
    *("GET /api/v1/models?capability=chat_completion", "POST /api/v1/models/openai:gpt-4/profile"),
    *("GET /api/v1/models/openai:gpt-4/capabilities", "GET /api/v1/models/statistics"),
)
FIGURES = {
    "model_loads_total": ["provider", "model"],
    "model_switches_total": [],
    "models_loaded": [],
    "inference_latency_seconds": ["model"],
}


def sections() -> dict[str, str]:
    """The page's sections by number and title."""
    _, *parts = re.split(r"^### ", PAGE, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def code(text: str, marked: str, language: str) -> list[str]:
    return re.findall(rf"<!-- test: {marked} -->\n```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_every_block_of_the_quick_start_has_its_twin() -> None:
    assert list(sections()) == [f"{number}. {title}" for number, title in enumerate(BLOCKS, start=1)]
    assert [title for title, text in sections().items() if "```" not in text] == []


def table(columns: str) -> list[list[str]]:
    """The rows of the tables with these columns."""
    tables = re.findall(rf"^\| {re.escape(columns)} \|\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    assert tables, columns
    return [[cell.strip() for cell in row.strip("|").split("|")] for each in tables for row in each.splitlines()]


def test_every_call_of_the_quick_start_has_its_twin() -> None:
    left = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    assert [call for call in (*CALLS, *OTHER_FIELDS) if call not in left] == []


def test_every_request_and_every_figure_of_the_quick_start_is_there() -> None:
    asked = re.findall(r"curl (-X POST )?\"?http://localhost:3001([^\s\"]+)", PAGE)
    assert {f"{'POST' if post else 'GET'} {path}" for post, path in asked} == set(REQUESTS)
    assert {name.strip("`"): re.findall(r"`(\w+)`", labels) for name, labels in table("Figure | Labels")} == FIGURES


async def test_every_field_of_an_event_has_a_twin_that_is_there() -> None:
    rows = table("Event | TypeScript | Python")
    shown = [(name.strip("`"), field.strip("`").removeprefix("event.")) for name, field, _ in rows]
    assert shown == [(name, field) for name, fields in EVENT_FIELDS.items() for field in fields]
    told: dict[str, Event] = {}
    async with FakeManager("llama.cpp:good", "llama.cpp:better", "llama.cpp:bad") as manager:
        manager.on("*", lambda event: told.update({event.type: event}))
        manager.runtime.fail("llama.cpp:bad", ModelLoadError("It is damaged."))
        with pytest.raises(AIProviderError):
            await manager.load_model("llama.cpp:bad")
        await manager.load_model("llama.cpp:good")
        await manager.switch_model("llama.cpp:better")
        await manager.profile_model("llama.cpp:good", 1, max_tokens=4)
    for name, _, python in rows:
        [expression] = re.findall(r"^`([^`]+)`", python)
        assert eval(expression, {"event": told[name.strip("`")]}) is not None or "metrics" in expression


async def test_every_field_of_an_answer_has_a_twin_that_is_there() -> None:
    expressions = [each for row in table("TypeScript | Python") for each in re.findall(r"`(manager\.[^`]*)`", row[1])]
    expressions = [each for each in expressions if re.search(r"\)?\.\w+$", each)]
    async with FakeManager("openai:gpt-4", default_model="openai:gpt-4") as manager:
        names = {"manager": manager, "key": "openai:gpt-4", "ProviderType": ProviderType}
        await manager.profile_model("openai:gpt-4", 1, max_tokens=4)
        for expression in expressions:
            eval(expression, names)


def test_the_environment_is_read_as_it_stands(tmp_path: Path) -> None:
    [block] = re.findall(r"```bash\n(.*?)```", sections()["2. Environment Configuration"], flags=re.DOTALL)
    (tmp_path / ".env").write_text(block)
    config = ConfigurationManager.from_environment("AI_", environ={}, cwd=tmp_path)
    assert {each.name for each in config.providers if each.is_set_up} >= {"openai", "claude", "llama.cpp"}
    llama_cpp = config.provider_config(ProviderType.LLAMA_CPP)
    assert llama_cpp is not None
    assert llama_cpp.base_url == "http://localhost:8080"
    assert config.max_loaded_models == 10
    assert config.persistence_path == tmp_path / "data" / "model-manager-state.json"


def test_every_twin_of_a_call_exists() -> None:
    rows = [line.split("|")[2] for line in PAGE.splitlines() if line.startswith("| `")]
    named = [pair for row in rows for pair in re.findall(r"\b(manager\.registry|manager|config)\.(\w+)", row)]
    homes: dict[str, object] = {"manager": FakeManager(), "config": ConfigurationManager, "manager.registry": Registry}
    assert named
    assert [f"{home}.{name}" for home, name in named if name not in dir(homes[home])] == []


def test_what_is_shown_of_a_program_stands_in_it_and_the_program_is_tested() -> None:
    for title, text in sections().items():
        shown = re.findall(r"(?<!-->\n)```python\n(.*?)```", text, flags=re.DOTALL)
        linked = re.findall(r"\]\(\.\./examples/([^)]+)\)", text)
        assert linked or not shown, title
        programs = "".join(_flat((ROOT / "examples" / name).read_text(encoding="utf-8")) for name in linked)
        assert [piece for piece in shown if _flat(piece) not in programs] == [], title
        tested = {name for name in linked if name in PROGRAMS or "test" in name or "/" in name}
        assert not shown or set(linked) == tested, title


def _flat(source: str) -> str:
    """The code without its indentation, which on the page is another."""
    return "\n".join(line.strip() for line in textwrap.dedent(source).strip().splitlines() if line.strip())


async def test_the_requests_work_as_they_stand(tmp_path: Path) -> None:
    shown = code(PAGE, "with a server", "bash")
    assert len(shown) == 3
    async with ScriptedUpstream(models=["gpt-4", "gpt-3.5-turbo"]) as upstream:
        machine = Machine.at(tmp_path, OPENAI_API_KEY="sk-unused", OPENAI_BASE_URL=f"{upstream.url}/v1")
        await asyncio.to_thread(_ask, machine, shown)


def _ask(machine: Machine, shown: list[str]) -> None:
    with machine.serving("serve") as server:
        for block in shown:
            script = block.replace("http://localhost:3001", server.url).replace("curl ", "curl -sS --fail-with-body ")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


async def test_the_handlers_are_called(capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeManager("openai:gpt-4", "openai:gpt-3.5-turbo") as manager:
        names: dict[str, object] = {"manager": manager}
        shown = code(PAGE, "with a manager", "python")
        assert len(shown) == 2
        for block in shown:
            exec(block, names)
        await manager.load_model("openai:gpt-4")
        await manager.switch_model("openai:gpt-3.5-turbo")
        await manager.profile_model("openai:gpt-4", 1, max_tokens=4)
    printed = capsys.readouterr().out
    for words in ("Loaded: gpt-4", "Switched from openai:gpt-4 to openai:gpt-3.5-turbo", "Success Rate: 100.0%"):
        assert words in printed
    loads = {"provider": "openai", "model": "gpt-4"}
    try:
        assert REGISTRY.get_sample_value("model_loads_total", loads) == 1
        assert REGISTRY.get_sample_value("model_switches_total") == 1
        assert REGISTRY.get_sample_value("models_loaded") == 2
        assert REGISTRY.get_sample_value("inference_latency_seconds_count", {"model": "openai:gpt-4"}) == 2
    finally:
        for name in ("model_loads", "model_switches", "models_loaded", "inference_latency"):
            REGISTRY.unregister(names[name])  # type: ignore[arg-type]  # what the page made
