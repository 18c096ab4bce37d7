"""The log-in for browsers: the form that KeyGuard shows instead of a page, /login and /logout."""

from collections.abc import Sequence
from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from server.errors import InvalidRequest
from server.http.guesses import Guesses
from server.http.keys import PASS_SECONDS, Keys, make_pass
from server.http.sites import from_own_page

COOKIE = "chat_agent_pass"

# Bytes of a key and a page's address; the limit for a body that is read without a key.
MAX_FORM_BYTES = 4096

FORM = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>chat-agent</title>
<style>
  :root {{ color-scheme: light dark; font-family: system-ui, sans-serif }}
  form {{ max-width: 22rem; margin: 20vh auto; padding: 0 1rem }}
  input, button {{ width: 100%; box-sizing: border-box; padding: .6rem; margin-top: .8rem; font: inherit }}
  strong {{ color: #d33 }}
</style>
<form method="post" action="/login">
  <h1>chat-agent</h1>
  <label>API 키를 입력하세요 · Enter an API key
    <input type="password" name="key" autocomplete="current-password" required autofocus>
  </label>
  <input type="hidden" name="page" value="{page}">
  <button>로그인 · Log in</button>
  <p><strong role="alert">{complaint}</strong></p>
</form>
</html>
"""
WRONG_KEY = "키가 맞지 않습니다 · This key is not valid"
# Only the form: no scripts, no frames around it, and no other target for the key.
FORM_ALONE = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def login_page(page: str, complaint: str = "") -> HTMLResponse:
    """Answer 401 with the form, which leads to the page."""
    return HTMLResponse(
        FORM.format(page=escape(page), complaint=complaint),
        status_code=401,
        headers={
            "WWW-Authenticate": "Bearer",
            "Content-Security-Policy": FORM_ALONE,
            "Cache-Control": "no-store",
        },
    )


def login_router(keys: Keys, pages: Sequence[str], guesses: Guesses) -> APIRouter:
    """Return the routes that log a browser in, lead it back to one of these pages, and log it out."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def ask_for_key() -> Response:
        """Show the form."""
        return login_page(pages[0])

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        """Give a cookie in exchange for a key, and lead back to the page."""
        if not from_own_page(request.headers):  # another site must not log its visitor in here
            raise InvalidRequest("Log in on this server's own page.", status=403)
        fields = parse_qs(await _form(request))
        key, page = (fields.get(name, [""])[0].strip() for name in ("key", "page"))
        page = page if page in pages else pages[0]
        known = keys.of(key)
        if known is None:
            await guesses.slow_down(request.scope)
            return login_page(page, WRONG_KEY)
        response = RedirectResponse(page, status_code=303)
        is_secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, make_pass(known), max_age=PASS_SECONDS, httponly=True, samesite="strict", secure=is_secure
        )
        return response

    @router.api_route("/logout", methods=["GET", "POST"])
    async def log_out() -> Response:
        """Take the cookie back."""
        response = RedirectResponse(pages[0], status_code=303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


async def _form(request: Request) -> str:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise InvalidRequest("The form is too large.", code="request_too_large", status=413)
    return body.decode(errors="replace")
