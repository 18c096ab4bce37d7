"""One server process: what can be checked before the start, uvicorn, and the way it ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG, STARTUP_FAILURE

from graph.assembly import mcp_servers
from graph.brought import load_factory
from graph.storage.opening import claimed, open_checkpointer
from graph.storage.saver import CheckpointUrlError
from server.app import create_app
from server.command.open_files import allow_files, most_connections
from server.command.screens import open_to_all
from server.command.signals import end_uninterrupted, end_with_status_0_when_told
from server.command.systemd import READY, STOPPING, notify
from server.command.workers import run_workers
from server.http.event_stream import DRAIN_SECONDS
from server.http.http1 import SPEAKING
from server.http.key_file import KeysError
from server.http.logs import log_config
from server.sessions.index import open_index
from server.sessions.leases import Leases
from server.settings import ServerSettings
from tools.addresses import is_loopback

log = logging.getLogger(__name__)

# Objects between two collections of garbage, and collections between two of the next kind. A turn makes thousands of
# objects, nearly all freed without the collector; with Python's own 700 it takes 8 % of the CPU time.
GARBAGE_THRESHOLDS = 50_000, 20, 20
# Seconds after which one thread lets another run. The database's thread needs Python between any two statements; with
# the usual 5 ms it waits long for it, and both threads wake up in vain again and again: up to a seventh of a turn.
SWITCH_INTERVAL = 0.00005
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
                ws_max_size=settings.max_request_bytes,
                **SPEAKING,
            )
        )
        self._app, self._settings, self._when_ready = app, settings, when_ready
        self._welcome: asyncio.Future[None] | None = None
        self._is_terminated = False

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

        Told by SIGTERM, as when a newer server takes its place, it answers what still comes over idle connections.
        A second Ctrl-C stops them at once; uvicorn would then skip the app's own shutdown, which is still done here.
        """
        notify(STOPPING)
        ending_at = asyncio.get_running_loop().time() + DRAIN_SECONDS
        await self._let_idle_connections_end()
        if self._welcome:
            self._welcome.cancel()
            await asyncio.wait({self._welcome})
        stop_runs = self._app.state.sessions.runs.stop_all
        asyncio.get_running_loop().call_at(ending_at, stop_runs)
        await self._let_sockets_end(ending_at + HURRIED_SECONDS)
        await super().shutdown(sockets)
        if self.force_exit:
            stop_runs()
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=HURRIED_SECONDS)
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note how it is told to end."""
        self._is_terminated = sig == signal.SIGTERM
        super().handle_exit(sig, frame)

    async def _let_idle_connections_end(self) -> None:
        """Take no new connections, and leave it to the clients to end theirs: a request may be on its way.

        Proxies give an idle connection up before the server does, and after an answer that says so.
        """
        if not self._is_terminated or SPEAKING["http"] == "h11":
            return
        await self._stop_listening()
        connections = [one for one in self.server_state.connections if isinstance(one, SPEAKING["http"])]
        for connection in connections:
            connection.answer_once_more()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_keep_alive):
                while not self.force_exit and any(connection.is_idle for connection in connections):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _let_sockets_end(self, ending_at: float) -> None:
        """Wait for the answers in progress over WebSockets, which uvicorn would cut."""
        open_sockets = self._app.state.sockets
        open_sockets.end()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ending_at):
                while not self.force_exit and len(open_sockets):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _stop_listening(self) -> None:
        """Stop to listen, and serve the connections that wait to be accepted: the system would reset them."""
        loop = asyncio.get_running_loop()
        listeners = [
            socket.socket(fileno=os.dup(listener.fileno())) for server in self.servers for listener in server.sockets
        ]
        for server in self.servers:
            server.close()
        protocol = partial(
            cast(Any, self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        for listener in listeners:
            for connection in [*waiting_at(listener)]:
                await loop.connect_accepted_socket(protocol, connection)


def waiting_at(listener: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait to be accepted, and end the listener."""
    listener.setblocking(False)
    with listener, suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            yield connection


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
        if settings.api_workers > 1 and sys.platform == "win32":
            raise CheckpointUrlError("API_WORKERS: Windows has no such processes. Set API_WORKERS=1.")
        asyncio.run(_open_once(settings.checkpoint_url, is_shared=settings.api_workers > 1))
        if not is_loopback(settings.api_host) and not settings.keys():
            print(open_to_all(settings.api_host), file=sys.stderr)
        if settings.api_workers > 1:
            status = run_workers(settings, partial(serve_on, when_ready=when_ready))
        else:
            status = serve_until_told(settings, when_ready)
    if status:
        sys.exit(status)


def serve_on(
    settings: ServerSettings,
    listener: socket.socket,
    is_first: bool,
    tell_ready: Callable[[], None],
    *,
    when_ready: WhenReady | None,
) -> None:
    """Serve in a worker, on the socket that all workers share."""

    async def tell(app: FastAPI, settings: ServerSettings) -> None:
        tell_ready()
        if is_first and when_ready:
            await when_ready(app, settings)

    end_with_status_0_when_told()
    tune()
    if serve_until_told(settings, tell, [listener]):
        sys.exit(STARTUP_FAILURE)


def serve_until_told(
    settings: ServerSettings, when_ready: WhenReady | None, sockets: list[socket.socket] | None = None
) -> int:
    """Serve until told to stop, and return 0, or 1 if the server could not start."""
    server = Server(create_app(settings), settings, when_ready)
    with suppress(KeyboardInterrupt):  # Ctrl-C, which uvicorn passes on when it has ended in order
        server.run(sockets)
    end_uninterrupted()
    return 0 if server.started else 1


def tune() -> None:
    """Set what Python does by itself, for a process that serves."""
    gc.freeze()  # imported objects stay for good: the garbage collector skips them
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL)
    allow_files()


async def _open_once(checkpoint_url: str, *, is_shared: bool) -> None:
    async with open_checkpointer(checkpoint_url) as saver:
        if is_shared and not saver.database.is_shared:
            raise CheckpointUrlError(
                "API_WORKERS: several processes need a database that they can share, which SQLite is not. "
                "Set CHECKPOINT_URL=postgresql://…, or API_WORKERS=1."
            )
        await open_index(saver, Leases(session_wait=0))
