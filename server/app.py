"""The composition root: create_app reads as the order of things."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match

from graph.assembly import Assembly, open_agent
from graph.model.failures import ModelFailure
from graph.settings import AgentSettings
from server import __version__
from server.docs.document import describes
from server.docs.pages import add_docs
from server.errors import ApiError, InvalidRequest, NotFound
from server.http.body_limit import BodyLimit
from server.http.complaints import NOT_JSON, invalid_body, wrong_type
from server.http.event_stream import error_response
from server.http.foreign_errors import as_api_error
from server.http.guard import KeyGuard
from server.http.identity import Identified
from server.http.json_body import is_json
from server.http.keys import Keys
from server.http.login import login_router
from server.http.normalized import Normalized
from server.models import Models
from server.routes import chat, health, models, playground, runnable, sessions
from server.sessions.dependencies import Services
from server.sessions.index import SessionIndex
from server.sessions.migrations import migrate
from server.sessions.runs import RunOwner
from server.sessions.sweeper import sweep
from server.settings import ServerSettings
from tools.tasks import end_tasks, to_the_end

log = logging.getLogger(__name__)

OpenAgent = Callable[[AgentSettings], AbstractAsyncContextManager[Assembly]]


def create_app(settings: ServerSettings, *, agent: OpenAgent = open_agent) -> FastAPI:
    """Return the server of one agent; the agent itself is opened and closed with the app's lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runs = RunOwner(session_wait=settings.session_wait, run_timeout=settings.run_timeout)
        async with agent(settings) as assembly:
            models = Models(
                settings.ollama_model, settings.model_aliases, settings.models, assembly.model.endpoint.names
            )
            await migrate(assembly.checkpointer)
            index = SessionIndex(assembly.checkpointer)
            app.state.services = Services(assembly, index, runs, models, settings.session_headers)
            beside = {
                asyncio.create_task(sweep(index, runs, settings)),
                asyncio.create_task(_warn_of_silent_model(assembly)),
            }
            try:
                yield
            finally:  # also where the start is given up, as a second Ctrl-C does
                await to_the_end(end_tasks(beside))
                await to_the_end(runs.aclose())

    led_to = pages(settings)
    keys = Keys([key.get_secret_value() for key in settings.api_keys])
    app = FastAPI(
        title="chat-agent",
        version=__version__,
        description="A LangGraph agent with MCP tools and durable sessions, behind OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(Identified, session_headers=settings.session_headers),
            Middleware(Normalized),
            *cross_origin(settings.cors_origins, settings.session_headers),
            Middleware(BodyLimit, limit=settings.max_request_bytes),
            Middleware(KeyGuard, keys=keys, pages=led_to),
        ],
        exception_handlers={
            ApiError: _answer_api_error,
            RequestValidationError: _answer_invalid_body,
            HTTPException: _answer_http_error,
        },
    )
    for route in (chat, models, sessions, health):
        app.include_router(route.router)
    if settings.playground:
        app.include_router(runnable.router)
        app.include_router(playground.router)
    if keys:
        app.include_router(login_router(keys, led_to))
    add_docs(app)
    app.add_route("/", lambda _: RedirectResponse(led_to[0]))
    app.openapi = describes(app, model=settings.ollama_model, needs_key=bool(keys))  # type: ignore[method-assign]
    return app


def pages(settings: ServerSettings) -> Sequence[str]:
    """Return what is made for browsers, the one first that they are led to."""
    return ["/agent/playground/", "/docs", "/redoc"] if settings.playground else ["/docs", "/redoc"]


def cross_origin(origins: Sequence[str], session_headers: Sequence[str]) -> list[Middleware]:
    """Return what lets web pages of these origins in: none of them gets a cookie, each needs a key like anybody."""
    if not origins:
        return []
    exposed = ["x-request-id", "retry-after", "x-should-retry", *session_headers]
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=exposed,
            max_age=600,
        )
    ]


async def _warn_of_silent_model(assembly: Assembly) -> None:
    """Say in one line that the model cannot be asked, or is not there; the server starts all the same."""
    try:
        await assembly.model.check()
    except ModelFailure as error:
        log.warning("%s Going on; requests fail until it does.", as_api_error(error).message)


async def _answer_api_error(_: Request, error: Exception) -> Response:
    return error_response(as_api_error(error))


async def _answer_invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "")
    if error.body is not None and not is_json(kind):
        return error_response(wrong_type(kind))
    return error_response(invalid_body(error.errors()))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):  # FastAPI's, for what went wrong while it read the body
        return error_response(error.__cause__)
    match error.status_code:
        case 404:
            return error_response(NotFound(f"Invalid URL ({request.method} {request.url.path})"))
        case 405:
            return error_response(_not_allowed(request))
        case 400:  # FastAPI's, for a body that it cannot decode
            message = NOT_JSON
        case _:
            message = str(error.detail)
    return error_response(InvalidRequest(message, status=error.status_code, headers=error.headers))


def _not_allowed(request: Request) -> InvalidRequest:
    # Starlette names the methods of one route, and a path of ours may have several.
    routes = iter_route_contexts(request.app.routes)
    others = [route.methods or () for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    methods = {method for methods in others for method in methods} or {"GET"}  # a file's
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return InvalidRequest(
        f"Not allowed to {request.method} on {request.url.path}. (HINT: use {allowed}.)",
        code="method_not_supported",
        status=405,
        headers={"Allow": allowed},
    )
