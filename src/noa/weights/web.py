"""Files of the web as they are asked for: an address that is checked, redirects that are followed with care."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
import msgspec

from noa.config import Secret
from noa.errors import ConfigurationError, ModelLoadError, ValidationError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
#: A server may be silent for this long, in seconds; the whole may take as long as it takes.
_STALL_TIMEOUT_S = 60.0
#: Answers that begin the file, go on with it, and say that there is nothing to go on with (RFC 9110, section 14).
_USEFUL = frozenset({200, 206, 416})
_NOT_ALLOWED = frozenset({401, 403})


class WebFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to fetch, and what is known of it before.

    ``token`` goes to the host of ``address`` and to no other it redirects to. ``locked`` is what to say where the file
    is not given to us. ``cached`` is where another program of this machine keeps the file already.
    """

    name: str
    address: str
    size_bytes: int | None = None
    sha256: str | None = None
    token: Secret | None = None
    locked: str | None = None
    cached: Path | None = None

    @property
    def host(self) -> str:
        """Who has the file, for messages."""
        return urlsplit(self.address).hostname or ""

    @property
    def plain_address(self) -> str:
        """The address without what may be secret in it or change."""
        return urlsplit(self.address)._replace(query="", fragment="").geturl()


def session() -> aiohttp.ClientSession:
    """A client that waits for a silent server as long as is sensible, and goes through the proxies of this machine."""
    timeout = aiohttp.ClientTimeout(total=None, connect=_STALL_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S)
    return aiohttp.ClientSession(timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar())


async def answers(
    client: aiohttp.ClientSession, file: WebFile, more_headers: Mapping[str, str]
) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    """Yield the answer behind an address once, open; follow redirects, but never from https to anything else.

    Its status is 200, 206 or 416. Raises ``ModelLoadError`` and ``ConfigurationError`` for what will not change by
    itself, and aiohttp's errors for what may.
    """
    url = first = checked(file.address)
    for _ in range(_MAX_REDIRECTS + 1):
        headers = {"Accept-Encoding": "identity", **more_headers}
        if file.token is not None and (url.scheme, url.netloc) == (first.scheme, first.netloc):
            headers["Authorization"] = f"Bearer {file.token.reveal()}"
        async with client.get(url.geturl(), allow_redirects=False, headers=headers) as response:
            if response.status in _USEFUL:
                yield response
                return
            if response.status not in _REDIRECTS:
                raise _refused(response, url, file)
            url = onward(url, response.headers.get("Location", ""))
    raise ModelLoadError(f"{url.hostname} redirects more than {_MAX_REDIRECTS} times; check the address.")


def _refused(response: aiohttp.ClientResponse, url: SplitResult, file: WebFile) -> Exception:
    if response.status in _NOT_ALLOWED and file.locked is not None:
        return ConfigurationError(file.locked)
    if response.status == 429 or response.status >= 500:
        return aiohttp.ClientResponseError(response.request_info, (), status=response.status)
    return ModelLoadError(f"{url.hostname} answered {response.status} instead of the weights; check the address.")


def onward(url: SplitResult, location: str) -> SplitResult:
    """Where a redirect leads. Raises ``ModelLoadError`` if that gives up TLS."""
    target = checked(urljoin(url.geturl(), location))
    if url.scheme == "https" and target.scheme != "https":
        raise ModelLoadError(f"{url.hostname} redirects to an address without TLS, which is not followed.")
    return target


def checked(address: str) -> SplitResult:
    """The parts of an address. Raises ``ValidationError`` for one of another kind, or with credentials."""
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValidationError("The address of the weights must begin with https:// or http:// and name a host.")
    if url.username is not None or url.password is not None:
        raise ValidationError(f"The address at {url.hostname} holds credentials; give one without.")
    return url


def said(error: Exception) -> str:
    """What went wrong, without the address, which may hold a token."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"it answered {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    return "nothing came for too long" if isinstance(error, TimeoutError) else "the connection broke off"
