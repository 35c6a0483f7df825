"""The pages for people: the landing page, the API's documentation, and what they are made of."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from noa.server.exchange import Exchange, RawHeader

_OURS: Final = "noa.server"
_SWAGGER: Final = "fastapi_swagger"

#: Path → the package and file it shows, and its type.
_FILES: Final = {
    "/": (_OURS, "static/index.html", "text/html; charset=utf-8"),
    "/assets/page.js": (_OURS, "static/page.js", "text/javascript; charset=utf-8"),
    "/assets/page.css": (_OURS, "static/page.css", "text/css; charset=utf-8"),
    "/api-docs": (_OURS, "static/api-docs.html", "text/html; charset=utf-8"),
    "/api-docs/assets/start.js": (_OURS, "static/api-docs.js", "text/javascript; charset=utf-8"),
    "/api-docs/assets/swagger-ui-bundle.js": (
        _SWAGGER, "resources/swagger-ui-bundle.js", "text/javascript; charset=utf-8",
    ),
    "/api-docs/assets/swagger-ui.css": (_SWAGGER, "resources/swagger-ui.css", "text/css; charset=utf-8"),
    "/api-docs/assets/favicon.png": (_SWAGGER, "resources/favicon-32x32.png", "image/png"),
}  # fmt: skip

_SAFE: Final[tuple[RawHeader, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_POLICY: Final = b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
#: Swagger UI draws its icons from data URLs and styles its parts in place.
_DOCS_POLICY: Final = _POLICY + b"; img-src 'self' data:; style-src 'self' 'unsafe-inline'"


def is_page(path: str) -> bool:
    """Whether a page, or a part of one, is at this path."""
    return path in _FILES


def challenge(method: str, path: str) -> bytes | None:
    """How a browser is told to ask its person for the key (RFC 7617); ``None`` where nobody looks at a page."""
    return b'Basic realm="Noa"' if method in ("GET", "HEAD") and is_page(path) else None


async def show(exchange: Exchange, path: str) -> None:
    """Answer with a page or a part of one."""
    package, file, content_type = _FILES[path]
    policy = _DOCS_POLICY if path.startswith("/api-docs") else _POLICY
    headers = (*_SAFE, (b"content-security-policy", policy))
    await exchange.answer(200, _content(package, file), content_type, headers)


@cache
def _content(package: str, file: str) -> bytes:
    return resources.files(package).joinpath(file).read_bytes()
