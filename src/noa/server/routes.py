"""Every route: where it is, who answers it, and how it is documented."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from noa.caller_keys import NewCallerKey
from noa.config import Reloaded
from noa.manager import ModelManager
from noa.models import ModelCapability, ModelStatus, RegistryEntry
from noa.selection.decision import Decision
from noa.server import inference_api, model_listing, openai_api, profile_wire, wire
from noa.server.alias_api import AliasRoutes
from noa.server.anthropic_api import COUNT_TOKENS, MESSAGES
from noa.server.config_api import ConfigRoutes
from noa.server.dispatcher import MODEL_PATTERN, HotRoute
from noa.server.event_stream import EventRoute
from noa.server.exchange import Exchange
from noa.server.key_api import KeyBody, KeyList, KeyRevoked, KeyRoutes
from noa.server.management import ModelRoutes
from noa.server.metrics import Metrics
from noa.server.openapi import Documentation, Parameter
from noa.server.profile_api import ProfileRoutes
from noa.server.relay import Face, Relay
from noa.server.selection_api import DecisionList, SelectBody, SelectionRoutes
from noa.server.split_api import PromoteBody, SplitAnswer, SplitBody, SplitRoutes
from noa.server.status_api import StatusRoutes, live
from noa.server.usage_api import PARAMETERS as USAGE_PARAMETERS
from noa.server.usage_api import UsageRoutes

API: Final = "/api/v1"

Handler = Callable[[Request], Awaitable[Response]]


# The routes that no framework touches.


def hot_routes(manager: ModelManager, relay: Relay, metrics: Metrics) -> dict[str, HotRoute]:
    """Inference, the list of models for its clients, and what is scraped."""

    def passing(face: Face) -> HotRoute:
        async def handle(exchange: Exchange) -> None:
            await relay.serve(exchange, face, await exchange.body())

        return HotRoute("POST", handle)

    def rewriting(face: Face, rewrite: Callable[[bytes, ModelManager], bytes]) -> HotRoute:
        async def handle(exchange: Exchange) -> None:
            await relay.serve(exchange, face, rewrite(await exchange.body(), manager))

        return HotRoute("POST", handle)

    return {
        "/v1/chat/completions": passing(openai_api.CHAT),
        "/v1/completions": passing(openai_api.COMPLETION),
        "/v1/embeddings": passing(openai_api.EMBEDDINGS),
        "/v1/messages": passing(MESSAGES),
        "/v1/messages/count_tokens": passing(COUNT_TOKENS),
        "/v1/models": HotRoute("GET", partial(model_listing.list_models, manager=manager)),
        MODEL_PATTERN: HotRoute("GET", partial(model_listing.show_model, manager=manager)),
        f"{API}/inference/chat": rewriting(inference_api.CHAT_FACE, partial(inference_api.chat_request, stream=False)),
        f"{API}/inference/chat/stream": rewriting(
            inference_api.CHAT_FACE, partial(inference_api.chat_request, stream=True)
        ),
        f"{API}/inference/embeddings": rewriting(inference_api.EMBEDDINGS_FACE, inference_api.embeddings_request),
        "/metrics": HotRoute("GET", metrics.scrape),
        "/health": HotRoute("GET", live),
        "/v1/health": HotRoute("GET", live),
    }


def describe_hot_routes(documentation: Documentation) -> None:
    """Put them into the document, which FastAPI cannot do."""
    events = "text/event-stream"
    for path, summary, body, media_type in (
        (f"{API}/inference/chat", "Continue a conversation.", inference_api.ChatBody, "application/json"),
        (f"{API}/inference/chat/stream", "Continue a conversation, streamed.", inference_api.ChatBody, events),
        (f"{API}/inference/embeddings", "Turn texts into vectors.", inference_api.EmbeddingsBody, "application/json"),
    ):
        operation = documentation.describe(body=body, media_type=media_type)
        documentation.add("POST", path, {"summary": summary, "tags": ["inference"], **operation})
    for path, summary, tag in (
        ("/v1/chat/completions", "OpenAI's chat completions.", "openai"),
        ("/v1/completions", "OpenAI's completions, for models whose provider has them.", "openai"),
        ("/v1/embeddings", "OpenAI's embeddings.", "openai"),
        ("/v1/messages", "Anthropic's messages.", "anthropic"),
        ("/v1/messages/count_tokens", "The tokens of a prompt, as its model counts them.", "anthropic"),
    ):
        operation = documentation.describe(parameters=[_WAIT])
        operation["requestBody"] = {"content": {"application/json": {"schema": _FOREIGN_BODY}}, "required": True}
        documentation.add("POST", path, {"summary": summary, "tags": [tag], **operation})
    listed = {"tags": ["openai"], **documentation.describe(parameters=[_VERSION])}
    documentation.add("GET", "/v1/models", {"summary": "The list of models, in the caller's dialect.", **listed})
    name = Parameter("model", "Any name that requests may use.", place="path")
    shown = {"tags": ["openai"], **documentation.describe(parameters=[name, _VERSION])}
    documentation.add("GET", MODEL_PATTERN, {"summary": "One model, in the caller's dialect.", **shown})
    alive = {"tags": ["status"], **documentation.describe(wire.Live)}
    for path in ("/health", "/v1/health"):
        documentation.add("GET", path, {"summary": "The process runs. Needs no key.", **alive})
    scraped = {"tags": ["status"], **documentation.describe(media_type="text/plain")}
    documentation.add("GET", "/metrics", {"summary": "The figures for Prometheus.", **scraped})


_WAIT: Final = Parameter("x-noa-wait-s", "How long to wait for the model, in seconds.", {"type": "number"}, "header")
_VERSION: Final = Parameter("anthropic-version", "Answers as Anthropic does if it is sent.", place="header")
#: The dialects' own references say what else these bodies hold; what is unknown here travels on.
_FOREIGN_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "description": "A key, an alias or a bare id; `current` if it is left out."},
        "stream": {"type": "boolean"},
    },
    "additionalProperties": True,
}


# The routes of the framework.


class Table:
    """Adds routes to FastAPI: handlers take the request alone, and msgspec's values document themselves."""

    def __init__(self, app: FastAPI, documentation: Documentation) -> None:
        self._app = app
        self._documentation = documentation

    def add(self, method: str, path: str, tag: str, handler: Handler, *answers: type, **described: Any) -> None:
        """One route; ``described`` is for ``Documentation.describe``."""
        self._app.add_api_route(
            API + path,
            handler,
            methods=[method],
            response_model=None,
            response_class=Response,
            status_code=described.get("status", 200),
            tags=[tag],
            summary=(handler.__doc__ or "").split("\n")[0],
            openapi_extra=self._documentation.describe(*answers, **described),
        )


def add_model_routes(table: Table, routes: ModelRoutes) -> None:
    """``/api/v1/models…``. The reserved words come before ``{name}``, which is one segment."""
    tag = "models"
    table.add("GET", "/models", tag, routes.list, wire.ModelList, parameters=_FILTERS)
    table.add("GET", "/models/loaded", tag, routes.loaded, wire.LoadedModels)
    table.add("GET", "/models/current", tag, routes.current, wire.CurrentModel)
    table.add("GET", "/models/statistics", tag, routes.statistics, wire.StatisticsAnswer)
    table.add("POST", "/models/load", tag, routes.load, wire.Acknowledgement, body=wire.LoadBody)
    table.add("POST", "/models/unload", tag, routes.unload, wire.Acknowledgement, body=wire.UnloadBody)
    table.add("POST", "/models/switch", tag, routes.switch, wire.Switched, body=wire.SwitchBody)
    table.add("POST", "/models/discover", tag, routes.discover, wire.Discovered)
    table.add("POST", "/models/save-state", tag, routes.save_state, wire.Saved)
    named = {"parameters": [_NAME]}
    table.add("GET", "/models/{name}", tag, routes.one, RegistryEntry, wire.ProviderModels, **named)
    table.add("GET", "/models/{name}/capabilities", tag, routes.capabilities, wire.Capabilities, **named)
    table.add("GET", "/models/{name}/metrics", tag, routes.metrics, wire.Metrics, **named)
    table.add("GET", "/models/{name}/logs", tag, routes.logs, wire.Logs, parameters=[_NAME, *_LOG])
    table.add("POST", "/models/{name}/probe", tag, routes.probe, wire.Probed, body=wire.ProbeBody, **named)


def add_profile_routes(table: Table, routes: ProfileRoutes) -> None:
    """``/api/v1/models/{name}/profile`` and ``…/history``."""
    named, path = {"parameters": [_NAME]}, "/models/{name}/profile"
    answers = (profile_wire.Profiled, profile_wire.ProfileEstimate)
    table.add("POST", path, "profiles", routes.make, *answers, body=profile_wire.ProfileBody, **named)
    table.add("DELETE", path, "profiles", routes.stop, profile_wire.ProfileStopped, **named)
    table.add("GET", "/models/{name}/history", "profiles", routes.history, profile_wire.History, **named)


def add_selection_routes(table: Table, routes: SelectionRoutes) -> None:
    """``/api/v1/models/select`` and ``/api/v1/decisions…``. It must come before the routes with a model's name."""
    tag = "selection"
    table.add("POST", "/models/select", tag, routes.select, Decision, body=SelectBody)
    table.add("GET", "/decisions", tag, routes.decisions, DecisionList)
    request_id = Parameter("request_id", "The `x-request-id` of the request.", place="path")
    table.add("GET", "/decisions/{request_id}", tag, routes.decision, Decision, parameters=[request_id])


def add_split_routes(table: Table, routes: SplitRoutes) -> None:
    """``/api/v1/aliases/{name}/split`` and ``…/promote``."""
    named = {"parameters": [Parameter("name", "An alias of yours.", place="path")]}
    path = "/aliases/{name}/split"
    table.add("GET", path, "aliases", routes.one, SplitAnswer, **named)
    table.add("PUT", path, "aliases", routes.begin, SplitAnswer, body=SplitBody, **named)
    table.add("DELETE", path, "aliases", routes.end, SplitAnswer, **named)
    table.add("POST", "/aliases/{name}/promote", "aliases", routes.promote, wire.AliasMoved, body=PromoteBody, **named)


def add_alias_routes(table: Table, routes: AliasRoutes) -> None:
    """``/api/v1/aliases…``."""
    tag = "aliases"
    named = {"parameters": [Parameter("name", "An alias: `current`, or one of yours.", place="path")]}
    table.add("GET", "/aliases", tag, routes.list, wire.AliasList)
    table.add("GET", "/aliases/{name}", tag, routes.one, wire.AliasHistory, **named)
    table.add("PUT", "/aliases/{name}", tag, routes.point, wire.AliasMoved, body=wire.PointBody, **named)
    table.add("DELETE", "/aliases/{name}", tag, routes.remove, wire.AliasRemoved, **named)
    rolled_back = {"body": wire.RollbackBody, **named}
    table.add("POST", "/aliases/{name}/rollback", tag, routes.roll_back, wire.AliasMoved, **rolled_back)


def add_key_routes(table: Table, routes: KeyRoutes) -> None:
    """``/api/v1/keys…``."""
    named = {"parameters": [Parameter("name", "The name of a caller's key.", place="path")]}
    table.add("GET", "/keys", "keys", routes.list, KeyList)
    table.add("POST", "/keys", "keys", routes.create, NewCallerKey, body=KeyBody, status=201)
    table.add("DELETE", "/keys/{name}", "keys", routes.revoke, KeyRevoked, **named)


def add_config_routes(table: Table, routes: ConfigRoutes) -> None:
    """``/api/v1/config/reload``."""
    table.add("POST", "/config/reload", "configuration", routes.reload, Reloaded)


def add_status_routes(table: Table, routes: StatusRoutes) -> None:
    """``/api/v1/status/…``."""
    tag = "status"
    table.add("GET", "/status/health", tag, routes.health, wire.ServerHealth)
    table.add("GET", "/status/providers", tag, routes.providers, wire.ProvidersHealth)
    table.add("GET", "/status/system", tag, routes.system, wire.SystemFigures)
    table.add("GET", "/status/ready", tag, routes.ready, wire.Ready)
    table.add("GET", "/status/live", tag, routes.live, wire.Live)


def add_usage_routes(table: Table, routes: UsageRoutes) -> None:
    """``/api/v1/status/usage``."""
    table.add("GET", "/status/usage", "status", routes.totals, wire.UsageTotals, parameters=USAGE_PARAMETERS)


def add_event_routes(table: Table, route: EventRoute) -> None:
    """``/api/v1/events``."""
    resume = Parameter("Last-Event-ID", "The id after which to go on.", {"type": "integer"}, "header")
    table.add("GET", "/events", "events", route.listen, media_type="text/event-stream", parameters=[resume])


_NAME: Final = Parameter("name", "A key, an alias, a bare id; or a provider where models are listed.", place="path")
_LOG: Final = (
    Parameter("tail", "Only so many of the last lines.", {"type": "integer", "minimum": 1}),
    Parameter("follow", "Stream the lines as server-sent events until the process ends.", {"type": "boolean"}),
)
_FILTERS: Final = (
    Parameter("provider", "Only models of this provider."),
    Parameter("capability", "Only models that can do this.", {"type": "string", "enum": [*map(str, ModelCapability)]}),
    Parameter("status", "Only models that stand so.", {"type": "string", "enum": [*map(str, ModelStatus)]}),
    Parameter("limit", "How many at most.", {"type": "integer", "minimum": 1}),
    Parameter("cursor", "The `nextCursor` of the page before."),
)
