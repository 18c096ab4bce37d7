"""The JSON of a request's body, parsed once.

Clients cut texts at any place and may send half a character, as half a surrogate pair. Refused, it would be a 400 for
as long as it is in their history; so it is read as U+FFFD, as in the model's own text. Values that are not JSON, such
as NaN, are refused.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response

from graph.model.text import paired_surrogates
from server.errors import InvalidRequest
from server.http.complaints import NOT_JSON

# The escapes of a JSON string: both halves of a character, half of one, any other.
ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


class JsonRequest(Request):
    """A request whose body must be JSON in UTF-8, nested no deeper than 200 levels."""

    async def json(self) -> Any:
        """Return the body's value.

        Raises:
            InvalidRequest: it is not JSON.
        """
        if not hasattr(self, "_json"):
            try:
                self._json = decoded(await self.body())
            except ValueError as error:
                raise InvalidRequest(NOT_JSON) from error
        return self._json


class JsonRoute(APIRoute):
    """A route whose handler gets a `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handler


def is_json(kind: str) -> bool:
    """Say whether a Content-Type is that of JSON; its parameters, such as the charset, are ignored."""
    media_type = kind.partition(";")[0].strip().lower()
    main, _, sub = media_type.partition("/")
    return main == "application" and (sub == "json" or sub.endswith("+json"))


def decoded(body: bytes) -> Any:
    """Return the value of JSON text, with U+FFFD for half a character.

    Raises:
        ValueError: it is not JSON in UTF-8, or nested deeper than 200 levels.
    """
    body = body.removeprefix(BOM_UTF8)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return from_json(_with_whole_characters(body), allow_inf_nan=False)


def _with_whole_characters(body: bytes) -> str:
    text = paired_surrogates(body.decode(errors="surrogatepass"))
    return ESCAPE.sub(lambda escape: r"\ufffd" if escape["half"] else escape[0], text)
