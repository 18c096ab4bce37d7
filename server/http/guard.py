"""Check API keys and set principals: with keys, only /health and the form of /login are answered without one."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Unauthorized
from server.http.error_handlers import error_response
from server.http.identity import NO_PRINCIPAL, state_of
from server.http.keys import Keys
from server.http.login import COOKIE, login_page
from server.http.sites import from_own_page

OPEN_PATHS = ("/health", "/login")
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


class KeyGuard:
    """Pure ASGI middleware that sets the request's principal, or answers 401: pages with a form, all else in JSON."""

    def __init__(self, app: ASGIApp, keys: Keys, pages: Sequence[str]) -> None:
        self._app, self._keys = app, keys
        self._pages = {"": pages[0]} | {page.strip("/"): page for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            state_of(scope).principal = self._principal(scope)
        except Unauthorized as error:
            await self._refusal(scope, error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _principal(self, scope: Scope) -> str:
        if not self._keys or scope["path"] in OPEN_PATHS:
            return NO_PRINCIPAL
        headers = Headers(scope=scope)
        if key := _given_key(headers):
            if principal := self._keys.principal(key):
                return principal
            raise Unauthorized(
                "Incorrect API key provided.", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
            )
        given = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if from_own_page(headers) and (principal := self._keys.holder(given)):
            return principal
        raise Unauthorized(NO_KEY, headers={"WWW-Authenticate": "Bearer"})

    def _refusal(self, scope: Scope, error: Unauthorized) -> ASGIApp:
        wants_page = "text/html" in Headers(scope=scope).get("accept", "")
        page = self._pages.get(scope["path"].strip("/"))
        return login_page(page) if wants_page and page and scope["method"] == "GET" else error_response(error)


def _given_key(headers: Headers) -> str:
    """Return the key of a request, as OpenAI's clients send it or, in `api-key`, as those of Azure do."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("api-key", "").strip()
