"""Who may ask at all: decisions over the headers of a request, taken once for every route.

A page in the user's browser must not reach a server on loopback: neither by a host name of its own that resolves to
127.0.0.1 (DNS rebinding, hence the check of ``Host``), nor by a plain form (hence the check of ``Origin``). Where a key
is set, every path but liveness asks for it; the path judged is the one that is routed, never one rebuilt from headers.
People at a browser give it as the password of HTTP Basic (RFC 7617), with any user name; a browser then adds it by
itself, also to what other sites make it send, so what it opens is held to our own pages.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import msgspec

from noa.config import Configuration
from noa.errors import AuthenticationError, ConfigurationError, HostNotAllowedError, ValidationError

#: The route that tells nothing and asks for nothing, and the other places where monitors look for it.
LIVENESS_PATH: Final = "/api/v1/status/live"
LIVENESS_PATHS: Final = frozenset({LIVENESS_PATH, "/health", "/v1/health"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE)


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the name of the key that was shown, if it is a caller's own, and whether they own the server.

    Whoever shows the server's own key owns it, and where none is set, whoever reaches it.
    """

    name: str | None = None
    is_owner: bool = False


OWNER: Final = Caller(is_owner=True)


def nobody(_: bytes) -> str | None:
    """Knows no caller's key."""
    return None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is held against. ``hosts`` are the names we answer to, ``None`` for any.

    ``origins`` are those whose pages may use us too. ``name_of`` tells whose key one is, if it is a caller's own.
    """

    hosts: frozenset[str] | None
    api_key: bytes | None = None
    origins: frozenset[str] = frozenset()
    name_of: Callable[[bytes], str | None] = nobody

    @classmethod
    def of(cls, configuration: Configuration, name_of: Callable[[bytes], str | None] = nobody) -> Gate:
        """What the configuration asks for.

        A server that listens on every address cannot know its names; it has a key then, and a page that rebinds its
        name does not. So it answers to any name, unless ``allowedHosts`` lists them.
        """
        listed = [bare_host(host) for host in configuration.allowed_hosts]
        key = None if configuration.api_key is None else configuration.api_key.reveal().encode()
        anyhow = "*" in listed or (key is not None and not listed and is_wildcard(configuration.host))
        hosts = None if anyhow else LOOPBACK_NAMES | {bare_host(configuration.host), *listed}
        return cls(hosts=hosts, api_key=key, origins=frozenset(configuration.allowed_origins), name_of=name_of)

    def __repr__(self) -> str:
        return f"Gate(hosts={self.hosts!r}, api_key={'…' if self.api_key else None})"

    def check(self, method: str, path: str, raw_headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Say who asks, or raise ``HostNotAllowedError``, ``AuthenticationError`` or ``ValidationError``."""
        headers = dict(raw_headers)
        self.check_host(raw_headers)
        if method not in SAFE_METHODS and (origin := headers.get(b"origin")) is not None:
            self._check_browser(origin.decode("latin-1"), headers)
        caller = self.caller(_shown_by_programs(headers))
        if caller is not None:
            return caller
        if path in LIVENESS_PATHS:
            return Caller()
        caller = self.caller(_shown_by_browsers(headers))
        if caller is None:
            raise AuthenticationError(
                "This server asks for its key (NOA_API_KEY): send it as “Authorization: Bearer …” or “x-api-key”."
            )
        if method not in SAFE_METHODS:
            _check_own_page(headers)
        return caller

    def check_host(self, raw_headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise ``HostNotAllowedError`` unless the one Host header names us."""
        hosts = [value for name, value in raw_headers if name == b"host"]
        if len(hosts) != 1 or not self.answers_to(hosts[0].decode("latin-1")):
            raise HostNotAllowedError(
                "The Host header names a host that is not this server's. "
                "If it should be, list it under server.allowedHosts (NOA_ALLOWED_HOSTS)."
            )

    def answers_to(self, host: str) -> bool:
        """Whether a Host header is well formed and names us."""
        named = _named(host)
        return named is not None and (self.hosts is None or named in self.hosts)

    def caller(self, shown: Sequence[bytes]) -> Caller | None:
        """Whose keys these are; ``None`` if a key is asked for and none of them opens anything."""
        if self.api_key is not None:
            for each in shown:
                if hmac.compare_digest(each, self.api_key):
                    return OWNER
        name = next((name for each in shown if (name := self.name_of(each)) is not None), None)
        if self.api_key is None:
            return OWNER if name is None else Caller(name, is_owner=True)
        return None if name is None else Caller(name)

    def _check_browser(self, origin: str, headers: Mapping[bytes, bytes]) -> None:
        if not self.answers_to(_host_of(origin)) and origin.lower() not in self.origins:
            raise HostNotAllowedError(
                "A page of another site may not change anything here; its Origin header is not this server's. "
                "If it should be, list it under server.allowedOrigins (NOA_ALLOWED_ORIGINS)."
            )
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        if has_body and not _is_json(headers):
            raise ValidationError("The body of a request from a browser must be of Content-Type application/json.")


@lru_cache(maxsize=256)
def _named(host: str) -> str | None:
    """The name in a Host header, ``None`` if that is none. The same few come with every request."""
    match = _HOST.fullmatch(host)
    return None if match is None else bare_host(match[1])


def _shown_by_programs(headers: Mapping[bytes, bytes]) -> Sequence[bytes]:
    """The keys where only a program puts them; an empty one is none."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    bearer = token.strip() if scheme.lower() == b"bearer" else b""
    return [key for key in (bearer, headers.get(b"x-api-key", b"")) if key]


def _shown_by_browsers(headers: Mapping[bytes, bytes]) -> Sequence[bytes]:
    """The password of HTTP Basic."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return ()
    try:
        _, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return ()
    return (password,) if password else ()


def check_exposure(configuration: Configuration) -> None:
    """Refuse to listen beyond the loopback without a key for callers. Raises ``ConfigurationError``."""
    if configuration.api_key is None and not is_loopback(configuration.host):
        raise ConfigurationError(
            f"Anybody on the network could use the models if Noa listened on {configuration.host} without a key. "
            "Set NOA_API_KEY to the key its callers must send, or leave --host out."
        )


def _check_own_page(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a change by credentials that a browser adds by itself, unless a page of this very server asked for it.

    Without an ``Origin`` it is no page's script; then the type that no form can have tells it from a form.
    """
    origin = headers.get(b"origin")
    if origin is None:
        if not _is_json(headers):
            raise ValidationError(
                "A change by HTTP Basic must be of Content-Type application/json; "
                "or send the key as “Authorization: Bearer …”."
            )
    elif not _is_same_origin(origin.decode("latin-1"), headers.get(b"host", b"").decode("latin-1")):
        raise HostNotAllowedError(
            "A page of another site may not change anything here by HTTP Basic; its Origin header is not this "
            "server's. Send the key as “Authorization: Bearer …” instead."
        )


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether a page is of the host and port that were asked. A proxy may have taken TLS off, so schemes may differ."""
    scheme = origin.partition(":")[0].lower()
    default = _DEFAULT_PORTS.get(scheme, "")
    own = _host_of(origin).lower().removesuffix(default)
    return bool(own) and own == host.lower().removesuffix(default)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a server that listens there."""
    if bare_host(host) == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare_host(host)).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether it stands for every address of this machine."""
    try:
        return ipaddress.ip_address(bare_host(host)).is_unspecified
    except ValueError:
        return False


def bare_host(host: str) -> str:
    """A host without port, brackets, final dot or capitals."""
    match = _HOST.fullmatch(host)
    return (match[1] if match else host).strip("[]").rstrip(".").lower()


def _host_of(origin: str) -> str:
    """The host of an origin; empty for ``null`` and nonsense, which is nobody's."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") else ""
