"""The examples that are programs of their own."""

from __future__ import annotations

#: What each program must have printed, so that it cannot have skipped what it is for.
PROGRAMS = {
    "quickstart.py": (
        "Loaded model: openai:gpt-4",
        "Switched from openai:gpt-4 to openai:gpt-3.5-turbo",
        "success rate",
    ),
    "without_asyncio.py": ("Hello there, friend.", "now in use: openai:gpt-3.5-turbo"),
    "patterns.py": ("openai:gpt-3.5-turbo", "Hello there, friend."),
    "monitoring.py": (
        "[MODEL] Loaded: gpt-4",
        "[MODEL] Provider: openai",
        "[MODEL] Capabilities: ",
        "[MODEL] Switched from openai:gpt-4 to openai:gpt-3.5-turbo",
        "[MODEL] Reason: to have something to watch",
        "[PROFILE] Model: openai:gpt-3.5-turbo",
        "[PROFILE] Latency: ",
        "[PROFILE] Speed: ",
        "[PROFILE] Success Rate: 100.0%",
        'model_loads_total{model="gpt-4",provider="openai"} 1.0',
        "model_switches_total ",
        "models_loaded 2.0",
        'inference_latency_seconds_count{model="openai:gpt-3.5-turbo"} ',
    ),
    "troubleshooting.py": ("Total inferences:", "Persistence path writable: state.db", "api_key=Secret("),
}
