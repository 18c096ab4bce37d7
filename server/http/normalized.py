"""HEAD as GET, and paths under /v1 without a slash at their end."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Normalized:
    """Pure ASGI middleware: HEAD is GET, and a path under /v1 has no slash at its end.

    The HTTP server omits the body for HEAD. A slash would otherwise lead to a redirect, which clients
    behind a proxy follow to an address that the proxy does not have.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on in that form."""
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            scope = {
                **scope,
                "method": "GET" if method == "HEAD" else method,
                "path": path.rstrip("/") if path.startswith("/v1/") else path,
            }
        await self._app(scope, receive, send)
