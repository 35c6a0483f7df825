"""``noa show``: all that is known of one model, on one screen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import Result

from noa.models import ActiveModel, ModelCapability, ModelInfo, ModelStatus, PerformanceMetrics, RegistryEntry
from scripted_server import ScriptedServer

Noa = Callable[..., Result]

KEY = "llama.cpp:sub/x"
MOMENT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ENTRY = RegistryEntry(
    key=KEY,
    id="sub/x",
    name="x",
    provider="llama.cpp",
    context_window=8192,
    max_tokens=None,
    capabilities=(ModelCapability.CHAT_COMPLETION,),
    metadata={},
    status=ModelStatus.FAILED,
    registered_at=MOMENT,
    file_path="x.gguf",
    file_size=2048,
    error="The file is corrupt.",
)


@pytest.fixture
def fleet(server: ScriptedServer) -> ScriptedServer:
    server.answer("GET", f"/api/v1/models/{KEY}", ENTRY)
    server.answer("GET", "/api/v1/models/loaded", {"models": [], "count": 0, "currentModel": None})
    aliases = [{"name": name, "key": key, "since": MOMENT} for name, key in (("fast", "a:b"), ("prod", KEY))]
    server.answer("GET", "/api/v1/aliases", {"aliases": aliases, "count": 2})
    server.answer("GET", f"/api/v1/models/{KEY}/logs", {"success": True, "key": KEY, "lines": ["bad magic"]})
    return server


def test_a_model_that_failed_shows_why_and_the_end_of_its_log(fleet: ScriptedServer, noa: Noa) -> None:
    result = noa("show", KEY)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        KEY,
        "  failed",
        "  error: The file is corrupt.",
        "  can: chat_completion",
        "  window: 8192 tokens, answers: at most —",
        "  file: x.gguf (2.0 KiB)",
        "  aliases: prod",
        "  measured: nothing yet",
        "  log:",
        "    bad magic",
    ]
    assert next(each.query for each in fleet.received if each.path.endswith("/logs")) == {"tail": "5"}


def test_a_loaded_model_shows_how_it_is_doing(fleet: ScriptedServer, noa: Noa) -> None:
    metrics = PerformanceMetrics(average_latency=12.3, tokens_per_second=41.26, total_inferences=7, success_rate=1.0)
    fleet.answer(
        "GET", f"/api/v1/models/{KEY}", msgspec.structs.replace(ENTRY, performance_metrics=metrics, error=None)
    )
    info = ModelInfo(id="sub/x", name="x", provider="llama.cpp")
    active = ActiveModel(key=KEY, model=info, loaded_at=MOMENT, pinned=True)
    fleet.answer("GET", "/api/v1/models/loaded", {"models": [active], "count": 1, "currentModel": active})
    shown = noa("show", KEY).stdout
    assert "kept: pinned" in shown
    assert "measured: 12 ms, 41.3 tokens/s, 100% succeed, over 7 requests" in shown
    assert "error" not in shown


def test_json_has_a_stable_shape(fleet: ScriptedServer, noa: Noa) -> None:
    shown = msgspec.json.decode(noa("show", KEY, "--json").stdout)
    assert shown.keys() == {"model", "active", "aliases", "log"}
    assert (shown["model"]["key"], shown["active"], shown["aliases"], shown["log"]) == (
        KEY,
        None,
        ["prod"],
        ["bad magic"],
    )


def test_an_unknown_model_exits_with_3_and_a_provider_is_no_model(server: ScriptedServer, noa: Noa) -> None:
    server.refuse("GET", "/api/v1/models/nope", 404, "MODEL_NOT_FOUND", "There is no model “nope”.")
    assert noa("show", "nope").exit_code == 3
    refused = noa("show", "openai")
    assert refused.exit_code == 2
    assert "noa ls --provider openai" in refused.stderr
