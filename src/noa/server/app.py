"""The server: one ASGI application over a manager, and ``serve``, which runs it until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from socket import socket

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from noa.bootstrap import Place
from noa.config import Configuration, points_at
from noa.errors import AIProviderError, ConfigurationError
from noa.manager import ModelManager
from noa.server import garbage
from noa.server.alias_api import AliasRoutes
from noa.server.config_api import ConfigRoutes
from noa.server.dispatcher import Dispatcher
from noa.server.errors import encode_envelope, headers_of, internal_error, no_route, wrong_method
from noa.server.event_stream import EventRoute
from noa.server.exchange import exchange_of
from noa.server.http_server import HttpServer, bind, port_of
from noa.server.key_api import KeyRoutes
from noa.server.live_stream import KEEP_ALIVE_S, LiveStreams
from noa.server.management import ModelRoutes
from noa.server.metrics import Metrics
from noa.server.openapi import Documentation
from noa.server.profile_api import ProfileRoutes
from noa.server.relay import HOLD_S, Relay
from noa.server.routes import (
    Table,
    add_alias_routes,
    add_config_routes,
    add_event_routes,
    add_key_routes,
    add_model_routes,
    add_profile_routes,
    add_selection_routes,
    add_split_routes,
    add_status_routes,
    add_usage_routes,
    describe_hot_routes,
    hot_routes,
)
from noa.server.security import check_exposure
from noa.server.selection_api import SelectionRoutes
from noa.server.signals import on_signals
from noa.server.split_api import SplitRoutes
from noa.server.status_api import Readiness, StatusRoutes
from noa.server.usage_api import UsageRoutes
from noa.version import __version__

#: What is done with the manager before the server counts as ready.
Preparation = Callable[[ModelManager], Awaitable[None]]


class Application:
    """The whole API over a manager, as an ASGI application.

    Whoever runs it runs the manager too: it has no lifespan of its own. ``readiness`` is what ``/status/ready`` tells;
    call ``end_streams`` when the server is about to stop, since listeners to events would keep it.
    """

    def __init__(self, manager: ModelManager, *, hold_s: float = HOLD_S, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self.readiness = Readiness(manager)
        self._streams = LiveStreams(keep_alive_s)
        framework = _framework(manager, self.readiness, self._streams)
        hot = hot_routes(manager, Relay(manager, hold_s), Metrics(manager))
        self._dispatcher = Dispatcher(manager, hot, framework)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._dispatcher(scope, receive, send)

    def end_streams(self) -> None:
        """End the streams that would go on for ever."""
        self._streams.end()


def create_app(manager: ModelManager, *, hold_s: float = HOLD_S, keep_alive_s: float = KEEP_ALIVE_S) -> Application:
    """The API over a manager, which need not run yet. It may be mounted under any prefix.

    ``hold_s`` is how long the status line of a stream waits for its first piece, ``keep_alive_s`` how long the line of
    events or of a log may be silent.
    """
    return Application(manager, hold_s=hold_s, keep_alive_s=keep_alive_s)


def _framework(manager: ModelManager, readiness: Readiness, streams: LiveStreams) -> FastAPI:
    app = FastAPI(
        title="Noa",
        version=__version__,
        summary="A model manager: local and remote models as one fleet, on one endpoint.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    documentation = Documentation()
    table = Table(app, documentation)
    add_selection_routes(table, SelectionRoutes(manager))
    add_model_routes(table, ModelRoutes(manager, streams))
    add_profile_routes(table, ProfileRoutes(manager))
    add_alias_routes(table, AliasRoutes(manager))
    add_split_routes(table, SplitRoutes(manager))
    add_status_routes(table, StatusRoutes(manager, readiness))
    add_usage_routes(table, UsageRoutes(manager))
    add_event_routes(table, EventRoute(manager, streams))
    add_key_routes(table, KeyRoutes(manager))
    add_config_routes(table, ConfigRoutes(manager))
    describe_hot_routes(documentation)
    documentation.install(app)
    app.add_exception_handler(AIProviderError, _refusal)
    app.add_exception_handler(HTTPException, _refusal)
    app.add_exception_handler(Exception, _refusal)
    return app


async def _refusal(request: Request, error: Exception) -> Response:
    """Whatever goes wrong within the framework, in the management API's envelope."""
    exchange = exchange_of(request)
    told = _told(error, request.method, exchange.path, exchange.request_id)
    status, body = encode_envelope(told)
    headers = {name.decode(): value.decode() for name, value in headers_of(told)}
    return Response(body, status, headers, "application/json")


def _told(error: Exception, method: str, path: str, request_id: str) -> AIProviderError:
    if isinstance(error, AIProviderError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return no_route(method, path)
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "").split(", ")
        return wrong_method(method, path, allowed)
    return internal_error(request_id)


# Running it.


def serve(
    configuration: Configuration,
    *,
    read: Callable[[], Configuration] | None = None,
    prepare: Preparation | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code.

    The order is: everything that can be refused at once is; the port is taken, and connections wait; the manager
    starts; connections are accepted, while ``/status/ready`` answers 503 and ``prepare`` runs; ``on_ready`` is told the
    URL. Stopping lets running requests finish for a while; a second signal does not. SIGHUP reloads the configuration,
    which ``read`` gives as it is then. Raises what keeps the server from starting, and whatever ``prepare`` raises.
    """
    check_exposure(configuration)
    sockets = bind(configuration.host, configuration.port)
    try:
        port = port_of(sockets)

        def here(told: Configuration) -> Configuration:
            found = told.evolve(port=port if told.port == configuration.port else told.port, server_url=None)
            check_addresses(found.evolve(host=configuration.host, port=port))
            return found

        with garbage.restored(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(here(configuration), sockets, read and (lambda: here(read())), prepare, on_ready))
    finally:
        for each in sockets:
            each.close()


def check_addresses(configuration: Configuration) -> None:
    """Refuse a provider whose address is that of this very server: requests would go round in circles."""
    for provider in configuration.providers:
        address = provider.base_url
        if address and provider.is_set_up and points_at(address, configuration.host, configuration.port):
            raise ConfigurationError(
                f"The address of provider “{provider.name}” is this server itself ({address}), so requests would go "
                "round in circles. Unset it for the server (OPENAI_BASE_URL is often meant for clients only), "
                "or choose another port.",
                provider=provider.name,
            )


async def _serve(
    configuration: Configuration,
    sockets: Sequence[socket],
    read: Callable[[], Configuration] | None,
    prepare: Preparation | None,
    on_ready: Callable[[str], None] | None,
) -> int:
    manager = ModelManager(configuration=configuration)
    if read is not None:
        manager.read_by(read)
    manager.persist_at(Place.of(configuration))
    app = create_app(manager)
    server = HttpServer(app, on_stop=app.end_streams)
    with on_signals(server, manager):
        try:
            async with manager:
                manager.announce(configuration.url)
                await _run(server, app, sockets, manager, prepare, on_ready)
        except asyncio.CancelledError:
            if not server.should_exit:
                raise
    return 130 if server.force_exit else 0


async def _run(
    server: HttpServer,
    app: Application,
    sockets: Sequence[socket],
    manager: ModelManager,
    prepare: Preparation | None,
    on_ready: Callable[[str], None] | None,
) -> None:
    async def prepared() -> None:
        await server.listening.wait()
        if prepare is not None:
            await prepare(manager)
        garbage.set_aside()
        app.readiness.preparing = False
        if on_ready is not None:
            on_ready(manager.configuration.url)

    app.readiness.preparing = True
    serving = asyncio.create_task(server.serve([*sockets]))
    preparing = asyncio.create_task(prepared())
    try:
        await asyncio.wait({serving, preparing}, return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            preparing.result()
        await serving
    finally:
        preparing.cancel()
        server.should_exit = True
        if server.force_exit:
            serving.cancel()
        await asyncio.gather(serving, preparing, return_exceptions=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed (it is not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
