"""Check API keys and set principals: with keys, only /health and the form of /login are answered without one."""

from collections.abc import Collection, Sequence
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Unauthorized
from server.http.error_handlers import error_response
from server.http.guesses import Guesses
from server.http.identity import RequestState, state_of
from server.http.keys import Key, Keys
from server.http.login import COOKIE, login_page
from server.http.sites import from_own_page

# The last one checks by itself who may read it.
OPEN_PATHS = ("/health", "/login", "/metrics")
WRONG_KEY = "invalid_api_key"
# Letters of a user's name in the log.
MAX_USER = 64
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


class KeyGuard:
    """Pure ASGI middleware that sets the request's principal, or answers 401: pages with a form, all else in JSON.

    Args:
        app: what is guarded.
        keys: the keys; without any, everybody is the one principal.
        pages: the pages that a browser is let into by the form.
        guesses: the wrong keys so far.
        user_header: the header in which the holders of `trusted` keys, by their names, name their users; each user is a
            principal then.
        trusted: see there.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        pages: Sequence[str],
        guesses: Guesses,
        user_header: str,
        trusted: Collection[str],
    ) -> None:
        self._app, self._keys, self._guesses = app, keys, guesses
        self._user_header, self._trusted = user_header, trusted
        self._pages = {"": pages[0]} | {page.strip("/"): page for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or not self._keys or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            key = self._key(headers)
            if scope["type"] == "http":
                self._identify(headers, key, state_of(scope))
        except Unauthorized as error:
            if error.code == WRONG_KEY:
                await self._guesses.slow_down(scope)
            await self._refusal(scope, error)(scope, receive, send)  # over a WebSocket Starlette sends it as a denial
        else:
            await self._app(scope, receive, send)

    def _key(self, headers: Headers) -> Key:
        """Return the key that a request comes with.

        Raises:
            Unauthorized: it has none of ours.
        """
        if given := given_key(headers):
            if key := self._keys.of(given):
                return key
            raise Unauthorized("Incorrect API key provided.", code=WRONG_KEY, headers={"WWW-Authenticate": "Bearer"})
        given = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if from_own_page(headers) and (key := self._keys.holder(given)):
            return key
        raise Unauthorized(NO_KEY, headers={"WWW-Authenticate": "Bearer"})

    def _identify(self, headers: Headers, key: Key, state: RequestState) -> None:
        """Note whose request it is."""
        state.key, state.principal, state.principal_name = key, key.principal, key.name
        user = headers.get(self._user_header, "").strip() if self._user_header and key.name in self._trusted else ""
        if user:
            state.principal = sha256(f"{key.principal}\n{user}".encode()).hexdigest()
            state.principal_name = f"{key.name}/{user[:MAX_USER]}"

    def _refusal(self, scope: Scope, error: Unauthorized) -> ASGIApp:
        wants_page = "text/html" in Headers(scope=scope).get("accept", "")
        page = self._pages.get(scope["path"].strip("/"))
        return login_page(page) if wants_page and page and scope.get("method") == "GET" else error_response(error)


def given_key(headers: Headers) -> str:
    """Return the key of a request, as OpenAI's clients send it or, in `api-key`, as those of Azure do."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("api-key", "").strip()
