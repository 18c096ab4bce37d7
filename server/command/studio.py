"""The server beside LangGraph Studio, in the process of `langgraph dev`: `http.app` in langgraph.json.

The platform adds its own routes to the app that it is given, under the app's middlewares and error handlers. So it gets
an empty app with ours mounted in it; keys and error envelope then apply to our routes only.
"""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from langchain_core.runnables.config import var_child_runnable_config
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from graph.offline.settings import settings_or_embedded
from graph.storage.opening import claimed
from graph.storage.saver import CheckpointUrlError
from graph.studio import opened_agents
from server.app import create_app
from server.command.mistakes import unusable
from server.http.identity import NO_PRINCIPAL
from server.http.key_file import KeysError
from server.http.sites import SiteGuard, matching, own_names
from server.sessions.dependencies import Sessions
from server.settings import ServerSettings

OURS = ("/v1/{path:path}", "/agent/{path:path}", "/login", "/logout", "/health", "/ready", "/metrics")
MAX_SHOWN = 100
# What requests within the process, as of `get_client`, name as their host.
WITHIN = "api"
# The origins of Studio's pages, as langgraph.json has them for CORS.
STUDIO = r"https://([a-z]+\.)?smith\.langchain\.com"


class SessionsAsThreads:
    """Pure ASGI middleware: Studio lists sessions among its threads, once something was said in them.

    The platform knows only threads that were made through its API. Sessions under a key are their owner's alone.
    """

    def __init__(self, app: ASGIApp, agent: FastAPI) -> None:
        self._app, self._agent = app, agent
        self._shown: dict[str, float] = {}
        """Per thread, when its session last changed; one that was deleted in Studio comes back with its next turn."""
        self._client: LangGraphClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make threads for new sessions before a request for threads is answered."""
        if scope["type"] == "http" and scope["path"].startswith("/threads/"):
            await self._make_threads()
        await self._app(scope, receive, send)

    async def _make_threads(self) -> None:
        sessions: Sessions = self._agent.state.sessions
        self._client = self._client or get_client()  # to this process
        for record in reversed(await sessions.index.page(NO_PRINCIPAL, limit=MAX_SHOWN, after=None)):
            thread_id = record.session.thread_id
            if record.agent in sessions.assembly.agents and self._shown.get(thread_id) != record.updated_at:
                await self._client.threads.create(
                    thread_id=thread_id,
                    graph_id=record.agent,
                    metadata={"session_id": record.session.id},
                    if_exists="do_nothing",
                )
                self._shown[thread_id] = record.updated_at


class WithoutRunConfig:
    """Pure ASGI middleware: the platform puts a run's config around requests; LangServe takes it for the client's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on without it."""
        before = var_child_runnable_config.set(None)
        try:
            await self._app(scope, receive, send)
        finally:
            var_child_runnable_config.reset(before)


def beside_studio(agent: FastAPI, settings: ServerSettings) -> Starlette:
    """Return an app that passes our routes on to the agent's server, unchanged.

    The platform's own routes need no key, whatever API_KEYS says; so they are guarded against foreign pages, but for
    Studio's own.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with agent.router.lifespan_context(agent):
            yield

    return Starlette(
        routes=[Route(path, WithoutRunConfig(agent), include_in_schema=False) for path in OURS],
        lifespan=lifespan,
        middleware=[
            Middleware(
                SiteGuard,
                hosts={*(settings.allowed_hosts or own_names(settings.api_host)), WITHIN},
                origins=re.compile(f"{STUDIO}|{matching(settings.cors_origins).pattern}"),
                needs_key=False,
            ),
            Middleware(SessionsAsThreads, agent=agent),
        ],
    )


def load_settings() -> ServerSettings:
    """Read the settings, or end the process with what is missing, or why the database or a key cannot be used."""
    try:
        settings = settings_or_embedded(ServerSettings)
        settings.keys()
        with claimed(settings.checkpoint_url):  # tried here: the platform would log a refusal as a defect
            return settings
    except ValidationError as error:
        sys.exit(unusable(ServerSettings, error.errors()))
    except (CheckpointUrlError, KeysError) as error:
        sys.exit(f"ERROR: {error}")


settings = load_settings()
app = beside_studio(create_app(settings, agents=opened_agents), settings)
