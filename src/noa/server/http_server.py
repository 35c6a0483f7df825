"""Listening: the sockets, and uvicorn on them under our own hand."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from noa.errors import ConfigurationError
from noa.server.connection import Connection
from noa.server.security import bare_host

#: How long requests that run may go on after the server was told to stop, in seconds.
GRACE_S: Final = 10
#: How many connections may wait to be accepted, as they do while the manager starts.
BACKLOG: Final = 2048
#: How often a free port is looked for that both loopbacks have.
_ATTEMPTS: Final = 10


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers. ``listening`` is set when it accepts; ``on_stop`` is called when it ends.

    What runs then may go on for ``grace_s`` seconds.
    """

    def __init__(self, app: ASGIApp, on_stop: Callable[[], None], grace_s: int = GRACE_S) -> None:
        super().__init__(
            uvicorn.Config(
                _ending_quietly(app),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                http=Connection,
                backlog=BACKLOG,
                timeout_graceful_shutdown=grace_s,
            )
        )
        self.listening = asyncio.Event()
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and let what runs finish."""
        self._on_stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs us."""
        yield


def _ending_quietly(app: ASGIApp) -> ASGIApp:
    """The application, for a server that cancels what outlasts its grace and would log that as a failure."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return run


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of ``host``; ``localhost`` is both loopbacks, port 0 a free one.

    Connections are taken in from now on and wait. Raises ``ConfigurationError`` saying what is wrong with the address.
    """
    for attempt in range(_ATTEMPTS):
        sockets: list[socket.socket] = []
        try:
            for family, address in _addresses(host):
                chosen = port_of(sockets) if sockets and port == 0 else port
                sockets += _listen(family, address, chosen, optional=bool(sockets))
        except OSError as error:
            _close(sockets)
            if port == 0 and error.errno == errno.EADDRINUSE and attempt < _ATTEMPTS - 1:
                continue
            raise _refused(error, host, port) from error
        return sockets
    raise AssertionError("the last attempt returns or raises")


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port that they listen on."""
    port: int = sockets[0].getsockname()[1]
    return port


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if bare_host(host) == "localhost":
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _listen(family: socket.AddressFamily, address: str, port: int, *, optional: bool) -> list[socket.socket]:
    """The socket; none for an ``optional`` address that this machine does not have (IPv6 is often off)."""
    try:
        # Named as TCP because asyncio sends without delay (TCP_NODELAY) only on what says so; else 40 ms an answer.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError:
        if optional:
            return []
        raise
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if optional and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return []
        raise
    return [listener]


def _close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _refused(error: OSError, host: str, port: int) -> ConfigurationError:
    if isinstance(error, socket.gaierror):
        return ConfigurationError(f"The host name “{host}” is not known. Leave --host out to listen on this machine.")
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 3001
        return ConfigurationError(
            f"Port {port} is taken by another program. Choose another: noa serve --port {other}",
            details={"port": port},
        )
    if error.errno == errno.EACCES:
        return ConfigurationError(f"Port {port} is reserved for the administrator. Choose one above 1023 with --port.")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(
            f"“{host}” is no address of this machine. Leave --host out to listen on this machine."
        )
    return ConfigurationError(f"Noa cannot listen on {host}, port {port}: {error.strerror}.")
