"""URLs of providers: which may be configured, and which are our own."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from noa.presets import ProviderPreset

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Ollama's port, where ``OLLAMA_HOST`` names neither one nor a scheme.
OLLAMA_PORT = 11434
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server listens on is no address to ask


def provider_address(value: str, preset: ProviderPreset | None) -> str:
    """The base URL that somebody gave for a service; raises ``ValueError`` with what it must be.

    Ollama's may be anything that ``OLLAMA_HOST`` may. An address without a path gets the one of the service's API.
    """
    if preset is not None and preset.type == "ollama":
        return checked_base_url(ollama_address(value)).removesuffix("/v1").removesuffix("/api")
    base_url = checked_base_url(value)
    if preset is None:
        return base_url
    if preset.dialect == "anthropic":
        return base_url.removesuffix("/v1")
    return base_url + preset.path if not urlsplit(base_url).path else base_url


def ollama_address(value: str) -> str:
    """The URL that ``OLLAMA_HOST`` means: ``host``, ``host:port`` or a URL.

    As in Ollama's ``envconfig``: without a scheme the port is 11434, with one it is the scheme's, and a wildcard, which
    a server listens on, means this machine.
    """
    scheme, separator, rest = value.strip().partition("://")
    if not separator:
        scheme, rest = "http", value.strip()
        if rest == "ollama.com":
            return "https://ollama.com"
    place, slash, path = rest.partition("/")
    bare = place.count(":") > 1 and not place.startswith("[")
    host, port = (place, "") if bare else _split_port(place)
    host = host.strip("[]") or "127.0.0.1"
    host = _WILDCARDS.get(host, host)
    port = port or ("" if separator else str(OLLAMA_PORT))
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}{slash}{path}"


def _split_port(place: str) -> tuple[str, str]:
    """``host:port``, ``[host]:port`` or either without a port."""
    if place.endswith("]"):
        return place, ""
    host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
    return host, port


def checked_base_url(value: str) -> str:
    """The base URL without a trailing slash; raises ``ValueError`` with what it must be.

    What is wrong is said without repeating the value, which may hold a password.
    """
    if any(character.isspace() or not character.isprintable() for character in value):
        raise ValueError("must be a URL without spaces")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        raise ValueError("must be a URL that begins with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must be a URL without a user name or password; the key has a setting of its own")
    if parts.query or parts.fragment:
        raise ValueError("must be a URL without “?” or “#”")
    return value.rstrip("/")


def points_at(base_url: str, host: str, port: int) -> bool:
    """Whether a request to ``base_url`` would come back to a server that listens on ``host`` and ``port``.

    Somebody who exports ``OPENAI_BASE_URL=http://localhost:3001/v1`` for clients, and starts Noa in the same shell,
    must not make it ask itself. All names of this machine's loopback count as one; a wildcard host includes them. Names
    are not looked up.
    """
    try:
        parts = urlsplit(base_url)
        target_port = _port(parts)
    except ValueError:
        return False
    if target_port != port or parts.hostname is None:
        return False
    target, own = _bare(parts.hostname), _bare(host)
    return target == own or (_is_here(target) and _is_here(own))


def _port(parts: SplitResult) -> int | None:
    return parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme)


def _bare(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _is_here(host: str) -> bool:
    """Whether the host is the loopback or a wildcard, by any of its spellings."""
    if host in ("", "localhost") or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return address.is_loopback or address.is_unspecified
