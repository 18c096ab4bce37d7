"""Why a server or a call failed, in one line without secrets."""

import re
from collections.abc import Iterable

import httpx
from mcp.shared.exceptions import McpError
from pydantic import ValidationError

from tools.printed import without

# User and password before a host, and the query behind a path, in URLs of any scheme.
SECRETS_OF_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?#'\"]*)[^\s'\"]*")
MAX_LENGTH = 500
NO_SERVER = (404, 405)


class UnansweredError(Exception):
    """A request that got no answer.

    `taken` when the server may have carried it out, `status` where it answered with an HTTP error, `code` where there
    was a JSON-RPC error in that, `is_loss` when the connection ended.
    """

    def __init__(
        self, words: str, *, taken: bool, status: int | None = None, code: int | None = None, is_loss: bool = False
    ) -> None:
        super().__init__(words)
        self.taken, self.status, self.code, self.is_loss = taken, status, code, is_loss

    @property
    def may_be_repeated(self) -> bool:
        """Whether repeating an idempotent call in a new session may help."""
        return self.is_loss or self.status == 500


def lost(error: BaseException | None = None, *, taken: bool = True) -> UnansweredError:
    """Return the failure of a request whose connection ended before its answer."""
    return UnansweredError(reason(error) if error else "the connection was lost", taken=taken, is_loss=True)


def reason(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Return the innermost cause, as one line without the secrets that addresses, headers and variables have."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    words = " ".join(with_bare_urls(_words(error)).strip().partition("\n")[0].split())
    return without(secrets, words)[:MAX_LENGTH] or type(error).__name__


def _words(error: BaseException) -> str:
    match error:
        case httpx.HTTPStatusError(response=response) if not response.is_redirect:
            return f"answered with status {response.status_code}"
        case httpx.LocalProtocolError() | UnicodeError():
            return "its headers cannot be sent"
        case FileNotFoundError(filename=missing) if missing:
            return f"no such command or folder: {missing}"
        case ValidationError():
            first = error.errors(include_url=False, include_input=False)[0]
            return f"its answer is not as MCP has it: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        case McpError():
            return error.error.message
        case _:
            return str(error)


def with_bare_urls(text: str) -> str:
    """Return a text whose addresses have no user, password and query."""
    return SECRETS_OF_URL.sub(r"\1\2", text)


def bare(url: httpx.URL) -> str:
    """Return an address without user, password and query."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def may_be_taken(status: int, body: bytes) -> bool:
    """Whether the server, or one behind it, may have carried out a call that was answered with this status.

    408, 499 and what is above 500 come from a gateway or from a time-out. A 500 may come from the tool itself, unless
    it mentions the session: some servers answer so when they no longer know an old one.
    """
    return status in (408, 499) or status > 500 or (status == 500 and b"session" not in body.lower())


def refused(response: httpx.Response, words: str | None, code: int | None, *, is_first: bool) -> UnansweredError:
    """Return the failure of a request that was answered with an HTTP error.

    An old session is answered with 404 by the standard, and with 400, 401, 409 or 500 by others.
    """
    status = response.status_code
    if is_first and status in NO_SERVER:
        said = f"{status} at {bare(response.request.url)}: no MCP server there"
    else:
        said = f"answered with status {status}{f': {words}' if words else ''}"
    return UnansweredError(said, taken=may_be_taken(status, response.content), status=status, code=code)


def no_answer(response: httpx.Response, *, is_first: bool) -> UnansweredError:
    """Return the failure of a request whose response is not an answer."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip() or "no content"
    there = f"{bare(response.request.url)} answered" if is_first else "answered"
    end = ": no MCP server there" if is_first else ", which is no answer to the call"
    return UnansweredError(f"{there} with status {response.status_code} and {kind}{end}", taken=True)
