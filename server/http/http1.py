"""HTTP/1.1 for uvicorn, with requests that offer HTTP/2 answered in full.

Clients may offer another protocol with a request: every JDK's HttpClient and `curl --http2` offer HTTP/2 by
`Upgrade: h2c`. A server that does not accept the offer must ignore it (RFC 9110, 7.8). uvicorn's fast parser drops such
a request's body instead.
"""

from typing import Any

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # not available on Windows; uvicorn's slower parser keeps the body
    SPEAKING: dict[str, Any] = {"http": "h11", "ws": "none"}
else:

    class HttpProtocol(HttpToolsProtocol):
        """uvicorn's protocol, which ignores offers of another one.

        The parser ends a request with an offer after its headers, without its body. So such a request is parsed twice:
        its headers with the offer, whose result is dropped, then again without it, followed by the body.
        """

        def data_received(self, data: bytes) -> None:
            """Parse what has come."""
            self._unset_keepalive_if_required()
            unread = memoryview(data)
            try:
                while (end_of_headers := self._offer_in(unread)) is not None:
                    self.parser.feed_data(self._headers_without_offer())
                    unread = unread[end_of_headers:]
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")

        def on_headers_complete(self) -> None:
            """Begin to answer, unless the request is parsed again."""
            if not self._has_offer():
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            """End the request's body, unless the request is parsed again."""
            if not self._has_offer():
                super().on_message_complete()

        def _has_offer(self) -> bool:
            return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

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

    SPEAKING = {"http": HttpProtocol, "ws": "none"}
