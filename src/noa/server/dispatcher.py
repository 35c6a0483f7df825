"""What every request passes first: Host, key and limits once for all routes, then the hot path or the framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import quote

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from noa.errors import AIProviderError, ConfigurationError, ModelUnavailableError
from noa.manager import ModelManager
from noa.server import pages
from noa.server.compressed_body import unfold
from noa.server.cross_origin import admit_origin, answer_preflight, is_preflight
from noa.server.errors import BEARER, answer_error, encoder_for, internal_error, no_route, wrong_method
from noa.server.exchange import ClientGoneError, Exchange
from noa.server.model_path import canonical_rest
from noa.server.security import Gate

logger = logging.getLogger(__name__)

#: The hot route whose last part varies.
MODEL_PATTERN: Final = "/v1/models/{model}"

_MODEL_PREFIX: Final = "/v1/models/"
_MODELS: Final = "/api/v1/models/"


class HotRoute(msgspec.Struct, frozen=True):
    """A route that no framework touches."""

    method: str
    handle: Callable[[Exchange], Awaitable[None]]


class Dispatcher:
    """The ASGI application. It can be mounted under a prefix, by an application whose lifespan runs the manager."""

    def __init__(self, manager: ModelManager, hot: Mapping[str, HotRoute], framework: ASGIApp) -> None:
        self._manager = manager
        self._gate = Gate.of(manager.configuration, manager.caller_of)
        self._max_body_bytes = manager.configuration.max_body_bytes
        self._hot = hot
        self._framework = framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await _decline(scope, receive, send)
            return
        path = path_below(scope)
        exchange = Exchange(scope, path, receive, send, self._max_body_bytes)
        try:
            await self._handle(exchange)
        except ClientGoneError:
            return
        except AIProviderError as error:
            if exchange.started:
                raise
            challenge = pages.challenge(scope["method"], path) or BEARER
            await answer_error(exchange, error, encoder_for(exchange), challenge=challenge)
        except asyncio.CancelledError:
            if not exchange.started:
                ending = ModelUnavailableError("Noa is shutting down.", retry_after_s=5)
                await answer_error(exchange, ending, encoder_for(exchange))
            raise
        except Exception:
            logger.exception("request %s (%s %s) failed unexpectedly", exchange.request_id, scope["method"], path)
            if exchange.finished:
                return
            if exchange.started:
                # Without its end, nobody takes the answer for complete.
                raise
            await answer_error(exchange, internal_error(exchange.request_id), encoder_for(exchange))

    async def _handle(self, exchange: Exchange) -> None:
        scope = exchange.scope
        if self._gate.origins:
            self._gate.check_host(scope["headers"])
            if admit_origin(exchange, self._gate.origins) and is_preflight(exchange):
                await answer_preflight(exchange)
                return
        exchange.caller = self._gate.check(scope["method"], exchange.path, scope["headers"])
        exchange.check_length()
        if b"content-encoding" in exchange.headers:
            await unfold(exchange)
        await self._route(exchange)

    async def _route(self, exchange: Exchange) -> None:
        method, path = exchange.scope["method"], exchange.path
        route = self._hot.get(path) or self._hot.get(path.rstrip("/")) or self._hot.get(_pattern(path))
        if route is not None:
            methods = [route.method, "HEAD"] if route.method == "GET" else [route.method]
            if method not in methods:
                raise wrong_method(method, path, methods)
            await route.handle(exchange)
        elif pages.is_page(path):
            if method not in ("GET", "HEAD"):
                raise wrong_method(method, path, ["GET", "HEAD"])
            await pages.show(exchange, path)
        elif path.startswith("/v1/") or self._meant(path):
            raise no_route(method, path, self._meant(path))
        else:
            scope = exchange.scope_for(exchange.scope.get("root_path", "") + self._canonical(exchange.scope, path))
            await self._framework(scope, exchange.receive, exchange.send)

    def _meant(self, path: str) -> str | None:
        """The inference route of a client whose base URL has ``/v1``, or a slash, too many or too few."""
        bare = "".join(f"/{segment}" for segment in path.split("/") if segment not in ("", "v1"))
        return next((known for known in self._hot if known.removeprefix("/v1") == bare and known != path), None)

    def _canonical(self, scope: Scope, path: str) -> str:
        """The path as the framework routes it: whatever a key looks like, it is one segment."""
        trimmed = path.rstrip("/") or "/"
        if not trimmed.startswith(_MODELS):
            return trimmed
        segments = _raw_segments(scope, path)
        while segments and not segments[-1]:
            segments.pop()
        return _MODELS + canonical_rest(segments, self._is_known)

    def _is_known(self, name: str) -> bool:
        try:
            return name in self._manager.registry
        except ConfigurationError:
            return False


def path_below(scope: Scope) -> str:
    """The path below where the application is mounted, as ASGI tells it: ``root_path`` is the beginning of ``path``."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def _pattern(path: str) -> str:
    """The one hot route whose last part varies, and may hold slashes."""
    return MODEL_PATTERN if path.startswith(_MODEL_PREFIX) and path != _MODEL_PREFIX else ""


def _raw_segments(scope: Scope, path: str) -> list[str]:
    """The segments after ``/models/``, percent-encoded as they came where the server tells."""
    below = [quote(segment, safe="") for segment in path[len(_MODELS) :].split("/")]
    raw = scope.get("raw_path")
    if not raw:
        return below
    skipped = scope["path"].removesuffix(path).count("/") + _MODELS.count("/")
    encoded: list[str] = raw.decode("ascii", "replace").split("/")[skipped:]
    return encoded or below


async def _decline(scope: Scope, receive: Receive, send: Send) -> None:
    """There is no lifespan here to run, and there are no web sockets."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        return
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
