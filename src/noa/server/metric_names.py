"""Every name that ``GET /metrics`` shows, in one place: dashboards and alerts depend on them.

Four are the quick start's. Those that begin with ``gen_ai_`` are OpenTelemetry's for generative AI, as its Prometheus
exporter writes them (dots become underscores, the unit is appended; ``semantic-conventions-genai``,
``docs/gen-ai/gen-ai-metrics.md``). That convention is still in development, so it may rename them. The rest are Noa's.
"""

from __future__ import annotations

from typing import Final

# The quick start's. A counter's name gets ``_total`` when it is written.

MODEL_LOADS: Final = "model_loads"
MODEL_SWITCHES: Final = "model_switches"
MODELS_LOADED: Final = "models_loaded"
INFERENCE_LATENCY: Final = "inference_latency_seconds"

# OpenTelemetry's.

OPERATION_DURATION: Final = "gen_ai_client_operation_duration_seconds"
TOKEN_USAGE: Final = "gen_ai_client_token_usage"  # noqa: S105  # the name of a figure
TIME_TO_FIRST_TOKEN: Final = "gen_ai_server_time_to_first_token_seconds"  # noqa: S105  # the name of a figure
TIME_PER_OUTPUT_TOKEN: Final = "gen_ai_server_time_per_output_token_seconds"  # noqa: S105  # the name of a figure

# Noa's.

QUEUE_TIME: Final = "noa_queue_time_seconds"
OVERHEAD: Final = "noa_overhead_seconds"
COST: Final = "noa_cost_usd"
UNPRICED_REQUESTS: Final = "noa_unpriced_requests"
MODELS: Final = "noa_models"
IN_FLIGHT: Final = "noa_requests_in_flight"
WAITING: Final = "noa_requests_waiting"
MODEL_MEMORY: Final = "noa_model_memory_bytes"
BREAKER_STATE: Final = "noa_breaker_state"

# Labels. All of them have few values: models and providers are those that exist, never what a caller wrote.

MODEL: Final = "model"
PROVIDER: Final = "provider"
GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
TOKEN_TYPE: Final = "gen_ai_token_type"  # noqa: S105  # the name of a figure
ERROR_TYPE: Final = "error_type"

#: OpenTelemetry's words where ours differ.
OPERATIONS: Final = {"completion": "text_completion", "probe": "chat"}
PROVIDERS: Final = {"claude": "anthropic"}

#: From a cached embedding to a long answer of a large model on a small machine, in seconds.
LATENCY_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
#: Those of the convention; ours go on to ten minutes, which a model on a small machine may take.
DURATION_BUCKETS_S: Final = (*(0.01 * 2**n for n in range(14)), 163.84, 327.68, 655.36)
TOKEN_BUCKETS: Final = tuple(4**n for n in range(14))
FIRST_TOKEN_BUCKETS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(30, 60, 120, 300, 600),
)
PER_TOKEN_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
QUEUE_BUCKETS_S: Final = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
OVERHEAD_BUCKETS_S: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)
