"""API keys to principals: with keys set, nothing but /health is answered without one."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Unauthorized
from server.replies import error_response
from server.sessions import NO_PRINCIPAL

OPEN_PATHS = ("/health",)
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


class KeyGuard:
    """Pure ASGI middleware that sets the request's principal, or answers 401."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope["state"]["principal"] = self._principal(scope)
        except Unauthorized as error:
            await error_response(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _principal(self, scope: Scope) -> str:
        if not self._keys or scope["path"] in OPEN_PATHS:
            return NO_PRINCIPAL
        key = _given_key(Headers(scope=scope))
        if not key:
            raise Unauthorized(NO_KEY, headers={"WWW-Authenticate": "Bearer"})
        digest = sha256(key.encode()).digest()
        # Every key is compared, so that the time tells nothing about which one is close.
        if not any(hmac.compare_digest(digest, known) for known in self._keys):
            raise Unauthorized(
                "Incorrect API key provided.", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
            )
        return digest.hex()


def _given_key(headers: Headers) -> str:
    """Return the key of a request, as OpenAI's clients send it or, in `api-key`, as those of Azure do."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("api-key", "").strip()
