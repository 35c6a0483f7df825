"""What a failed connection means: the one table from transport exceptions to ``noa.errors``.

``details["sent"]`` says whether the upstream may have taken the request. Only a request that was provably not sent, or
was refused, may be sent again elsewhere.
"""

from __future__ import annotations

import errno
import os

import aiohttp
import msgspec

from noa.errors import AIProviderError, ProviderConnectionError, ProviderResponseError, ProviderTimeoutError

#: Everything a transport can raise; ``OSError`` includes ``TimeoutError`` and resets.
TRANSPORT_FAILURES = (aiohttp.ClientError, OSError)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Who is spoken to, as messages name it. ``advice`` is a sentence on what to check when nothing answers."""

    provider: str
    address: str
    advice: str


def transport_error(failure: Exception, target: Target, patience_s: float) -> AIProviderError:
    """The error to raise for a transport's exception; ``patience_s`` is how long silence was borne.

    Raise it ``from None``: some of aiohttp's exceptions carry the request's headers, and with them the key.
    """
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return _unreachable(target, "no connection within the time limit", ProviderTimeoutError)
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return _unreachable(target, _why(failure), ProviderConnectionError)
        case TimeoutError():
            return _silent(target, patience_s)
        case aiohttp.InvalidURL():
            return _unreachable(target, "that is no address", ProviderConnectionError)
        case aiohttp.ClientPayloadError():
            return _broken(target, "broke its answer off before it was finished")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | OSError():
            return _broken(target, "closed the connection in the middle of a request")
        case _:
            return _broken(target, "sent something that is no HTTP answer")


def _unreachable(target: Target, why: str, error: type[ProviderConnectionError]) -> AIProviderError:
    return error(
        f"{target.provider} cannot be reached at {target.address}: {why}. {target.advice}",
        provider=target.provider,
        details={"sent": False},
    )


def _silent(target: Target, patience_s: float) -> AIProviderError:
    return ProviderTimeoutError(
        f"{target.provider} at {target.address} sent nothing for {patience_s:g} seconds. "
        "It may be overloaded; try again, or raise the provider's timeout.",
        provider=target.provider,
        details={"sent": True},
    )


def _broken(target: Target, what: str) -> AIProviderError:
    return ProviderResponseError(
        f"{target.provider} at {target.address} {what}. Try again.", provider=target.provider, details={"sent": True}
    )


def _why(failure: Exception) -> str:
    """A few words on why no connection came about."""
    match failure:
        case aiohttp.ClientConnectorCertificateError():
            return "its TLS certificate is not trusted"
        case aiohttp.ClientSSLError():
            return "no TLS connection came about"
        case aiohttp.ClientConnectorDNSError():
            return "its host name is not known"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=errno.ECONNREFUSED)):
            return "connection refused"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return os.strerror(number).lower()
        case _:
            return "no connection came about"
