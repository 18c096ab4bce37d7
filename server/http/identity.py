"""A request's identity: its id, its session and its principal. Every answer carries the first two."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.trace import Span
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import AgentError, InvalidRequest
from server.http.error_handlers import error_response
from server.http.foreign_errors import as_api_error
from server.http.keys import Key
from server.http.logs import REQUEST_ID, log_request
from server.http.metrics import Metrics
from server.http.stats import STATS, RequestStats
from tools.trace import carry_on

log = logging.getLogger(__name__)

OWN_HEADER = "X-Session-ID"
SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# For JSON schemas; in Python, `$` alone would also match before a line break at the end.
ID = f"^{SESSION_ID.pattern}$(?!\\n)"
ID_OR_BLANK = f"^({SESSION_ID.pattern}|[ \\t]*)$(?!\\n)"

NO_PRINCIPAL = ""


@dataclass(frozen=True)
class SessionName:
    """A session id as a request gives it, and whether a header of another program's gave it."""

    id: str
    third_party: bool = False


@dataclass
class RequestState:
    """What a request's headers say, and what its answer's headers will say."""

    header_name: SessionName | InvalidRequest | None
    """The session that a header names, or the error if the name is not valid."""
    session_id: str
    """The session that the answer names; a new one until the request claims another."""
    principal: str = NO_PRINCIPAL
    principal_name: str = ""
    """What the log calls the principal: never the key itself."""
    key: Key | None = None
    """The key that the request came with."""
    goes_on: asyncio.Task[None] | None = None
    """What the request does after its answer; it is counted and logged when that has ended."""

    @property
    def quota(self) -> int | None:
        """Bytes that the principal's sessions may store."""
        return self.key.stored_bytes if self.key else None

    @property
    def session_name(self) -> SessionName | None:
        """The session that a header names.

        Raises:
            InvalidRequest: no session can have that name.
        """
        if isinstance(self.header_name, InvalidRequest):
            raise self.header_name
        return self.header_name


def state_of(scope: Scope) -> RequestState:
    """Return the state of the request that a scope is of."""
    state: RequestState = scope["state"]["request"]
    return state


def named_in_header(headers: Mapping[str, str], among: Sequence[str]) -> SessionName | None:
    """Return the session id in the first of these headers that has one; empty headers count as absent.

    Raises:
        InvalidRequest: the id is not 1 to 128 ASCII letters, digits, dots, underscores, colons or hyphens.
    """
    for header in among:
        if given := headers.get(header, "").strip(" \t"):
            return SessionName(checked_id(given, header), third_party=header.lower() != OWN_HEADER.lower())
    return None


def checked_id(value: object, param: str) -> str:
    """Return a session id if it is valid.

    Raises:
        InvalidRequest: it is none.
    """
    if not isinstance(value, str) or not SESSION_ID.fullmatch(value):
        raise InvalidRequest(
            "A session id is 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':' and '-'.",
            param=param,
            code="invalid_value",
        )
    return value


class Identified:
    """The outermost middleware, pure ASGI: makes the request's state, and answers for uncaught exceptions.

    Inside Starlette's own error handling, an exception in the middle of a body would look like its normal end.
    """

    def __init__(self, app: ASGIApp, session_headers: Sequence[str], metrics: Metrics) -> None:
        self._app, self._session_headers, self._metrics = app, session_headers, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and put its ids into the answer's headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state, stats = self._state(headers), RequestStats()
        scope.setdefault("state", {})["request"] = state
        trace_id = uuid4().hex
        request_id = f"req_{trace_id}"
        REQUEST_ID.set(request_id)
        _describe(trace.get_current_span(), scope, request_id)
        carry_on(headers, trace_id)
        STATS.set(stats)
        status: int | None = None

        async def send_identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = MutableHeaders(scope=message)
                told[OWN_HEADER] = state.session_id
                told["x-request-id"] = request_id
                told["x-content-type-options"] = "nosniff"
                if told.get("content-type", "").startswith("text/html"):
                    _keep_to_itself(told)
            await send(message)

        try:
            await self._app(scope, receive, send_identified)
        except ClientDisconnect:
            return  # the client left in the middle of its request
        except Exception as error:
            if status:
                raise
            answer = as_api_error(error)
            defect = isinstance(answer, AgentError)
            log.error("%s %s failed: %s", scope["method"], scope["path"], answer.message, exc_info=defect)
            await error_response(answer)(scope, receive, send_identified)
        finally:
            if state.goes_on:
                state.goes_on.add_done_callback(lambda _: self._account(scope, state, stats, status))
            else:
                self._account(scope, state, stats, status)

    def _account(self, scope: Scope, state: RequestState, stats: RequestStats, status: int | None) -> None:
        """Count and log a request that has ended."""
        key, seconds = state.key.name if state.key else "", time.monotonic() - stats.began
        self._metrics.count(stats, path=scope["path"], status=status, key=key, seconds=seconds)
        log_request(scope, stats, principal=state.principal_name, session_id=state.session_id, status=status)

    def _state(self, headers: Headers) -> RequestState:
        """Return the initial state of a request; an invalid session name is refused by the handler that reads it."""
        try:
            name = named_in_header(headers, self._session_headers)
        except InvalidRequest as error:
            return RequestState(error, fresh_id())
        return RequestState(name, name.id if name else fresh_id())


def _describe(span: Span, scope: Scope, request_id: str) -> None:
    """Give FastAPI's span of the request its id, and hide the query string, which may have secrets."""
    span.set_attribute("http.response.header.x-request-id", [request_id])
    if scope["query_string"]:
        span.set_attribute("url.query", "REDACTED")


def _keep_to_itself(headers: MutableHeaders) -> None:
    """Let no other page show one of ours in a frame, and tell no other where its reader came from."""
    headers.setdefault("content-security-policy", "frame-ancestors 'none'")
    headers.setdefault("referrer-policy", "same-origin")


def fresh_id() -> str:
    """Return the id of a new session."""
    return str(uuid4())
