"""Real servers on loopback ports, in threads of this process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from server.http.http1 import SPEAKING


@contextmanager
def served(app: Any, port: int = 0, **options: Any) -> Iterator[str]:
    """Serve an ASGI app with uvicorn on a port, or a free one, and yield its base URL; it has ended when this ends."""
    config = {"log_level": "error", "timeout_graceful_shutdown": 5, **SPEAKING, **options}
    server = uvicorn.Server(uvicorn.Config(app, **config))
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                thread.join(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name a proxy that is not there, and no exceptions."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
