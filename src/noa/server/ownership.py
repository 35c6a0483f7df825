"""What only the owner of a server may do."""

from __future__ import annotations

from starlette.requests import Request

from noa.config import Configuration
from noa.errors import AuthenticationError
from noa.server.exchange import exchange_of
from noa.server.security import is_loopback


def require_owner(request: Request, configuration: Configuration, what: str) -> None:
    """Let in the server's own key; where none is set, whoever is at this very machine.

    ``what`` is what is done, for the refusal: “Keys are managed”. Raises ``AuthenticationError``.
    """
    exchange = exchange_of(request)
    if not exchange.caller.is_owner:
        raise AuthenticationError(f"{what} with the server's own key (NOA_API_KEY), not with one of those it manages.")
    client = exchange.scope.get("client")
    if configuration.api_key is None and client and not is_loopback(str(client[0])):
        raise AuthenticationError(
            f"{what} from the server's own machine, or with its key: set NOA_API_KEY for the server."
        )
