"""HTTP/1.1 for uvicorn: bounded, and with requests that offer HTTP/2 answered in full. WebSockets are uvicorn's own.

Clients may offer another protocol with a request: every JDK's HttpClient and `curl --http2` offer HTTP/2 by
`Upgrade: h2c`. A server that does not accept the offer must ignore it (RFC 9110, 7.8). uvicorn's fast parser drops such
a request's body instead.

Nor does uvicorn bound how large a request's headers are, how long a request takes to come, or how many connections wait
with none: whoever can connect, without a key, could fill the memory or use up the files that may be open.
"""

import asyncio
import json
import logging
import socket
import time
from typing import Any, Literal

from server.errors import ApiError, InvalidRequest, Unavailable

log = logging.getLogger(__name__)

MAX_HEADERS = 2**16
# Bytes on their way to a client. The system would take megabytes for one that reads nothing, and we keep what was sent.
SEND_BUFFER = 2**16
# Seconds in which a request's headers must have come, and its body, which gets one more for each so many bytes.
HEADERS_TIMEOUT, BODY_TIMEOUT, BYTES_PER_SECOND, LONGEST_BODY = 20.0, 30.0, 1_000, 300.0
# Seconds for which a connection that is one too many may ask, to be told so; and between two lines of the log on that.
FAREWELL, LOG_PAUSE = 1.0, 10.0
REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def refusal(error: ApiError) -> bytes:
    """Return an error as a whole response, behind which the connection is closed."""
    body = json.dumps(error.envelope()).encode()
    headers = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close", **error.headers}
    lines = [
        f"HTTP/1.1 {error.status_code} {REASONS[error.status_code]}",
        *(f"{name}: {headers[name]}" for name in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


INVALID = refusal(InvalidRequest("Invalid HTTP request received.", code="invalid_http"))
TOO_LARGE = refusal(
    InvalidRequest(f"The request's headers are larger than {MAX_HEADERS} bytes.", code="headers_too_large", status=431)
)
TOO_SLOW = refusal(InvalidRequest("The request did not come in time.", code="request_timeout", status=408))
TOO_MANY = refusal(
    Unavailable(
        "The server has as many connections as it takes.", code="too_many_connections", headers={"Retry-After": "1"}
    )
)

# Each request has context variables of its own, also where several come over one connection.
EITHER: dict[str, Any] = {"ws": "websockets-sansio", "reset_contextvars": True}

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
except ImportError:  # not available on Windows; uvicorn's slower parser keeps the body and bounds headers
    SPEAKING: dict[str, Any] = {"http": "h11", **EITHER}
else:

    class HeadersTooLarge(Exception):
        """More headers have come than are read."""

    class HttpProtocol(HttpToolsProtocol):
        """uvicorn's protocol, which ignores offers of another one, and bounds what a client may send.

        The parser ends a request with an offer after its headers, without its body. So such a request is parsed twice:
        its headers with the offer, whose result is dropped, then again without it, followed by the body.

        `limit_concurrency` of uvicorn's configuration is the number of connections. One that is too many may still ask,
        to be told so; from twice as many on, it is told without having asked.
        """

        headers_timeout = HEADERS_TIMEOUT
        body_timeout = BODY_TIMEOUT
        _logged_at = float("-inf")
        _is_last = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Wait for a request; where there are too many connections, it is going to be refused."""
            super().connection_made(transport)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._coming: Literal["nothing", "headers", "body"] = "nothing"
            self._began = self.loop.time()  # when that did
            self._unread = 0  # bytes that have come since a request began, or a part of its body
            self._received = 0  # bytes of the body
            most, self.limit_concurrency = self.limit_concurrency, None
            self._is_one_too_many = most is not None and len(self.connections) > most
            self._timer: asyncio.TimerHandle | None = None
            self._watch(FAREWELL if self._is_one_too_many else self.headers_timeout)
            if self._is_one_too_many and most is not None:
                self._log_refusals(most)
                if len(self.connections) > 2 * most:
                    self._refuse(TOO_MANY)

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget the connection."""
            self._stop_watching()
            super().connection_lost(exc)

        def answer_once_more(self) -> None:
            """Take one request more at the most, and let its answer tell the client that the connection ends."""
            self._is_last = True
            if self._is_answering():
                self.cycle.keep_alive = False

        @property
        def is_idle(self) -> bool:
            """Whether no request is being answered; one may be on its way."""
            return not self._is_answering()

        def data_received(self, data: bytes) -> None:
            """Parse what has come."""
            if self._is_one_too_many:
                self._refuse(TOO_MANY)
                return
            self._unset_keepalive_if_required()
            self._unread += len(data)
            unread = memoryview(data)
            try:
                while (end_of_headers := self._offer_in(unread)) is not None:
                    if self._should_upgrade():
                        self._stop_watching()
                        self.handle_websocket_upgrade()
                        return
                    self.parser.feed_data(self._headers_without_offer())
                    unread = unread[end_of_headers:]
            except httptools.HttpParserError as error:
                self._refuse(TOO_LARGE if isinstance(error.__context__, HeadersTooLarge) else INVALID)
                return
            if self._unread > MAX_HEADERS:
                self._refuse(TOO_LARGE)
            elif self._coming == "nothing" and self._is_answering():
                self._stop_watching()
            elif self._timer is None:  # also for what is no request, such as an empty line
                self._watch(self.headers_timeout)

        def on_message_begin(self) -> None:
            """Begin a request."""
            self._coming, self._began, self._unread = "headers", self.loop.time(), 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            """Begin to answer, unless the request is parsed again."""
            if self._has_offer():
                return
            if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEADERS:
                raise HeadersTooLarge
            self._coming, self._began, self._received = "body", self.loop.time(), 0
            super().on_headers_complete()
            if self._is_last and not self._is_websocket():
                self.cycle.keep_alive = False

        def on_body(self, body: bytes) -> None:
            """Take in a part of the body."""
            self._unread = 0
            self._received += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            """End the request's body, unless the request is parsed again."""
            if not self._has_offer() and not self._is_websocket():
                self._coming, self._unread = "nothing", 0
                super().on_message_complete()

        def _watch(self, seconds: float) -> None:
            self._timer = self.loop.call_later(seconds, self._check_progress)

        def _stop_watching(self) -> None:
            if self._timer:
                self._timer.cancel()
                self._timer = None

        def _check_progress(self) -> None:
            """End the connection if the rest of its request has not come in time."""
            now, self._timer = self.loop.time(), None
            if self._coming == "nothing" and self._is_answering():
                return
            if self._coming == "body" and self.flow.read_paused:  # the server does not read on
                self._began = now
            due = self._began + (
                min(self.body_timeout + self._received / BYTES_PER_SECOND, LONGEST_BODY)
                if self._coming == "body"
                else self.headers_timeout
            )
            if now < due and not self._is_one_too_many:
                self._watch(due - now)
            elif self._coming == "nothing":  # a browser that has connected ahead would show an error
                self.transport.close()
            else:
                self._refuse(TOO_SLOW)

        def _is_answering(self) -> bool:
            cycle: RequestResponseCycle | None = self.cycle  # none before the first request
            return cycle is not None and not cycle.response_complete

        def _refuse(self, response: bytes) -> None:
            """End the connection, with a response if none has begun."""
            if not self.transport.is_closing():
                if not self._is_answering() or not self.cycle.response_started:
                    self.transport.write(response)
                self.transport.close()

        def _log_refusals(self, most: int) -> None:
            now = time.monotonic()
            if now - HttpProtocol._logged_at > LOG_PAUSE:
                HttpProtocol._logged_at = now
                log.warning("More than %d connections: further ones get 503. See `ulimit -n`.", most)

        def _has_offer(self) -> bool:
            """Whether the request offers a protocol that is ignored."""
            is_offer = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
            return is_offer and not self._is_websocket()

        def _is_websocket(self) -> bool:
            return bool(self.parser.should_upgrade() and self._should_upgrade())

        def _should_upgrade(self) -> bool:
            """Whether the request opens a WebSocket: others that offer one are answered (RFC 6455, 4.1)."""
            is_handshake = self.parser.get_method() == b"GET" and b"sec-websocket-key" in dict(self.headers)
            return is_handshake and super()._should_upgrade()

        def _offer_in(self, data: memoryview) -> int | None:
            """Parse, and return where the headers of a request with an offer end, at which the parser stops."""
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                position: int = offer.args[0]
                return position
            return None

        def _headers_without_offer(self) -> bytes:
            version = self.parser.get_http_version().encode()
            headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            first = b" ".join([self.parser.get_method(), self.url, b"HTTP/" + version])
            return b"\r\n".join([first, *headers, b"", b""])

    SPEAKING = {"http": HttpProtocol, **EITHER}
