"""The HTTP client of one session: it reports requests without an answer, and repairs what the SDK cannot read.

The SDK's transports ignore an answer that is not JSON-RPC, an empty answer and a stream that was cut: the caller would
wait for its timeout. For an HTTP error they end the whole session, and with it all other requests.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent
from mcp.types import JSONRPCMessage

from tools.addresses import NO_PROXY_ON_LOOPBACK
from tools.mcp.lines import bounded
from tools.mcp.messages import answered_id, complaint, encoded, error_answer, readable
from tools.mcp.pending import Pending
from tools.mcp.reasons import UnansweredError, lost, no_answer, refused, with_bare_urls
from tools.mcp.spec import HttpAddress
from tools.packing import UNPACKED
from tools.trace import PROPAGATOR

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 30.0
# A hanging server must delay neither other messages nor the shutdown.
NOTE_TIMEOUT, GOODBYE_TIMEOUT = 5.0, 2.0
NOT_SEEN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
EVENTS = "text/event-stream"


def without_queries(record: logging.LogRecord) -> bool:
    """Leave out of a line of another's log what may be secret in an address."""
    record.msg, record.args = with_bare_urls(record.getMessage()), ()
    return True


for name in ("httpx", "mcp.client.streamable_http", "mcp.client.sse"):
    logging.getLogger(name).addFilter(without_queries)


class McpHttpClient(httpx.AsyncClient):
    """An httpx client whose answers the SDK can read, each one the answer to one request."""

    def __init__(self, address: HttpAddress, pending: Pending) -> None:
        super().__init__(
            verify=address.verify_ssl,
            headers={"Accept-Encoding": UNPACKED, **address.headers},
            # The caller bounds how long an answer may take; an open stream may be silent for any time.
            timeout=httpx.Timeout(CONNECT_TIMEOUT, read=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            mounts=NO_PROXY_ON_LOOPBACK,
        )
        self._pending, self._has_own_stream = pending, address.transport == "sse"
        self._resumable: dict[str, int] = {}

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request as httpx does; if there is no usable answer, fail the request and report it as accepted."""
        match request.method:
            case "POST":
                return await self._post(request, options)
            case "DELETE":
                with anyio.move_on_after(GOODBYE_TIMEOUT):
                    return await super().send(request, **options)
                raise httpx.ReadTimeout("the server did not take leave in time", request=request)
            case _:
                return await self._get(request, options)

    async def _post(self, request: httpx.Request, options: dict[str, Any]) -> httpx.Response:
        message = json.loads(await request.aread())
        if "method" not in message or "id" not in message:
            return await self._note(request, options)
        is_first = message["method"] == "initialize"
        told = (message.get("params") or {}).get("_meta") or {}
        request.headers.update({name: told[name] for name in PROPAGATOR.fields if name in told})
        try:
            return await self._answer(request, options, message["id"], is_first)
        except httpx.RequestError as error:
            self._pending.fail(message["id"], lost(error, taken=not isinstance(error, NOT_SEEN)))
        except UnansweredError as failure:
            self._pending.fail(message["id"], failure)
        return _accepted(request)

    async def _answer(
        self, request: httpx.Request, options: dict[str, Any], request_id: int, is_first: bool
    ) -> httpx.Response:
        """Return the answer to a request as the SDK reads it.

        Raises:
            UnansweredError: the response is not an answer.
            httpx.RequestError: the connection failed.
        """
        with self._pending.wanted(request_id):
            response = await super().send(request, **{**options, "stream": True})
            if response.next_request is not None or (self._has_own_stream and response.is_success):
                await bounded(response).aread()
                return response
            if response.is_success and _kind(response) == EVENTS:
                return _streamed(response, self._events(response, request_id))
            try:
                return _whole(response, await bounded(response).aread(), request_id, is_first)
            finally:
                await response.aclose()
        raise httpx.ReadError("nobody waits for the answer any more")

    async def _note(self, request: httpx.Request, options: dict[str, Any]) -> httpx.Response:
        """Send what needs no answer; a refusal is ignored, since the next request will meet it too."""
        _bound(request, NOTE_TIMEOUT)
        try:
            response = await super().send(request, **options)
            if response.next_request is not None:
                return response
            await response.aclose()
        except httpx.RequestError as error:
            log.debug("A notification did not reach its MCP server: %r", error)
        return _accepted(request)

    async def _get(self, request: httpx.Request, options: dict[str, Any]) -> httpx.Response:
        """Open a stream of events; if it was to resume a cut answer and cannot be opened, that request fails."""
        last_id = request.headers.get("last-event-id", "")
        request_id = self._resumable.get(last_id)
        if request_id is not None and not self._pending.waits(request_id):
            del self._resumable[last_id]
            return httpx.Response(200, headers={"content-type": EVENTS}, content=_given_up(request_id), request=request)
        try:
            response = await super().send(request, **options)
        except httpx.RequestError as error:
            if request_id is not None:
                self._pending.fail(request_id, lost(error))
            raise
        if response.is_success and _kind(response) == EVENTS:
            self._resumable.pop(last_id, None)
            return _streamed(response, self._events(response, request_id, last_id))
        if request_id is not None and response.next_request is None:
            self._pending.fail(request_id, lost())
        return response

    async def _events(
        self, response: httpx.Response, request_id: int | None, last_id: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream, mended; fail its request if it ends without an answer and cannot go on.

        Of a request that was given up it ends with an error as the answer: the SDK would try to resume it for ever.
        """
        answered, broken = request_id is None, lost()
        try:
            async with aclosing(EventSource(bounded(response, by_events=True)).aiter_sse()) as events:
                while (event := await self._next(events, request_id)) is not None:
                    last_id = event.id or last_id
                    messages = readable(event.data) if event.event == "message" else []
                    answered = answered or any(answered_id(message) == request_id for message in messages)
                    for part in _encoded(event, messages):
                        yield part
        except (httpx.RequestError, UnansweredError) as error:
            if request_id is None:
                raise
            broken = error if isinstance(error, UnansweredError) else lost(error)
        if request_id is None or answered:
            return
        if not self._pending.waits(request_id):
            yield _given_up(request_id)
        elif last_id:
            self._resumable[last_id] = request_id
        else:
            self._pending.fail(request_id, broken)

    async def _next(self, events: AsyncIterator[ServerSentEvent], request_id: int | None) -> ServerSentEvent | None:
        if request_id is None:
            return await anext(events, None)
        with self._pending.wanted(request_id):
            return await anext(events, None)
        raise httpx.ReadError("nobody waits for the answer any more")


class _Events(httpx.AsyncByteStream):
    """The body of a response with its events repaired."""

    def __init__(self, response: httpx.Response, events: AsyncGenerator[bytes, None]) -> None:
        self._response, self._events = response, events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        try:
            await self._events.aclose()
        finally:
            await self._response.aclose()


def _streamed(response: httpx.Response, events: AsyncGenerator[bytes, None]) -> httpx.Response:
    return httpx.Response(
        200, headers=_headers(response, EVENTS), stream=_Events(response, events), request=response.request
    )


def _whole(response: httpx.Response, body: bytes, request_id: int, is_first: bool) -> httpx.Response:
    """Return a response with the one answer that is in the body of another.

    Raises:
        UnansweredError: there is none in it.
    """
    if not response.is_success:
        raise refused(response, *complaint(body), is_first=is_first)
    answer = next((message for message in readable(body) if answered_id(message) == request_id), None)
    if answer is None:
        words, _ = complaint(body)
        raise UnansweredError(words, taken=True) if words else no_answer(response, is_first=is_first)
    headers = _headers(response, "application/json")
    return httpx.Response(200, headers=headers, content=encoded(answer), request=response.request)


def _encoded(event: ServerSentEvent, messages: list[JSONRPCMessage]) -> list[bytes]:
    """Return an event as bytes: an event for each of its messages, or itself where it has none."""
    name = f"id: {event.id}\n" if event.id else ""
    retry = "" if event.retry is None else f"retry: {event.retry}\n"
    if messages:
        return [f"{name}{retry}event: message\ndata: ".encode() + encoded(message) + b"\n\n" for message in messages]
    data = event.data.split("\n") if event.event != "message" else []
    lines = "".join(f"data: {line}\n" for line in data) or "data:\n"
    return [f"{name}{retry}event: {event.event}\n{lines}\n".encode()]


def _given_up(request_id: int) -> bytes:
    error = encoded(error_answer(request_id, "Nobody waits for the answer any more."))
    return b"event: message\ndata: " + error + b"\n\n"


def _headers(response: httpx.Response, kind: str) -> dict[str, str]:
    session = response.headers.get("mcp-session-id")
    return {"content-type": kind, **({"mcp-session-id": session} if session else {})}


def _kind(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _accepted(request: httpx.Request) -> httpx.Response:
    return httpx.Response(202, request=request)


def _bound(request: httpx.Request, seconds: float) -> None:
    request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()
