"""What every answer carries, whoever gives it: X-Session-ID, x-request-id, and an envelope if it is an error."""

import logging
import time
from collections.abc import Sequence
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import AgentError, InvalidRequest
from server.http.event_stream import error_response
from server.http.foreign_errors import as_api_error
from server.http.logs import REQUEST_ID, log_request
from server.sessions.naming import OWN_HEADER, fresh_session, named_session

log = logging.getLogger(__name__)


class Identified:
    """Pure ASGI middleware, the outermost: names the request and its session, and answers for what nobody caught.

    Behind Starlette's own error handling an exception in the middle of a body would become a clean end of it.
    """

    def __init__(self, app: ASGIApp, session_headers: Sequence[str]) -> None:
        self._app, self._session_headers = app, session_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on and see to its answer's headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["session_id"] = self._named_session(scope) or fresh_session()
        request_id = f"req_{uuid4().hex}"
        REQUEST_ID.set(request_id)
        status: int | None = None
        began = time.monotonic()

        async def send_identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[OWN_HEADER] = state["session_id"]
                headers["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_identified)
        except ClientDisconnect:
            return  # in the middle of its request: there is nobody to be told
        except Exception as error:
            if status:
                raise
            told = as_api_error(error)
            defect = isinstance(told, AgentError)
            log.error("%s %s failed: %s", scope["method"], scope["path"], told.message, exc_info=defect)
            await error_response(told)(scope, receive, send_identified)
        finally:
            log_request(scope, status=status, began=began)

    def _named_session(self, scope: Scope) -> str | None:
        try:
            name = named_session(Headers(scope=scope), {}, self._session_headers)
        except InvalidRequest:
            return None  # the handler refuses it; the refusal goes out under a fresh id
        return name.id if name else None
