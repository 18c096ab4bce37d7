"""An error as its client gets it."""

from typing import Any

import httpx


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The envelope's content, which always has its four keys, on a response that carries its ids."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["X-Session-ID"]
    assert response.headers["x-request-id"].startswith("req_")
    return error
