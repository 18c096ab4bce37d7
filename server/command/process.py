"""One server process: what can be checked before the start, uvicorn, and the way it ends."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG

from graph.assembly import mcp_servers
from graph.brought import load_factory
from graph.storage.opening import claimed, open_checkpointer
from server.app import create_app
from server.command.open_files import most_connections
from server.command.screens import open_to_all
from server.command.signals import end_uninterrupted, end_with_status_0_when_told
from server.command.systemd import READY, STOPPING, notify
from server.http.event_stream import DRAIN_SECONDS
from server.http.http1 import SPEAKING
from server.http.key_file import KeysError
from server.http.logs import log_config
from server.sessions.index import open_index
from server.sessions.leases import Leases
from server.settings import ServerSettings
from tools.addresses import is_loopback

log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = DRAIN_SECONDS + 5
HURRIED_SECONDS = 2  # for answers that a second Ctrl-C ends

WhenReady = Callable[[FastAPI, ServerSettings], Awaitable[None]]


class Server(uvicorn.Server):
    """uvicorn, with a callback when it is up, and a limit on how long runs go on at shutdown."""

    def __init__(self, app: FastAPI, settings: ServerSettings, when_ready: WhenReady | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.api_host,
                port=settings.api_port,
                log_config=log_config(LOGGING_CONFIG),
                access_log=False,  # our own line says more
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
                limit_concurrency=most_connections(),
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                **SPEAKING,
            )
        )
        self._app, self._settings, self._when_ready = app, settings, when_ready
        self._welcome: asyncio.Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self._settings.api_keys_file and not sys.stdin.isatty() and sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._read_keys_again)
        if self.started:
            notify(READY)
        if self.started and self._when_ready:
            self._welcome = asyncio.ensure_future(self._when_ready(self._app, self._settings))

    def _read_keys_again(self) -> None:
        """Take the keys that the file has now; if it cannot be used, those that were taken before stay."""
        try:
            keys = self._settings.keys()
        except KeysError as error:
            log.error("%s The keys stay as they were.", error)
        else:
            self._app.state.keys.replace(keys)
            log.info("API_KEYS_FILE was read again: %d keys.", len(keys))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let streams go on for DRAIN_SECONDS, then stop their runs; each stream ends with an error that says so.

        A second Ctrl-C stops them at once; uvicorn would then skip the app's own shutdown, which is still done here.
        """
        notify(STOPPING)
        if self._welcome:
            self._welcome.cancel()
            await asyncio.wait({self._welcome})
        stop_runs = self._app.state.sessions.runs.stop_all
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, stop_runs)
        await super().shutdown(sockets)
        if self.force_exit:
            stop_runs()
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=HURRIED_SECONDS)
            await self.lifespan.shutdown()


def run_server(settings: ServerSettings, when_ready: WhenReady | None = None) -> None:
    """Serve the agent until told to stop.

    Raises:
        McpConfigError: a setting names no usable MCP server.
        AgentsError: AGENTS names no function.
        CheckpointUrlError: the database cannot be used.
        KeysError: the keys cannot be used.
    """
    end_with_status_0_when_told()
    mcp_servers(settings)
    for path in settings.agents:
        load_factory(path)
    with claimed(settings.checkpoint_url):
        asyncio.run(_open_once(settings.checkpoint_url))
        app = create_app(settings)
        if not is_loopback(settings.api_host) and not app.state.keys:
            print(open_to_all(settings.api_host), file=sys.stderr)
        server = Server(app, settings, when_ready)
        with suppress(KeyboardInterrupt):  # Ctrl-C, which uvicorn passes on when it has ended in order
            server.run()
        end_uninterrupted()
    if not server.started:
        sys.exit(1)


async def _open_once(checkpoint_url: str) -> None:
    async with open_checkpointer(checkpoint_url) as saver:
        await open_index(saver, Leases(session_wait=0))
