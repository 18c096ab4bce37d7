"""The composition root: create_app reads as the order of things."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import RedirectResponse

from graph.assembly import Assembly, open_agents
from graph.model.failures import ModelFailure
from graph.settings import AgentSettings
from graph.state import OUR_AGENT
from server import __version__
from server.chat.document import describe_completions
from server.chat.route import router as chat
from server.docs.document import Protocol, add_document
from server.docs.pages import add_docs
from server.health import router as health
from server.http.admission import Admission, Room
from server.http.body_limit import BodyLimit
from server.http.error_handlers import ERROR_HANDLERS
from server.http.event_stream import DRAIN_SECONDS
from server.http.foreign_errors import as_api_error
from server.http.guard import KeyGuard
from server.http.guesses import Guesses
from server.http.identity import Identified
from server.http.keys import Keys
from server.http.login import login_router
from server.http.metrics import Metrics
from server.http.normalized import Normalized
from server.http.routing import add_routes
from server.http.sites import ANY, SiteGuard, matching, own_names
from server.http.telemetry import OF_REQUESTS, telemetry
from server.langserve.playground import router as playground
from server.langserve.route import router as langserve
from server.models import Models
from server.models import router as models
from server.responses.background import Background
from server.responses.compact import router as compact
from server.responses.conversations import router as conversations
from server.responses.document import describe_responses
from server.responses.input_tokens import router as input_tokens
from server.responses.route import router as responses
from server.responses.socket import Sockets
from server.responses.socket import router as socket
from server.sessions.approve import router as approve
from server.sessions.conversations import Conversations
from server.sessions.dependencies import Sessions
from server.sessions.index import open_index
from server.sessions.limits import SessionLimits
from server.sessions.progress import Progress
from server.sessions.responses import Responses
from server.sessions.route import router as sessions
from server.sessions.runs import RunOwner
from server.sessions.shared_leases import open_leases
from server.sessions.sweeper import sweep
from server.settings import ServerSettings
from tools.tasks import end_tasks, to_the_end

log = logging.getLogger(__name__)

OpenAgents = Callable[[AgentSettings], AbstractAsyncContextManager[Assembly]]

PROTOCOLS = (
    Protocol(chat, describe_completions),
    Protocol(responses, describe_responses),
    Protocol(compact),
    Protocol(input_tokens),
    Protocol(socket),
    Protocol(conversations),
    Protocol(models),
    Protocol(sessions),
    Protocol(approve),
    Protocol(health),
)


def create_app(settings: ServerSettings, *, agents: OpenAgents = open_agents) -> FastAPI:
    """Return the server of the agents; they are opened and closed with the app's lifespan."""
    led_to = pages(settings)
    metrics = Metrics()
    guesses = Guesses(metrics)
    keys, room = Keys(settings.keys()), Room(settings.max_runs, settings.max_queued)
    app = FastAPI(
        title="chat-agent",
        version=__version__,
        description="A LangGraph agent with MCP tools and durable sessions, behind OpenAI's API.",
        lifespan=partial(lifespan, settings=settings, agents=agents),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Identified, session_headers=settings.session_headers, metrics=metrics),
            Middleware(Normalized),
            Middleware(
                SiteGuard,
                hosts=allowed_hosts(settings, keys),
                origins=matching(settings.cors_origins),
                needs_key=bool(keys),
            ),
            *cross_origin(settings.cors_origins, settings.session_headers),
            Middleware(BodyLimit, limit=settings.max_request_bytes),
            Middleware(
                KeyGuard,
                keys=keys,
                pages=led_to,
                user_header=settings.trusted_user_header,
                trusted=settings.trusted_keys,
                guesses=guesses,
            ),
            Middleware(Admission, room=room),
        ],
        exception_handlers=ERROR_HANDLERS,
        telemetry=OF_REQUESTS,
    )
    app.state.settings, app.state.keys, app.state.room = settings, keys, room
    app.state.metrics, app.state.guesses = metrics, guesses
    app.state.sockets = Sockets()
    for protocol in PROTOCOLS:
        add_routes(app, protocol.router)
    if settings.playground:
        add_routes(app, langserve)
        add_routes(app, playground)
    if keys:
        add_routes(app, login_router(keys, led_to, guesses))
    add_docs(app)
    app.add_route("/", lambda _: RedirectResponse(led_to[0]))
    add_document(app, PROTOCOLS, model=settings.ollama_model, needs_key=bool(keys))
    return app


@asynccontextmanager
async def lifespan(app: FastAPI, *, settings: ServerSettings, agents: OpenAgents) -> AsyncIterator[None]:
    """Open the agents and the index of their sessions; close them in reverse order."""
    async with telemetry(settings.otel_exporter_otlp_endpoint), agents(settings) as assembly:
        leases = open_leases(assembly.checkpointer.database, session_wait=settings.session_wait)
        index = await open_index(assembly.checkpointer, leases)
        runs = RunOwner(leases, run_timeout=settings.run_timeout)
        limits = SessionLimits(settings.session_max_messages, settings.session_max_bytes)
        progress = Progress(assembly.checkpointer)
        background = app.state.background = Background(progress)
        app.state.sessions = Sessions(
            assembly,
            index,
            runs,
            leases,
            limits,
            Responses(assembly.checkpointer),
            Conversations(assembly.checkpointer.database),
            settings.approve_by_text,
        )
        app.state.models = Models(
            settings.ollama_model,
            [name for name in assembly.agents if name != OUR_AGENT],
            settings.model_aliases,
            settings.models,
            assembly.model.endpoint.names,
        )
        beside = {
            asyncio.create_task(leases.keep(runs.stop_first)),
            asyncio.create_task(sweep(index, progress, leases, settings)),
            asyncio.create_task(_warn_of_silent_model(assembly)),
        }
        try:
            yield
        finally:  # also if the start is cancelled, as by a second Ctrl-C
            await background.ended(within=DRAIN_SECONDS)
            await to_the_end(end_tasks(beside))
            await to_the_end(runs.aclose())
            await to_the_end(background.ended())


def pages(settings: ServerSettings) -> Sequence[str]:
    """Return the pages for browsers; `/` redirects to the first."""
    return ["/agent/playground/", "/docs", "/redoc"] if settings.playground else ["/docs", "/redoc"]


def allowed_hosts(settings: ServerSettings, keys: Keys) -> Collection[str]:
    """Return the hosts under which the server may be asked: all if it has keys, else the names of this machine."""
    if settings.allowed_hosts:
        return settings.allowed_hosts
    return {ANY} if keys else own_names(settings.api_host)


def cross_origin(origins: Sequence[str], session_headers: Sequence[str]) -> list[Middleware]:
    """Return the middleware that lets web pages of these origins in; they need a key, and get no cookies."""
    if not origins:
        return []
    left = [f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")]
    exposed = ["x-request-id", "retry-after", "x-should-retry", *left, *session_headers]
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
    """Log one line if the model cannot be reached or does not exist; the server starts all the same."""
    try:
        await assembly.model.check()
    except ModelFailure as error:
        log.warning("%s Going on; requests fail until it does.", as_api_error(error).message)
