"""Noa inside an application of one's own: its lifespan, a model for each request, and the whole API mounted.

    app = FastAPI(lifespan=lifespan)

    @app.post("/chat")
    async def chat(question: Question, model: CurrentModel) -> str:
        return (await model.chat(question.text, max_tokens=200)).text

``CurrentModel`` is the quick start's ``ensureModelLoaded``: there is a loaded model for as long as the request lasts,
its streamed answer included, or the caller is told 503 with ``Retry-After``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Final, cast, overload

from fastapi import Depends, HTTPException
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from noa.engine import DEFAULT_WAIT_S
from noa.errors import AIProviderError, ConfigurationError, ModelUnavailableError
from noa.leased_model import LeasedModel
from noa.manager import ModelManager
from noa.selection.aliases import CURRENT
from noa.server.app import Application, create_app
from noa.server.errors import encode_envelope, headers_of

#: When a caller should try again where nothing better is known, in seconds.
RETRY_AFTER_S: Final = 5.0

#: Where a request finds the manager, in the state of the application and of the lifespan alike.
_STATE: Final = "noa_manager"

#: What a framework runs an application's life by; what it yields is the state of every request.
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, Any]]]
#: What ``Depends`` takes.
Dependency = Callable[[HTTPConnection], AsyncGenerator[LeasedModel, None]]


@overload
def lifespan(given: Starlette) -> AbstractAsyncContextManager[Mapping[str, Any]]: ...
@overload
def lifespan(given: ModelManager) -> Lifespan: ...
def lifespan(given: Starlette | ModelManager) -> AbstractAsyncContextManager[Mapping[str, Any]] | Lifespan:
    """A manager that runs as long as the application.

    ``FastAPI(lifespan=lifespan)`` has one that the environment configures, ``FastAPI(lifespan=lifespan(manager))``
    one of yours. A lifespan of your own enters it: ``async with lifespan(manager)(app) as state: yield state``.
    """
    if isinstance(given, ModelManager):
        manager = given
        return lambda app: _running(app, manager)
    return _running(given, ModelManager.from_environment())


@asynccontextmanager
async def _running(app: Starlette, manager: ModelManager) -> AsyncGenerator[Mapping[str, Any], None]:
    async with manager:
        setattr(app.state, _STATE, manager)
        yield {_STATE: manager}


def manager_of(connection: HTTPConnection) -> ModelManager:
    """The manager of the application that a request came to. Raises ``ConfigurationError`` if it has none."""
    of_lifespan = connection.scope.get("state", {}).get(_STATE)
    found = of_lifespan or getattr(connection.app.state, _STATE, None)
    if found is None:
        raise ConfigurationError(
            "This application runs no manager: make it with FastAPI(lifespan=noa.integrations.fastapi.lifespan)."
        )
    return cast("ModelManager", found)


def ensure_model(name: str | None = None, *, wait_s: float = DEFAULT_WAIT_S, priority: int = 0) -> Dependency:
    """A dependency that gives each request a loaded model; without a name, the one in use, or else the default one.

    Use it with ``Depends(ensure_model("prod"), scope="request")``: the lease then lasts until the answer has been sent,
    however long it streams. ``wait_s`` is how long a request may wait for its model. A request that cannot have it is
    answered with 503 and ``Retry-After``.
    """

    async def ensured(connection: HTTPConnection) -> AsyncGenerator[LeasedModel, None]:
        manager = manager_of(connection)
        use = manager.use(name, wait_s=wait_s, priority=priority)
        try:
            if name in (None, CURRENT) and manager.current_model is None:
                await _load_default(manager, wait_s)
            model = await use.__aenter__()
        except AIProviderError as error:
            raise _unavailable(error) from error
        try:
            yield model
        finally:
            await use.__aexit__(None, None, None)

    return ensured


async def _load_default(manager: ModelManager, wait_s: float) -> None:
    """Have a model in use: the configured provider's default one."""
    provider = manager.configuration.default_provider_config
    if provider is None or provider.default_model is None:
        raise ModelUnavailableError(
            "No model is in use, and no default model is configured.", retry_after_s=RETRY_AFTER_S
        )
    await manager.load_model(provider, provider.default_model, wait_s=wait_s)


def _unavailable(error: AIProviderError) -> HTTPException:
    """What a caller is told of a model that the application cannot have, whatever the reason: it is not theirs."""
    told = ModelUnavailableError(error.message, retry_after_s=error.retry_after_s or RETRY_AFTER_S)
    return HTTPException(
        told.status, error.message, {name.decode(): value.decode() for name, value in headers_of(told)}
    )


async def answer_refusal(_: Request, error: Exception) -> Response:
    """Answer whatever a model or provider refused with its own status, as the management API does.

    Register it: ``app.add_exception_handler(AIProviderError, answer_refusal)``.
    """
    if not isinstance(error, AIProviderError):
        raise error
    status, body = encode_envelope(error)
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    return Response(body, error.inference_status or status, headers, "application/json")


def asgi(manager: ModelManager) -> Application:
    """The whole API over a manager, to be mounted anywhere: ``app.mount("/ai", asgi(manager))``.

    The application's own ``lifespan`` runs the manager. Hosts other than loopback must be listed in ``allowed_hosts``
    of the configuration (``NOA_ALLOWED_HOSTS``), and its ``api_key`` is asked for here too. Listeners to
    ``/api/v1/events`` stay for ever: call ``end_streams`` of what this gives when the server is about to stop, or give
    the server a limit (uvicorn: ``--timeout-graceful-shutdown``).
    """
    return create_app(manager)


#: The model in use, loaded, for as long as the request lasts.
CurrentModel = Annotated[LeasedModel, Depends(ensure_model(), scope="request")]
#: The manager that the application runs.
Manager = Annotated[ModelManager, Depends(manager_of)]
