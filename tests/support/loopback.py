"""Real servers on loopback ports, in threads of this process."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any

import pytest
import uvicorn

from server.http.http1 import SPEAKING

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
MINE = range(12_000 + 1_000 * (WORKER % 20), 13_000 + 1_000 * (WORKER % 20))
# Two runs of the suite on one machine begin at different places.
PORTS: Iterator[int] = cycle([*MINE[os.getpid() % len(MINE) :], *MINE[: os.getpid() % len(MINE)]])


class QuickServer(uvicorn.Server):
    """uvicorn without its pauses of a tenth of a second, of which each test would wait for several."""

    async def main_loop(self) -> None:
        """Serve until told to end."""
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        if not await self.on_tick(0):
            await self._told.wait()

    def end(self) -> None:
        """Tell it to end, from another thread."""
        self.should_exit = True
        with suppress(AttributeError, RuntimeError):  # it has not begun to serve, and will not, or has ended
            self._loop.call_soon_threadsafe(self._told.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what uvicorn ends, in its order."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


@contextmanager
def served(app: Any, port: int = 0, **options: Any) -> Iterator[str]:
    """Serve an ASGI app with uvicorn on a port, or a free one, and yield its base URL; it has ended when this ends."""
    config = {"log_level": "error", "timeout_graceful_shutdown": 5, **SPEAKING, **options}
    server = QuickServer(uvicorn.Config(app, **config))
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                thread.join(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.end()
            thread.join()


def free_port() -> int:
    """Return a port that nobody listens on, and that this process has not returned lately.

    It is none of those that the system gives away (Linux: from 32768 on), and each worker of pytest-xdist has its own.
    So no other test can take it until its server listens.
    """
    for port in PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("unreachable")


def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name a proxy that is not there, and no exceptions."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
