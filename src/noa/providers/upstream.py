"""One upstream over HTTP: its connections, what is sent to it, and what is believed of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from noa.config import Secret
from noa.errors import ModelNotLoadedError, ProviderResponseError
from noa.models import Endpoint
from noa.providers.faults import TRANSPORT_FAILURES, Target, transport_error
from noa.providers.retry_after import parse_limit_reset, parse_retry_after
from noa.trace_context import FOR_UPSTREAM, TRACEPARENT
from noa.version import __version__

#: Seconds for name, connection and TLS together. What runs longer is not going to come, and a request may still go
#: elsewhere while the status line of its answer is held.
CONNECT_TIMEOUT_S = 5.0
#: The largest answer that is read whole.
MAX_BODY_BYTES = 64 * 1024 * 1024
#: The largest error answer that is read.
MAX_ERROR_BYTES = 1024 * 1024
#: How long to wait for the end of an answer whose content is complete, so that its connection can be used again.
LINGER_S = 0.25

#: Statuses with which the headers that say when a limit resets say when to come back.
_LIMITED = frozenset({429, 503})

#: Headers of a caller that may travel to an upstream. Everything else, credentials above all, stays here.
REQUEST_HEADERS = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})
#: Headers of an upstream that may travel to a caller.
RESPONSE_HEADERS = frozenset(
    {"openai-processing-ms", "openai-version", "request-id", "retry-after", "retry-after-ms", "x-request-id"}
)


class UpstreamResponse:
    """An answer of any status, its body not read yet. Whoever has it reads it to the end or closes it."""

    def __init__(self, response: aiohttp.ClientResponse, target: Target, patience_s: float) -> None:
        self._response = response
        self._target = target
        self._patience_s = patience_s
        self.status = response.status
        self.content_type = response.headers.get("content-type", "")
        self._headers = response.headers
        self.headers: Mapping[str, str] = {
            name: response.headers[name] for name in RESPONSE_HEADERS if name in response.headers
        }

    @property
    def media_type(self) -> str:
        """The content type without its parameters, lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def retry_after_s(self) -> float | None:
        """How long the upstream asks to wait; ``retry-after-ms`` is the more exact, limits that reset the last."""
        now = datetime.now(UTC)
        told = parse_retry_after(self._headers, now)
        return parse_limit_reset(self._headers, now) if told is None and self.status in _LIMITED else told

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the upstream's own chunks. One that breaks off or stalls raises."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TRANSPORT_FAILURES as failure:
            self.close()
            raise transport_error(failure, self._target, self._patience_s) from None

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises ``ProviderResponseError`` if it is larger than ``limit`` bytes."""
        pieces: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                self.close()
                raise self.nonsense(f"sent more than {limit // (1024 * 1024)} MiB")
            pieces.append(chunk)
        return b"".join(pieces)

    async def finish(self) -> None:
        """Let go of an answer whose content is complete: its connection is kept if its end arrives shortly."""
        content = self._response.content
        if not content.at_eof():
            try:
                async with asyncio.timeout(LINGER_S):
                    while not content.at_eof():
                        await content.readany()
            except TRANSPORT_FAILURES:
                self._response.close()
        self._response.release()

    def close(self) -> None:
        """Let go of the upstream at once. Closing twice, or after the end, does nothing."""
        self._response.close()

    def nonsense(self, what: str) -> ProviderResponseError:
        """The error for an answer that cannot be used; ``what`` goes on from the provider's name."""
        return ProviderResponseError(
            f"{self._target.provider} at {self._target.address} {what}.",
            provider=self._target.provider,
            details={"sent": True, "upstream_status": self.status},
        )


class Upstream:
    """The connections to one address, and to the sockets of engines behind the same provider.

    ``headers`` go to ``base_url`` only, never to a socket and never along a redirect (none is followed).
    ``timeout_s`` limits silence, not the whole: an answer may take as long as it keeps coming. Connections open on
    first use, in the loop that uses them.
    """

    def __init__(
        self,
        target: Target,
        *,
        base_url: str | None,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        secret: Secret | None = None,
        reuse: bool = True,
    ) -> None:
        self.target = target
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._bare_headers = CIMultiDict(
            {
                "accept-encoding": "identity",
                "content-type": "application/json",
                "user-agent": f"noa/{__version__}",
            }
        )
        self._headers = CIMultiDict({**self._bare_headers, **(headers or {})})
        self._secret = secret
        self._reuse = reuse
        self._unlimited = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._engine_sessions: dict[str, aiohttp.ClientSession] = {}
        self._url = lru_cache(maxsize=64)(lambda base, path: URL(base + path, encoded=True))
        self._engine_target = Target(
            provider=target.provider,
            address="the socket of its engine",
            advice="The engine may have crashed; load the model again.",
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Iterable[tuple[str, str]] = (),
        endpoint: Endpoint | None = None,
        total_s: float | None = None,
    ) -> UpstreamResponse:
        """Send a request and return the answer, whatever its status.

        ``path`` follows the base URL, or that of ``endpoint``, as it stands. ``headers`` are a caller's and filtered
        here. ``total_s`` limits the whole exchange. Raises what ``faults`` says, and ``ProviderResponseError`` for a
        redirect or a compressed answer, since neither was asked for.
        """
        session, base, target = self._route(endpoint)
        patience_s = self._timeout_s if total_s is None else total_s
        sent = self._headers if endpoint is None else self._bare_headers
        travelling = [(name, value) for name, value in headers if name.lower() in REQUEST_HEADERS]
        if (traced := FOR_UPSTREAM.get()) is not None:
            travelling.append((TRACEPARENT, traced))
        if travelling:
            sent = sent.copy()
            sent.update(travelling)
        try:
            response = await session.request(
                method,
                self._url(base, path),
                data=body,
                headers=sent,
                allow_redirects=False,
                timeout=self._unlimited if total_s is None else self._limited(total_s),
            )
        except TRANSPORT_FAILURES as failure:
            raise transport_error(failure, target, patience_s) from None
        answer = UpstreamResponse(response, target, patience_s)
        if 300 <= answer.status < 400:
            answer.close()
            raise answer.nonsense("answered with a redirect, which is not followed. Check its address")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            answer.close()
            raise answer.nonsense("sent a compressed answer, which was not asked for")
        return answer

    def at(self, base_url: str) -> Upstream:
        """The same service under another base URL, with connections of its own."""
        return Upstream(
            msgspec.structs.replace(self.target, address=base_url),
            base_url=base_url,
            timeout_s=self._timeout_s,
            headers=self._headers,
            secret=self._secret,
            reuse=self._reuse,
        )

    def redact(self, body: bytes) -> bytes:
        """``body`` without the key, should the upstream have repeated it."""
        if self._secret is None:
            return body
        return body.replace(self._secret.reveal().encode(), b"[redacted]")

    async def forget(self, endpoint: Endpoint) -> None:
        """Drop what was kept for an engine that is gone."""
        if session := self._engine_sessions.pop(_place(endpoint), None):
            await session.close()

    async def aclose(self) -> None:
        """Close every connection."""
        sessions = [*self._engine_sessions.values(), *([self._session] if self._session else [])]
        self._session = None
        self._engine_sessions.clear()
        for session in sessions:
            await session.close()

    def _route(self, endpoint: Endpoint | None) -> tuple[aiohttp.ClientSession, str, Target]:
        if endpoint is not None:
            return self._engine_session(endpoint), versioned(endpoint.base_url), self._engine_target
        if self._base_url is None:
            raise ModelNotLoadedError(
                f"This model of {self.target.provider} runs in a process of its own, and that is not running: load it.",
                provider=self.target.provider,
            )
        if self._session is None:
            self._session = self._open_session(aiohttp.TCPConnector(limit=0, force_close=not self._reuse))
        return self._session, self._base_url, self.target

    def _engine_session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        """The session for an engine. llama.cpp closes after a stream while it announces keep-alive: never reuse."""
        place = _place(endpoint)
        session = self._engine_sessions.get(place)
        if session is None:
            connector: aiohttp.BaseConnector
            if endpoint.socket_path:
                connector = aiohttp.UnixConnector(endpoint.socket_path, limit=0, force_close=True)
            else:
                connector = aiohttp.TCPConnector(limit=0, force_close=True)
            session = self._engine_sessions[place] = self._open_session(connector)
        return session

    def _open_session(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("user-agent", "accept-encoding"),
            timeout=self._unlimited,
        )

    def _limited(self, total_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=total_s, connect=CONNECT_TIMEOUT_S, sock_read=self._timeout_s)


def versioned(base_url: str) -> str:
    """A base URL with the ``/v1`` that some people write and others leave out."""
    base_url = base_url.rstrip("/")
    return base_url if base_url.endswith("/v1") else base_url + "/v1"


def _place(endpoint: Endpoint) -> str:
    return endpoint.socket_path or endpoint.base_url
